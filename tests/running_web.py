"""`fer-web` in a thread, behind a real socket, with a model server that is made up."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from fer_client import Box, CroppedPrediction, Face, ImageSize, Landmarks, Point, Prediction, QualityBound, ServerInfo
from fer_web.app import make_app
from fer_web.server import Listener, configure, open_socket
from fer_web.settings import Limits, Settings

LABELS = ("angry", "happy", "neutral")


def face(x: float, side_px: float, happy: float, reasons: tuple[str, ...] = ()) -> Face:
    points = Landmarks(*(Point(x + i, 10.0 + i) for i in range(5)))
    probabilities = {"angry": (1 - happy) / 2, "happy": happy, "neutral": (1 - happy) / 2}
    quality = {"eye_distance_px": side_px / 3}
    return Face(Box(x, 5, x + side_px, 5 + side_px), points, 0.9, probabilities, bool(reasons), reasons, quality)


FACES = (face(100, 80, 0.9), face(10, 40, 0.7), face(60, 12, 0.4, ("too small", "low confidence")))


class FakeClient:
    """Stands for AsyncFerClient: it waits for N seconds at a picture `slowN`, and finds three faces in each."""

    def __init__(self, version="v1", errors=None):
        self.version, self.errors = version, errors or {}
        self.asked, self.cancelled, self.health_checks, self.closed = [], 0, 0, 0
        self.most, self.now = 0, 0

    async def predict(self, image):
        self.asked.append(image)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if image.startswith(b"slow"):
                await asyncio.sleep(float(image[4:] or 30))
            if image in self.errors:
                raise self.errors[image]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
        return Prediction(ImageSize(200, 100), FACES, self.version, 2)

    async def predict_cropped(self, image):
        return CroppedPrediction(ImageSize(48, 48), FACES[0].probabilities, False, self.version)

    async def check_health(self):
        self.health_checks += 1
        if b"health" in self.errors:
            raise self.errors[b"health"]

    async def model_version(self):
        return self.version

    async def describe(self):
        bound = (QualityBound.parse("eye_distance_px:8::too small"),)
        return ServerInfo(
            "http://secret", "triton", "2.51", (), (), LABELS, self.version, 0.5, ("eye_distance_px",), bound, 1000, 50
        )

    async def close(self):
        self.closed += 1

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()


class RunningWeb:
    """One that answers."""

    def __init__(self, port: int, client: FakeClient | None) -> None:
        self.port, self.client = port, client
        self.url = f"http://127.0.0.1:{port}"

    def send(self, data: bytes, wait_s: float = 10) -> bytes:
        """What comes back for some bytes, until the connection is closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as connection:
            connection.sendall(data)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return answer


@contextmanager
def running_web(
    settings: Settings | None = None, client: FakeClient | None = None, listener: Listener | None = None, **limits
) -> Iterator[RunningWeb]:
    """Serves until the block ends. Without a client the model server of the settings is asked."""
    settings = settings or Settings("http://127.0.0.1:9", Limits(**limits))
    app = make_app(settings, None if client is None else lambda: client)
    listener = listener or Listener(port=0)
    server = uvicorn.Server(configure(app, listener, settings.limits))
    with open_socket(listener) as opened:
        port = opened.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield RunningWeb(port, client)
        finally:
            deadline = time.monotonic() + 0.2
            while server.server_state.connections and time.monotonic() < deadline:  # asyncio complains of open ones.
                time.sleep(0.01)
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def wait_until(condition, timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
