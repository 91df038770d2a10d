"""A stand-in for Triton: a real server on the loopback, over HTTP and gRPC, that says what a test tells it to.

It shows what a healthy Triton would not on request: overload, slowness, another contract, dropped connections. What the
real one says is tested in `tests/integration`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fer_client import AsyncFerClient, FerClient

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

CONFIG = {
    "name": "fer",
    "max_batch_size": 0,
    "input": [{"name": "IMAGE", "data_type": "TYPE_STRING", "dims": [1]}],
    "output": [
        {"name": "IMAGE_SIZE", "data_type": "TYPE_INT32", "dims": [2]},
        {"name": "BOXES", "data_type": "TYPE_FP32", "dims": [-1, 4]},
        {"name": "LANDMARKS", "data_type": "TYPE_FP32", "dims": [-1, 5, 2]},
        {"name": "DETECTION_SCORES", "data_type": "TYPE_FP32", "dims": [-1]},
        {"name": "PROBABILITIES", "data_type": "TYPE_FP32", "dims": [-1, 7]},
    ],
    "parameters": {
        "labels": {"string_value": ",".join(LABELS)},
        "model_version": {"string_value": "fake-1"},
    },
}

CROPPED_CONFIG = {
    **CONFIG,
    "name": "fer_cropped",
    "output": [
        {"name": "IMAGE_SIZE", "data_type": "TYPE_INT32", "dims": [2]},
        {"name": "PROBABILITIES", "data_type": "TYPE_FP32", "dims": [1, 7]},
    ],
}

TYPES = {"INT32": np.int32, "FP32": np.float32}

ZLIB_FORMATS = {"gzip": 31, "deflate": 15}

HTTP_AND_GRPC_STATUS = {
    "invalid": (400, grpc.StatusCode.INVALID_ARGUMENT),
    "missing": (404, grpc.StatusCode.NOT_FOUND),
    "overloaded": (503, grpc.StatusCode.UNAVAILABLE),
    "failed": (500, grpc.StatusCode.INTERNAL),
    "throttled": (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "unauthenticated": (401, grpc.StatusCode.UNAUTHENTICATED),
    "forbidden": (403, grpc.StatusCode.PERMISSION_DENIED),
}


def answer_with_faces(count: int) -> dict[str, np.ndarray]:
    """Output tensors for an image of 640 x 480 px with `count` equal faces, happy with 0.7."""
    landmarks = np.array([[120, 130], [160, 130], [140, 150], [125, 170], [155, 170]], np.float32)
    probabilities = np.array([0.05, 0.05, 0.05, 0.7, 0.05, 0.05, 0.05], np.float32)
    return {
        "IMAGE_SIZE": np.array([640, 480], np.int32),
        "BOXES": np.tile(np.array([100, 100, 180, 200], np.float32), (count, 1)).reshape(count, 4),
        "LANDMARKS": np.tile(landmarks, (count, 1, 1)).reshape(count, 5, 2),
        "DETECTION_SCORES": np.full(count, 0.98, np.float32),
        "PROBABILITIES": np.tile(probabilities, (count, 1)).reshape(count, 7),
    }


@dataclass
class FakeTriton:
    """What the stand-in says, and what it was asked."""

    config: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(CONFIG))
    cropped_config: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(CROPPED_CONFIG))
    answer: dict[str, np.ndarray] = field(default_factory=lambda: answer_with_faces(1))
    refusals: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Path element (`config`, `infer`, `ready`) to a key of HTTP_AND_GRPC_STATUS and a message."""
    hiccups: list[str] = field(default_factory=list)
    """Keys of HTTP_AND_GRPC_STATUS that the next inferences are answered with, one each."""
    answered_id: str | None = None
    """Sent back as the id of each inference instead of its own, which Triton would repeat."""
    peers: list[str] = field(default_factory=list)
    """The other end of the connection of each gRPC call."""
    raw_answer: bytes | None = None
    """Sent over HTTP instead of anything else, then the connection is closed."""
    delay_s: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    asked_at_s: list[float] = field(default_factory=list)
    """When each inference was asked for, by the monotonic clock."""
    images: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request, names in lower case."""
    sockets: list[socket.socket] = field(default_factory=list)
    http_port: int = 0
    grpc_port: int = 0

    def faces(self, count: int) -> None:
        """Answer with this many faces from now on."""
        self.answer = answer_with_faces(count)

    @property
    def connections(self) -> int:
        """How many HTTP connections were opened so far."""
        return len(self.sockets)

    def hang_up(self) -> None:
        """Close all HTTP connections, as a server does that has waited long enough."""
        for connection in self.sockets:
            connection.shutdown(socket.SHUT_RDWR)

    def config_of(self, model: str) -> dict[str, Any]:
        return self.cropped_config if model == "fer_cropped" else self.config

    def answer_to(self, model: str, image: bytes) -> dict[str, np.ndarray]:
        """`fer_cropped` sees one face in everything, and places it nowhere."""
        if model != "fer_cropped":
            return self.answer
        return {name: answer_with_faces(1)[name] for name in ("IMAGE_SIZE", "PROBABILITIES")}

    def refusal(self, topic: str) -> tuple[str, str] | None:
        """Kind and message, where a request is not to be answered."""
        self.asked[topic] += 1
        if topic == "infer":
            self.asked_at_s.append(time.monotonic())
            if self.hiccups:
                return self.hiccups.pop(0), "a hiccup"
        return self.refusals.get(topic)

    def url(self, protocol: str) -> str:
        return f"{protocol}://127.0.0.1:{self.http_port if protocol == 'http' else self.grpc_port}"


class HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: FakeTriton

    def setup(self) -> None:
        super().setup()
        self.fake.sockets.append(self.connection)

    def do_GET(self) -> None:
        model = self.path.split("/")[3]
        self.reply(json.dumps(self.fake.config_of(model)).encode() if self.path.endswith("config") else b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if encoding := self.headers["Content-Encoding"]:
            body = zlib.decompress(body, ZLIB_FORMATS[encoding])
        # The tensor follows the JSON: four bytes that hold its length, then the image.
        json_length = int(self.headers["Inference-Header-Content-Length"])
        image = body[json_length + 4 :]
        answered_id = self.fake.answered_id or json.loads(body[:json_length]).get("id", "")
        self.fake.images.append(image)
        outputs = [
            {"name": name, "datatype": type_name(tensor), "shape": tensor.shape, "data": tensor.ravel().tolist()}
            for name, tensor in self.fake.answer_to(self.path.split("/")[3], image).items()
        ]
        self.reply(json.dumps({"model_name": "fer", "id": answered_id, "outputs": outputs}).encode())

    def reply(self, body: bytes) -> None:
        self.fake.headers.append({name.lower(): value for name, value in self.headers.items()})
        refusal = self.fake.refusal(self.path.rpartition("/")[2])
        time.sleep(self.fake.delay_s)
        if self.fake.raw_answer is not None:
            self.wfile.write(self.fake.raw_answer)
            self.close_connection = True
            return
        status = 200
        if refusal is not None:
            kind, message = refusal
            status, body = HTTP_AND_GRPC_STATUS[kind][0], json.dumps({"error": message}).encode()
        self.send_response(status)
        if (encoding := self.headers["Accept-Encoding"]) in ZLIB_FORMATS:
            compressor = zlib.compressobj(wbits=ZLIB_FORMATS[encoding])
            body = compressor.compress(body) + compressor.flush()
            self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: object) -> None:
        """A client that gave up waiting is part of the tests."""


class GrpcService(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, fake: FakeTriton) -> None:
        self.fake = fake

    def reply(self, topic: str, context: grpc.ServicerContext, message: Any) -> Any:
        self.fake.headers.append(dict(context.invocation_metadata()))
        self.fake.peers.append(context.peer())
        refusal = self.fake.refusal(topic)
        time.sleep(self.fake.delay_s)
        if refusal is not None:
            kind, reason = refusal
            context.abort(HTTP_AND_GRPC_STATUS[kind][1], reason)
        return message

    def ServerLive(self, request: Any, context: Any) -> Any:
        return self.reply("live", context, service_pb2.ServerLiveResponse(live=True))

    def ServerReady(self, request: Any, context: Any) -> Any:
        return self.reply("ready", context, service_pb2.ServerReadyResponse(ready=True))

    def ModelReady(self, request: Any, context: Any) -> Any:
        return self.reply("ready", context, service_pb2.ModelReadyResponse(ready=True))

    def ModelConfig(self, request: Any, context: Any) -> Any:
        document = {"config": self.fake.config_of(request.name)}
        return self.reply("config", context, ParseDict(document, service_pb2.ModelConfigResponse()))

    def ModelInfer(self, request: Any, context: Any) -> Any:
        image = request.raw_input_contents[0][4:]
        self.fake.images.append(image)
        response = service_pb2.ModelInferResponse(model_name="fer", id=self.fake.answered_id or request.id)
        for name, tensor in self.fake.answer_to(request.model_name, image).items():
            response.outputs.add(name=name, datatype=type_name(tensor), shape=tensor.shape)
            response.raw_output_contents.append(tensor.tobytes())
        return self.reply("infer", context, response)


def type_name(tensor: np.ndarray) -> str:
    return next(name for name, dtype in TYPES.items() if tensor.dtype == dtype)


@pytest.fixture
def fake_triton() -> Iterator[FakeTriton]:
    """A stand-in for Triton, listening on both protocols."""
    fake = FakeTriton()
    handler = type("Handler", (HttpHandler,), {"fake": fake})
    http_server = HttpServer(("127.0.0.1", 0), handler)
    grpc_server = grpc.server(ThreadPoolExecutor(max_workers=4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(GrpcService(fake), grpc_server)
    fake.http_port = http_server.server_port
    fake.grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
    threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    grpc_server.start()
    yield fake
    grpc_server.stop(grace=None).wait()
    http_server.shutdown()
    http_server.server_close()


@pytest.fixture
def https_triton(fake_triton: FakeTriton, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of the stand-in over HTTPS, and its certificate, which signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    make = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *name)
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    handler = type("Handler", (HttpHandler,), {"fake": fake_triton})
    with HttpServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"https://localhost:{server.server_port}", certificate
        server.shutdown()


class Relay(socketserver.ThreadingTCPServer):
    """Passes bytes on between a client and a server, counts what the client sends, and cuts connections when told to.

    Attributes:
        cuts: So many more connections are cut when their client has sent something.
        sent_bytes: By all clients.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.cuts = 0
        self.sent_bytes = 0
        self.connections = 0
        super().__init__(("127.0.0.1", 0), RelayHandler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class RelayHandler(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        self.server.connections += 1
        with socket.create_connection(("127.0.0.1", self.server.target_port)) as target:
            back = threading.Thread(target=self.forward, args=(target, self.request), daemon=True)
            back.start()
            self.forward(self.request, target, from_client=True)
            back.join()

    def forward(self, source: socket.socket, target: socket.socket, from_client: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if from_client:
                    self.server.sent_bytes += len(data)
                    if self.server.cuts:
                        self.server.cuts -= 1
                        break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay(fake_triton: FakeTriton, url: str) -> Iterator[Relay]:
    """A relay to the stand-in's port of the protocol."""
    with Relay(int(url.rpartition(":")[2])) as relay:
        threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield relay
        relay.shutdown()


@pytest.fixture
def relay_url(relay: Relay, url: str) -> str:
    return f"{url.rpartition(':')[0]}:{relay.port}"


class BlockingClient:
    """An AsyncFerClient as if it were a FerClient, so that both have to pass the same tests."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.client = AsyncFerClient(*arguments, **options)
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.client, name)
        if name in ("labels", "model_version", "uncertain_below", "quality_columns"):
            return self.loop.run_until_complete(attribute())
        return functools.partial(self.call, attribute) if callable(attribute) else attribute

    def call(self, method: Any, *arguments: Any, **options: Any) -> Any:
        result = method(*arguments, **options)
        if inspect.isasyncgen(result):
            return self.iterate(result)
        return self.loop.run_until_complete(result)

    def iterate(self, results: Any) -> Iterator[Any]:
        try:
            while True:
                yield self.loop.run_until_complete(anext(results))
        except StopAsyncIteration:
            return
        finally:
            self.loop.run_until_complete(results.aclose())


@pytest.fixture(params=[FerClient, BlockingClient], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Any:
    """Makes a client of each kind in turn."""
    return request.param


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, fake_triton: FakeTriton) -> str:
    """The stand-in's URL, over each protocol in turn."""
    return fake_triton.url(request.param)


@pytest.fixture
def closed_address() -> Iterator[str]:
    """A loopback address on which nothing listens, and nothing can start to meanwhile."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler, bind_and_activate=False) as holder:
        holder.server_bind()
        host, port = holder.server_address[:2]
        yield f"{host}:{port}"


@pytest.fixture
def silent_address() -> Iterator[str]:
    """A loopback address whose queue of connections is full: connecting to it takes for ever, as through a firewall."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host, port = listener.getsockname()
        for _ in range(3):  # Linux queues one, and leaves the next ones without an answer.
            connection = waiting.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex((host, port))
        yield f"{host}:{port}"
