"""Keeps a number of requests in flight by h2load, and says how many were answered and how fast.

h2load (Debian: nghttp2-client) is written in C and takes a few microseconds for a request: on a machine that runs load
and server on the same cores, what the load costs is taken from the server.
"""

import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import tritonclient.http
from tritonclient.grpc import service_pb2

import fer_contract as contract
from fer_commands.running import DetailedError

_WARM_UP_MS: Final = 500
_GRPC_PATH: Final = "/inference.GRPCInferenceService/ModelInfer"


class LoadError(DetailedError):
    """The load could not be made, or was not answered as it should."""


@dataclass(frozen=True)
class Request:
    """One HTTP POST, made once and sent many times."""

    url: str
    body: bytes
    headers: tuple[str, ...] = ()
    is_http2: bool = False


@dataclass(frozen=True)
class Load:
    """What came of it."""

    per_s: float
    """Answers per second."""
    mean_ms: float
    """Mean latency."""
    p50_ms: float
    """Median latency."""
    p99_ms: float
    """The latency that one answer in a hundred exceeds."""


def http_request(server: str, image: bytes) -> Request:
    """A request to the model `fer` over HTTP with a binary body, as tritonclient makes it.

    Args:
        server: `host:port`.
        image: an encoded file.
    """
    tensor = tritonclient.http.InferInput(contract.IMAGE, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image], np.object_))
    body, header_bytes = tritonclient.http.InferenceServerClient.generate_request_body([tensor])
    headers = (f"inference-header-content-length: {header_bytes}",)
    return Request(f"http://{server}/v2/models/{contract.FER_MODEL}/infer", body, headers)


def grpc_request(server: str, image: bytes) -> Request:
    """The same over gRPC."""
    element = struct.pack("<I", len(image)) + image
    return _grpc_infer(server, contract.FER_MODEL, contract.IMAGE, "BYTES", [1], element)


def grpc_faces_request(server: str, faces: npt.NDArray[np.uint8]) -> Request:
    """A request to the model `fer_classifier`: uint8, (N, 1, 48, 48), N = 1..64."""
    return _grpc_infer(server, contract.CLASSIFIER_MODEL, contract.FACES, "UINT8", list(faces.shape), faces.tobytes())


def _grpc_infer(server: str, model: str, tensor: str, datatype: str, shape: list[int], content: bytes) -> Request:
    """GRPC is an HTTP/2 POST with one length-prefixed message."""
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name=tensor, datatype=datatype, shape=shape)
    message.raw_input_contents.append(content)
    body = message.SerializeToString()
    headers = ("content-type: application/grpc", "te: trailers")
    return Request(f"http://{server}{_GRPC_PATH}", struct.pack(">BI", 0, len(body)) + body, headers, is_http2=True)


def send_load(request: Request, in_flight: int, seconds: float) -> Load:
    """Sends `request` over `in_flight` connections, the next as soon as the last is answered.

    gRPC tells its errors behind the body, where h2load does not look: compare the server's counters.

    Raises:
        LoadError: h2load is missing, or a request was not answered with a 2xx status.
    """
    program = shutil.which("h2load")
    if program is None:
        raise LoadError("h2load is missing: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="fer-bench-") as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(request.body)
        command = [program, f"--clients={in_flight}", "--threads=1", f"--duration={round(1000 * seconds)}ms"]
        command += [f"--warm-up-time={_WARM_UP_MS}ms", f"--data={body}", f"--log-file={log}"]
        command += [f"--header={header}" for header in request.headers]
        command += [] if request.is_http2 else ["--h1"]
        done = subprocess.run(
            [*command, request.url],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=_never_interrupt,  # in a process of one thread
        )
        if done.returncode or not log.is_file():
            raise LoadError(f"h2load failed: {done.stderr.strip() or done.stdout.strip()}")
        lines = log.read_text(encoding="utf-8").splitlines()
    return _summarise(lines, seconds, request.url)


def _never_interrupt() -> None:
    """It takes of the server's cores what it needs, but not from one that is at work: other clients are elsewhere."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _summarise(lines: list[str], seconds: float, url: str) -> Load:
    """`lines` are start in us, HTTP status and duration in us, separated by tabs."""
    if not lines:
        raise LoadError(f"{url} answered nothing within {seconds:g} s")
    rows = np.array([line.split("\t") for line in lines], np.int64)
    refused = rows[(rows[:, 1] < 200) | (rows[:, 1] > 299)]
    if len(refused):
        raise LoadError(f"{url} answered {len(refused)} of {len(rows)} requests with another status, {refused[0, 1]}")
    latencies_ms = rows[:, 2] / 1000
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return Load(len(rows) / seconds, float(latencies_ms.mean()), float(p50), float(p99))
