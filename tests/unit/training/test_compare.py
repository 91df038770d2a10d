"""Paired comparison of two classifiers."""

import json
from itertools import product

import numpy as np
import pytest
from small_data import closed_address, fer_train, write_fer2013

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from fer_build.release import RELEASED_ONNX
from fer_client import ServerUnreachableError
from fer_training.compare import compare_predictions, mcnemar_p_value
from fer_training.errors import CheckpointError, DataError, ModelFileError
from fer_training.faces import LabelledFaces
from fer_training.prediction import predict

FACES = LabelledFaces(np.zeros((2, 48, 48), np.uint8), np.array([0, 1]))


def one_hot_like(classes: list[int], confidence: float = 0.7) -> np.ndarray:
    probabilities = np.full((len(classes), 7), (1 - confidence) / 6)
    probabilities[np.arange(len(classes)), classes] = confidence
    return probabilities


@pytest.fixture(scope="module")
def small_fer2013(tmp_path_factory):
    return write_fer2013(tmp_path_factory.mktemp("fer2013"))


def test_a_comparison_agrees_with_a_calculation_by_hand():
    labels = np.array([0, 0, 1, 1, 2])
    a, b = one_hot_like([0, 1, 1, 3, 4]), one_hot_like([1, 0, 1, 1, 5])
    found = compare_predictions(a, b, labels)
    assert (found.images, found.accuracy_a, found.accuracy_b) == (5, 0.4, 0.6)
    assert found.accuracy_difference == pytest.approx(0.2)
    assert (found.broken, found.fixed) == (1, 2)
    assert found.mcnemar_p == 1
    assert found.agreement == 0.2  # The third image; the last is wrong in two different ways.
    # one image to the right label and one from it cancel; one more to it: from 0.05 to 0.7
    assert found.nll_difference == pytest.approx((np.log(0.05) - np.log(0.7)) / 5)
    assert found.nll_b - found.nll_a == pytest.approx(found.nll_difference)
    assert found.largest_difference == pytest.approx(0.65)
    assert found.mean_difference == pytest.approx(4 * 2 * 0.65 / 35)
    flips = {name: (one.images, one.broken, one.fixed) for name, one in found.classes.items() if one.images}
    assert flips == {"angry": (2, 1, 1), "disgust": (2, 0, 1), "fear": (1, 0, 0)}


def test_a_classifier_compared_with_itself_differs_in_nothing():
    a = one_hot_like([0, 1, 2, 3])
    found = compare_predictions(a, a, np.array([0, 1, 1, 1]))
    assert (found.accuracy_difference, found.accuracy_difference_95) == (0, (0, 0))
    assert (found.nll_difference_95, found.largest_difference, found.mean_difference) == ((0, 0), 0, 0)
    assert (found.agreement, found.mcnemar_p) == (1, 1)


def test_swapping_the_two_turns_every_sign():
    rng = np.random.default_rng(0)
    a, b = rng.dirichlet(np.ones(7), 200), rng.dirichlet(np.ones(7), 200)
    labels = rng.integers(0, 7, 200)
    forth, back = compare_predictions(a, b, labels), compare_predictions(b, a, labels)
    assert back.accuracy_difference == -forth.accuracy_difference
    assert back.accuracy_difference_95 == pytest.approx(
        (-forth.accuracy_difference_95[1], -forth.accuracy_difference_95[0])
    )
    assert (back.broken, back.fixed, back.mcnemar_p) == (forth.fixed, forth.broken, forth.mcnemar_p)
    assert compare_predictions(a, b, labels) == forth


def test_the_interval_is_of_the_paired_difference_not_of_two_accuracies():
    # Of 1,000 images both get 560 right, A 30 more, B 10 others: the difference d has the variance (40 / N - d^2) / N.
    labels = np.zeros(1000, dtype=np.int64)
    a, b = np.arange(1000) >= 400, np.arange(1000) >= 400
    a[400:410], b[410:440] = False, False
    found = compare_predictions(one_hot_like((~a).astype(int)), one_hot_like((~b).astype(int)), labels)
    assert found.accuracy_difference == pytest.approx(-0.02)
    half_width = 1.96 * np.sqrt((0.04 - 0.02**2) / 1000)
    assert found.accuracy_difference_95 == pytest.approx((-0.02 - half_width, -0.02 + half_width), abs=1.5e-3)
    assert 0 < found.nll_difference_95[0] < found.nll_difference < found.nll_difference_95[1]
    assert half_width < 0.4 * 1.96 * np.sqrt(2 * 0.6 * 0.4 / 1000)  # What unpaired accuracies would give.


def test_other_classes_are_compared_under_their_names():
    found = compare_predictions(np.array([[0.9, 0.1]]), np.array([[0.4, 0.6]]), np.array([1]), ("calm", "excited"))
    assert (found.classes["calm"].fixed, found.classes["excited"].fixed) == (0, 1)


def test_probabilities_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 7\) and \(1, 7\): expected \(2, 7\) for both"):
        compare_predictions(one_hot_like([0, 1]), one_hot_like([0]), np.array([0, 1]))


@pytest.mark.parametrize(
    ("broken", "fixed", "p_value"),
    [
        (0, 0, 1),
        (0, 1, 1),
        (0, 6, 2 / 64),
        (1, 9, 2 * (1 + 10) / 1024),
        (6, 16, 0.05247879),  # As R's binom.test(6, 22) says.
        (86, 150, 3.716e-05),  # Approval of a prime minister, Agresti 1990; as R's mcnemar.exact says.
        (5, 5, 1),
    ],
)
def test_mcnemars_p_value_is_the_exact_one(broken, fixed, p_value):
    assert mcnemar_p_value(broken, fixed) == pytest.approx(p_value, rel=1e-4)
    assert mcnemar_p_value(fixed, broken) == mcnemar_p_value(broken, fixed)


@pytest.mark.parametrize("broken", range(11))
def test_mcnemars_p_value_counts_coin_tosses_that_are_as_uneven(broken):
    tosses = [abs(sum(sides) - 5) for sides in product((0, 1), repeat=10)]
    as_uneven = sum(toss >= abs(broken - 5) for toss in tosses)
    assert mcnemar_p_value(broken, 10 - broken) == pytest.approx(as_uneven / 1024)


def test_mcnemars_p_value_of_many_flips_does_not_overflow():
    # With so many the binomial is a normal distribution: z = 200 / sqrt(20,000), with continuity correction 199.
    assert mcnemar_p_value(9_900, 10_100) == pytest.approx(0.15939, abs=1e-4)
    assert mcnemar_p_value(0, 5_000) == 0


def test_a_model_is_known_by_its_name(tmp_path):
    with pytest.raises(ModelFileError, match="none.onnx: is not there"):
        predict(str(tmp_path / "none.onnx"), FACES)
    with pytest.raises(CheckpointError, match="none.pt: cannot be read"):
        predict(str(tmp_path / "none.pt"), FACES)
    with (
        closed_address() as address,
        pytest.raises(ServerUnreachableError, match=f"no server answers at http://{address}"),
    ):
        predict(f"http://{address}", FACES)


def test_a_model_of_other_classes_than_the_images_is_refused():
    faces = LabelledFaces(FACES.images, FACES.labels, ("calm", "excited"))
    with pytest.raises(DataError, match=r"tells apart angry, .*neutral, but the images are labelled calm, excited"):
        predict(str(RELEASED_ONNX), faces)


def run(*arguments: object) -> int:
    return fer_train("compare", *arguments)


def test_the_command_prints_a_table_or_json(capsys, small_fer2013):
    assert run(RELEASED_ONNX, RELEASED_ONNX, "--fer2013", small_fer2013) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "PublicTest: 14 images"
    assert "difference         +0.00 points  (95 % interval +0.00 to +0.00)" in lines
    assert [line.split()[0] for line in lines[-7:]] == [
        "angry",
        "disgust",
        "fear",
        "happy",
        "sad",
        "surprise",
        "neutral",
    ]

    assert run(RELEASED_ONNX, RELEASED_ONNX, "--fer2013", small_fer2013, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], document["agreement"], document["usage"]) == (14, 1, "PublicTest")
    assert document["a"] == str(RELEASED_ONNX)


def test_a_server_that_is_not_there_is_one_line_and_exit_code_3(capsys, small_fer2013):
    with closed_address() as address:
        assert run(RELEASED_ONNX, f"grpc://{address}", "--fer2013", small_fer2013) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fer-train compare: no server answers at grpc://{address}")
