"""The classifier of a running server measures like the file that it serves."""

import json

import numpy as np
import pytest
from small_data import draw_images, fer_train, write_fer2013

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from fer_build.assemble import assemble
from fer_build.release import RELEASED_ONNX
from fer_serve.server import EmbeddedTriton
from fer_training.faces import LabelledFaces
from fer_training.onnx_classifier import open_onnx, predict_onnx
from fer_training.prediction import predict_with_server


@pytest.fixture(scope="module")
def whole_server(tmp_path_factory):
    """A server of the float32 file, by the runtime with which files are measured."""
    folder = tmp_path_factory.mktemp("whole") / "repository"
    assemble(folder, RELEASED_ONNX, runtime="onnxruntime")
    with EmbeddedTriton(folder, exit_timeout_s=2) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def url(request, whole_server):
    return f"{request.param}://{whole_server.http_url if request.param == 'http' else whole_server.grpc_url}"


def test_the_server_gives_the_probabilities_of_the_file(url):
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 48), dtype=np.uint8)
    plain = np.stack([np.full((48, 48), gray, np.uint8) for gray in (0, 128, 255)])
    images = np.concatenate([draw_images(60), noise, plain])
    expected = predict_onnx(open_onnx(RELEASED_ONNX), images)
    assert np.ptp(expected, axis=0).max() > 0.1  # They do differ, so that a mixed-up order would show.
    np.testing.assert_allclose(
        predict_with_server(url, LabelledFaces(images, np.zeros(len(images), np.int64))), expected, rtol=0, atol=1e-6
    )


def test_the_commands_agree_on_the_server_and_the_file(capsys, tmp_path, url):
    write_fer2013(tmp_path)

    def run(*arguments):
        assert fer_train(*arguments, "--fer2013", str(tmp_path), "--json") == 0
        return json.loads(capsys.readouterr().out)

    of_file, of_server = run("evaluate", "--onnx", RELEASED_ONNX), run("evaluate", "--server", url)
    assert of_server["images"] == 14
    assert of_server["confusion"] == of_file["confusion"]
    assert of_server["nll"] == pytest.approx(of_file["nll"], abs=1e-6)
    assert of_server["ece"] == pytest.approx(of_file["ece"], abs=1e-6)

    difference = run("compare", RELEASED_ONNX, url)
    assert (difference["agreement"], difference["broken"], difference["fixed"]) == (1, 0, 0)
    assert difference["largest_difference"] < 1e-6
