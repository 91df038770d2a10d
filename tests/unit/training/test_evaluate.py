"""The evaluation of probabilities, and the command around it."""

import csv
import json

import numpy as np
import pytest
from small_data import closed_address, draw_images, fer_train, write_fer2013

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from fer_build.release import RELEASED_ONNX
from fer_contract import LABELS
from fer_training.errors import DataError
from fer_training.evaluate import evaluate, evaluate_onnx, format_figures
from fer_training.faces import LabelledFaces
from fer_training.metrics import compute_figures
from fer_training.onnx_classifier import open_onnx, predict_onnx
from fer_training.prediction import predict_with_onnx
from fer_training.temperature import recommend_threshold


@pytest.fixture(scope="module")
def small_fer2013(tmp_path_factory):
    return write_fer2013(tmp_path_factory.mktemp("fer2013"))


@pytest.fixture
def faces():
    """70 faces, of which the first ten are known from elsewhere."""
    labels = np.arange(70) % 7
    return LabelledFaces(np.zeros((70, 48, 48), np.uint8), labels, seen_elsewhere=np.arange(70) < 10)


@pytest.fixture
def probabilities(faces):
    """Right on the ten faces known from elsewhere and on half of the others."""
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(7), 70) * 0.3
    values[np.arange(70), np.where((np.arange(70) < 10) | (rng.random(70) < 0.5), faces.labels, 6)] += 0.7
    return values


def run(*arguments: object) -> int:
    return fer_train("evaluate", *arguments)


def test_an_evaluation_holds_the_figures_the_threshold_and_the_figures_without_known_images(probabilities, faces):
    found = evaluate(probabilities, faces)
    figures = compute_figures(probabilities, faces.labels)
    assert {name: getattr(found, name) for name in vars(figures)} == vars(figures)
    assert found.uncertain == recommend_threshold(probabilities, faces.labels)
    assert found.without_seen_elsewhere == compute_figures(probabilities[10:], faces.labels[10:])
    assert found.without_seen_elsewhere.images == 60
    assert found.without_seen_elsewhere.accuracy < found.accuracy


@pytest.mark.parametrize("seen", [None, False, True], ids=["not known", "none", "all"])
def test_without_some_known_images_there_are_no_figures_without_them(probabilities, faces, seen):
    mask = None if seen is None else np.full(70, seen)
    assert (
        evaluate(probabilities, LabelledFaces(faces.images, faces.labels, seen_elsewhere=mask)).without_seen_elsewhere
        is None
    )


def test_the_classes_are_those_of_the_faces():
    faces = LabelledFaces(np.zeros((2, 48, 48), np.uint8), np.array([0, 1]), ("calm", "excited"))
    found = evaluate(np.array([[0.9, 0.1], [0.2, 0.8]]), faces)
    assert list(found.classes) == ["calm", "excited"]
    with pytest.raises(DataError, match=r"tells apart angry, .* but the images are labelled calm, excited"):
        predict_with_onnx(RELEASED_ONNX, faces)


def test_the_text_says_what_the_figures_say(probabilities, faces):
    found = evaluate(probabilities, faces)
    text = format_figures(found, "PublicTest")
    assert text.startswith("PublicTest: 70 images\n")
    for expected in (
        f"accuracy           {found.accuracy:.2%}  (95 % interval {found.accuracy_95[0]:.2%} to",
        f"NLL                {found.nll:.4f}  ({found.nll_95[0]:.4f} to {found.nll_95[1]:.4f})",
        f"from a confidence of {found.uncertain.threshold:.3f} on, which {found.uncertain.coverage:.2%} of the images",
        "without the 10 images that are also in another evaluation split: "
        f"accuracy {found.without_seen_elsewhere.accuracy:.2%} (",
    ):
        assert expected in text
    assert [line.split()[0] for line in text.splitlines()[-7:]] == list(LABELS)


def test_the_text_says_when_no_threshold_reaches_the_target(faces):
    found = evaluate(np.tile([0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], (70, 1)), faces)
    assert "80% right          at no confidence" in format_figures(found, "PublicTest").splitlines()


def test_a_file_is_evaluated_as_it_answers():
    images = draw_images(14)
    faces = LabelledFaces(images, np.arange(14) % 7)
    expected = compute_figures(predict_onnx(open_onnx(RELEASED_ONNX), images), faces.labels)
    found = evaluate_onnx(RELEASED_ONNX, faces)
    assert (found.nll, found.confusion) == (expected.nll, expected.confusion)


def test_the_command_writes_everything(capsys, tmp_path, small_fer2013):
    pytest.importorskip("matplotlib")
    plots, predictions = tmp_path / "new" / "plots", tmp_path / "predictions.csv"
    outputs = ["--json", "--plots", plots, "--predictions", predictions]
    assert run("--onnx", RELEASED_ONNX, "--fer2013", small_fer2013, *outputs) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["usage"], document["images"], np.sum(document["confusion"])) == ("PublicTest", 14, 14)
    assert len(document["accuracy_95"]) == len(document["macro_f1_95"]) == 2
    assert document["uncertain"]["target_accuracy"] == 0.8
    assert document["without_seen_elsewhere"]["images"] == 13  # The first image is a PrivateTest row too.
    assert sorted(path.name for path in plots.iterdir()) == ["confusion.png", "reliability.png", "risk_coverage.png"]

    with predictions.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = predict_onnx(open_onnx(RELEASED_ONNX), draw_images(14))
    assert list(rows[0]) == ["row", "label", "predicted", "confidence", *(f"p_{name}" for name in LABELS)]
    assert [(row["row"], row["label"]) for row in rows] == [(str(row), LABELS[row % 7]) for row in range(14)]
    written = np.array([[float(row[f"p_{name}"]) for name in LABELS] for row in rows])
    np.testing.assert_allclose(written, expected, atol=1e-6)
    assert [row["predicted"] for row in rows] == [LABELS[index] for index in expected.argmax(axis=1)]
    assert [float(row["confidence"]) for row in rows] == written.max(axis=1).tolist()


def test_a_server_that_is_not_there_is_one_line_and_exit_code_3(capsys, small_fer2013):
    with closed_address() as address:
        assert run("--server", address, "--fer2013", small_fer2013) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fer-train evaluate: no server answers at http://{address}: start one with `fer-serve`")


def test_a_url_that_is_none_is_refused_before_anything_is_read(capsys):
    with pytest.raises(SystemExit) as raised:
        run("--server", "ftp://localhost", "--fer2013", "nowhere")
    assert raised.value.code == 2
    assert "URL 'ftp://localhost' has the scheme 'ftp'" in capsys.readouterr().err


def test_plots_without_matplotlib_are_refused_at_once_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("fer_training.plots.find_spec", lambda name: None)
    assert run("--onnx", "none.onnx", "--fer2013", tmp_path, "--plots", tmp_path / "plots") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "fer-train evaluate: plots need matplotlib, which is not installed: pip install 'fer-triton[train]'"
    )


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_code_2(capsys, tmp_path, small_fer2013):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    arguments = ["--onnx", RELEASED_ONNX, "--fer2013", small_fer2013, "--plots", tmp_path / "file" / "plots"]
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Not a directory" in line
