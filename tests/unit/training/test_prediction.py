"""Faces sent to a server: a stand-in over HTTP that does what a healthy Triton would not on request.

That the real one gives the numbers of the ONNX file is tested in `tests/integration/test_evaluate_server.py`.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from small_data import draw_images

from fer_client import ContractError, ImageRefusedError, ServerOverloadedError
from fer_contract import LABELS
from fer_training.faces import LabelledFaces
from fer_training.prediction import RETRIES, predict_with_server


class Stand(BaseHTTPRequestHandler):
    """Answers each face with its mean gray in the first column, and does what the settings below tell it to."""

    protocol_version = "HTTP/1.1"
    labels = ",".join(LABELS)
    columns = 7
    """Of the answers, whatever the configuration says."""
    refusals: list[int]
    """Statuses to answer faces with, from the last on, before the first real answer."""
    asked: list[str]

    def do_GET(self) -> None:
        columns = len(self.labels.split(","))
        parameters = {"labels": {"string_value": self.labels}, "model_version": {"string_value": "fake-1"}}
        image = {"name": "IMAGE", "data_type": "TYPE_STRING", "dims": [1]}
        outputs = [
            {"name": "IMAGE_SIZE", "data_type": "TYPE_INT32", "dims": [2]},
            {"name": "PROBABILITIES", "data_type": "TYPE_FP32", "dims": [1, columns]},
        ]
        self.reply(200, {"name": "fer_cropped", "input": [image], "output": outputs, "parameters": parameters})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        if self.refusals:
            self.reply(self.refusals.pop(), {"error": "as told"})
            return
        face = Image.open(BytesIO(body[int(self.headers["Inference-Header-Content-Length"]) + 4 :]))
        values = [float(np.asarray(face).mean())] + [0.0] * (self.columns - 1)
        size = {"name": "IMAGE_SIZE", "datatype": "INT32", "shape": [2], "data": [48, 48]}
        tensor = {"name": "PROBABILITIES", "datatype": "FP32", "shape": [1, self.columns], "data": values}
        self.reply(200, {"model_name": "fer_cropped", "outputs": [size, tensor]})

    def reply(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def stand():
    """The settings of a stand-in that listens at `stand.url`."""
    settings = type("Settings", (Stand,), {"refusals": [], "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), settings) as server:
        server.daemon_threads = True
        settings.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield settings
        server.shutdown()


def predict_served(url: str, images: np.ndarray) -> np.ndarray:
    return predict_with_server(url, LabelledFaces(images, np.zeros(len(images), np.int64)))


def test_answers_come_back_in_the_order_of_the_images(stand):
    images = draw_images(60)
    probabilities = predict_served(stand.url, images)
    assert (probabilities.shape, probabilities.dtype) == ((60, 7), np.float32)
    np.testing.assert_allclose(probabilities[:, 0], images.mean(axis=(1, 2)), rtol=1e-6)
    assert set(stand.asked) == {"/v2/models/fer_cropped/infer"}
    assert len(stand.asked) == 60


def test_an_overloaded_server_is_asked_again(stand, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: low)  # Of the pauses.
    stand.refusals += [503] * 4
    images = draw_images(3)
    np.testing.assert_allclose(predict_served(stand.url, images)[:, 0], images.mean(axis=(1, 2)), rtol=1e-6)
    assert len(stand.asked) == 7


def test_a_server_that_stays_overloaded_is_given_up(stand, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: low)  # Of the pauses.
    stand.refusals += [503] * 1000
    with pytest.raises(ServerOverloadedError, match="try again a little later"):
        predict_served(stand.url, draw_images(1))
    assert len(stand.asked) == 1 + RETRIES


def test_after_a_refusal_nothing_more_is_sent(stand):
    stand.refusals += [400] * 1000
    with pytest.raises(ImageRefusedError, match="as told"):
        predict_served(stand.url, np.zeros((500, 48, 48), np.uint8))
    assert len(stand.asked) < 100


def test_a_server_of_other_labels_is_refused(stand):
    stand.labels = "a,b,c,d,e,f,g"
    with pytest.raises(ContractError, match="labels of 'fer_cropped' are a,b,c,d,e,f,g, expected angry,disgust"):
        predict_served(stand.url, draw_images(1))


def test_an_answer_of_another_shape_is_refused(stand):
    stand.columns = 8
    with pytest.raises(ContractError, match=r"PROBABILITIES has the shape \[1, 8\], expected \[1, 7\]"):
        predict_served(stand.url, draw_images(1))


def test_a_url_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'ftp://localhost' has the scheme 'ftp'"):
        predict_served("ftp://localhost", draw_images(1))
