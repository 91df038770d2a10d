import numpy as np
import pytest

from fer_training.metrics import (
    BOOTSTRAP_SEED,
    RESAMPLES,
    bootstrap_interval,
    calibration_bins,
    calibration_interval,
    classwise_calibration_error,
    compute_figures,
    draw_resamples,
    expected_calibration_error,
    negative_log_likelihood,
    resampled_sums,
    risk_coverage_curve,
)

RNG_SEED = 7


def one_hot_like(classes: list[int], confidence: float) -> np.ndarray:
    """Probabilities that give `confidence` to one class and share the rest."""
    probabilities = np.full((len(classes), 7), (1 - confidence) / 6)
    probabilities[np.arange(len(classes)), classes] = confidence
    return probabilities


def test_figures_agree_with_a_calculation_by_hand():
    # label:     0 0 0 1 1 2          class 0: precision 2/3, recall 2/3, F1 2/3
    # predicted: 0 0 1 1 0 2          class 1: precision 1/2, recall 1/2, F1 1/2; class 2: all 1; the others absent
    figures = compute_figures(one_hot_like([0, 0, 1, 1, 0, 2], 0.7), np.array([0, 0, 0, 1, 1, 2]))
    assert figures.images == 6
    assert figures.accuracy == pytest.approx(4 / 6)
    assert figures.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert figures.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 1) / 7)
    angry, disgust = figures.classes["angry"], figures.classes["disgust"]
    assert (angry.images, angry.precision, angry.recall, angry.f1) == pytest.approx((3, 2 / 3, 2 / 3, 2 / 3))
    assert (disgust.images, disgust.precision, disgust.recall, disgust.f1) == pytest.approx((2, 0.5, 0.5, 0.5))
    assert figures.classes["neutral"].f1 == 0
    # four right at 0.7, two wrong where the label has 0.05
    assert figures.nll == pytest.approx(-(4 * np.log(0.7) + 2 * np.log(0.05)) / 6)
    # all in one bin: confidence 0.7, accuracy 4/6
    assert figures.ece == pytest.approx(0.7 - 4 / 6)


def test_calibration_error_weighs_each_bin_by_its_images():
    # two images at 0.9, one right: gap 0.4; two at 0.5, both right: gap 0.5
    probabilities = np.concatenate([one_hot_like([0, 0], 0.9), one_hot_like([1, 1], 0.5)])
    error = expected_calibration_error(probabilities, np.array([0, 3, 1, 1]))
    assert error == pytest.approx((2 * 0.4 + 2 * 0.5) / 4)


def test_probabilities_that_are_right_as_often_as_they_say_have_no_calibration_error():
    labels = np.array([0] * 8 + [1] * 2)
    assert expected_calibration_error(one_hot_like([0] * 10, 0.8), labels) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(one_hot_like([0] * 4, 1.0), np.zeros(4, dtype=np.int64)) == 0


def test_a_certain_and_wrong_answer_costs_much_but_not_infinitely():
    assert 80 < negative_log_likelihood(one_hot_like([0], 1.0), np.array([1])) < 100


def test_the_bootstrap_interval_is_the_binomial_one():
    low, high = bootstrap_interval(0.65, 3589)
    half_width = 1.96 * np.sqrt(0.65 * 0.35 / 3589)
    assert low == pytest.approx(0.65 - half_width, abs=1e-3)
    assert high == pytest.approx(0.65 + half_width, abs=1e-3)
    assert bootstrap_interval(0.65, 3589) == (low, high)


def draw_answers(images: int, exaggeration: float = 1.0, seed: int = RNG_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (images, 7) and labels; without exaggeration, labels occur as often as the probabilities say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (images, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) > rng.random((images, 1))).argmax(axis=1)
    exaggerated = probabilities**exaggeration
    return exaggerated / exaggerated.sum(axis=1, keepdims=True), labels


def test_the_confusion_matrix_has_labels_in_rows_and_answers_in_columns():
    # two happy faces, one taken for sad; one sad face taken for neutral
    figures = compute_figures(one_hot_like([3, 4, 6], 0.9), np.array([3, 3, 4]))
    expected = np.zeros((7, 7), dtype=int)
    expected[3, 3] = expected[3, 4] = expected[4, 6] = 1
    assert np.array(figures.confusion).tolist() == expected.tolist()


def test_other_classes_than_the_contracts_are_measured_too():
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]])
    figures = compute_figures(probabilities, np.array([0, 1, 1, 0]), ("calm", "excited"))
    assert figures.confusion == ((2, 0), (1, 1))
    assert (figures.classes["calm"].precision, figures.classes["calm"].recall) == (pytest.approx(2 / 3), 1)
    assert figures.classes["excited"].f1 == pytest.approx(2 / 3)
    assert figures.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.full((2, 6), 1 / 6), np.array([0, 1])),
        (np.full((2, 7), 1 / 7), np.array([0])),
        (np.ones((0, 7)), np.array([])),
    ],
    ids=["six columns", "one label for two", "no images"],
)
def test_probabilities_of_another_shape_are_refused(probabilities, labels):
    with pytest.raises(ValueError, match=rf"expected \({len(labels)}, 7\)"):
        compute_figures(probabilities, labels)


def test_resamples_draw_as_many_images_as_there_are_and_are_always_the_same():
    first, again = (np.concatenate(list(draw_resamples(1000))) for _ in range(2))
    assert first.shape == (RESAMPLES, 1000)
    assert (first.sum(axis=1) == 1000).all()
    assert (first == again).all()
    assert first[0].tolist() != first[1].tolist()
    # Of N images drawn N times, a part of 1 - 1/e comes up at all.
    assert (first > 0).mean() == pytest.approx(1 - 1 / np.e, abs=0.002)


def test_resampling_in_portions_changes_nothing(monkeypatch):
    values = np.random.default_rng(0).normal(size=(50, 2))
    whole = resampled_sums(values)
    monkeypatch.setattr("fer_training.metrics.RESAMPLED_AT_ONCE", 170)
    assert resampled_sums(values).shape == (RESAMPLES, 2)
    np.testing.assert_allclose(resampled_sums(values), whole)


def test_columns_are_summed_over_the_same_images():
    values = np.random.default_rng(0).normal(size=(40, 1))
    sums = resampled_sums(np.hstack([values, 2 * values + 1]))
    np.testing.assert_allclose(sums[:, 1], 2 * sums[:, 0] + 40)


def test_the_interval_of_a_mean_is_the_normal_one():
    probabilities, labels = draw_answers(2000)
    figures = compute_figures(probabilities, labels)
    losses = -np.log(probabilities[np.arange(2000), labels])
    half_width = 1.96 * losses.std() / np.sqrt(2000)
    assert figures.nll_95 == pytest.approx((figures.nll - half_width, figures.nll + half_width), abs=0.1 * half_width)


def test_intervals_of_class_figures_agree_with_a_loop_over_resamples():
    probabilities, labels = draw_answers(300)
    figures = compute_figures(probabilities, labels)
    rng = np.random.default_rng(BOOTSTRAP_SEED + 1)  # Other images: the interval must not depend on them by much.
    samples = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(300, size=300)
        predicted, actual = probabilities[drawn].argmax(axis=1), labels[drawn]
        hits = [((predicted == c) & (actual == c)).sum() for c in range(7)]
        recalls = [hit / (actual == c).sum() for c, hit in enumerate(hits)]
        f1s = [2 * hit / ((predicted == c).sum() + (actual == c).sum()) for c, hit in enumerate(hits)]
        samples.append((np.mean(recalls), np.mean(f1s)))
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    assert figures.balanced_accuracy_95 == pytest.approx((low[0], high[0]), abs=0.006)
    assert figures.macro_f1_95 == pytest.approx((low[1], high[1]), abs=0.006)


def test_resamples_without_a_rare_class_count_the_present_ones():
    probabilities = one_hot_like([0] * 30 + [1], 0.9)
    figures = compute_figures(probabilities, np.array([0] * 30 + [1]))
    assert figures.balanced_accuracy_95 == (1, 1)


def test_a_calibrated_classifier_may_have_no_calibration_error():
    figures = compute_figures(*draw_answers(3000))
    assert figures.ece_95[0] == 0 < figures.ece <= figures.ece_95[1]
    assert figures.ece_of_calibrated == pytest.approx(figures.ece, rel=0.6)


def test_an_exaggerating_classifier_certainly_has_a_calibration_error():
    probabilities, labels = draw_answers(3000, exaggeration=2.0)
    # What it would be on endless images: answers are right as often as the truth behind them says.
    many, truth = draw_answers(400_000, exaggeration=2.0, seed=1)
    true_error = expected_calibration_error(many, truth)
    (low, high), by_chance = calibration_interval(probabilities, labels)
    assert 3 * by_chance < low < true_error < high
    assert high - low < 0.05


def test_calibration_bins_add_up_to_the_calibration_error():
    probabilities, labels = draw_answers(500, exaggeration=1.5)
    bins = calibration_bins(probabilities, labels)
    assert bins.images.sum() == 500
    assert bins.images @ bins.accuracy == pytest.approx((probabilities.argmax(axis=1) == labels).sum())
    gaps = bins.images * np.abs(bins.confidence - bins.accuracy)
    assert gaps.sum() / 500 == pytest.approx(expected_calibration_error(probabilities, labels))


def test_classwise_calibration_error_looks_at_columns_that_are_no_answer():
    # Always right, so the answer's column is off by 0.3 and the six others by 0.05, where 0 would be right.
    probabilities = one_hot_like([0, 0], 0.7)
    assert expected_calibration_error(probabilities, np.array([0, 0])) == pytest.approx(0.3)
    assert classwise_calibration_error(probabilities, np.array([0, 0])) == pytest.approx((0.3 + 6 * 0.05) / 7)


def test_the_risk_coverage_curve_agrees_with_a_calculation_by_hand():
    # surest first: right, wrong, right, wrong
    probabilities = np.concatenate([one_hot_like([0], confidence) for confidence in (0.5, 0.9, 0.6, 0.8)])
    confidence, accuracy = risk_coverage_curve(probabilities, np.array([1, 0, 0, 1]))
    assert confidence.tolist() == pytest.approx([0.9, 0.8, 0.6, 0.5])
    assert accuracy.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    figures = compute_figures(probabilities, np.array([1, 0, 0, 1]))
    assert figures.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    half, last = figures.selective[0], figures.selective[-1]
    assert (half.coverage, half.confidence, half.accuracy) == pytest.approx((0.5, 0.8, 0.5))
    assert (last.coverage, last.confidence, last.accuracy) == pytest.approx((1, 0.5, figures.accuracy))


def test_equally_sure_answers_have_the_same_accuracy_at_every_coverage_in_any_order():
    probabilities = one_hot_like([0, 0, 0, 0], 0.7)
    for labels in ([0, 1, 1, 1], [1, 1, 1, 0]):
        assert risk_coverage_curve(probabilities, np.array(labels))[1].tolist() == pytest.approx([0.25] * 4)
        assert compute_figures(probabilities, np.array(labels)).aurc == pytest.approx(0.75)


def test_the_order_of_the_images_plays_no_part_in_risk_and_coverage():
    probabilities, labels = draw_answers(400)
    probabilities = probabilities.round(1)  # Many are equally sure.
    order = np.random.default_rng(0).permutation(400)
    for values, shuffled in zip(
        risk_coverage_curve(probabilities, labels),
        risk_coverage_curve(probabilities[order], labels[order]),
        strict=True,
    ):
        np.testing.assert_allclose(values, shuffled)


def test_confidence_that_ranks_perfectly_makes_accuracy_fall_with_coverage_and_any_other_ranking_is_worse():
    correct = np.arange(100) < 60
    labels = np.where(correct, 0, 1)
    ranked = np.concatenate([one_hot_like([0], confidence) for confidence in np.linspace(0.99, 0.3, 100)])
    figures, reversed_figures = compute_figures(ranked, labels), compute_figures(ranked[::-1], labels)
    accuracies = [point.accuracy for point in figures.selective]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] == 1
    assert figures.aurc < 1 - figures.accuracy < reversed_figures.aurc


def test_figures_are_the_same_each_time():
    probabilities, labels = draw_answers(200)
    assert compute_figures(probabilities, labels) == compute_figures(probabilities, labels)
