"""Keeps a number of requests in flight by h2load, and says how many were answered and how fast.

h2load (Debian: nghttp2-client) is written in C and takes a few microseconds for a request. Load and server run on the
same cores, so what the load takes is lost to the server.
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
from fer_commands.exit_codes import ExitCode

_WARM_UP_REQUESTS: Final = 20
_GRPC_PATH: Final = "/inference.GRPCInferenceService/ModelInfer"


class LoadError(Exception):
    """The load could not be made, or was not answered as it should be."""

    exit_code = ExitCode.FAILED


@dataclass(frozen=True)
class Request:
    """One HTTP POST, made once and sent many times."""

    url: str
    body: bytes
    headers: tuple[str, ...] = ()
    is_http2: bool = False


@dataclass(frozen=True)
class Load:
    """What came of sending requests for a while."""

    answers: int
    """How many requests were answered, those of the warm-up left out."""
    per_s: float
    """Answers per second."""
    mean_ms: float
    """Mean latency."""
    p50_ms: float
    """Median latency."""
    p99_ms: float
    """The latency that one answer in a hundred exceeds."""


def http_request(server: str, image: bytes) -> Request:
    """Return a request to the model `fer` over HTTP with a binary body, as tritonclient makes it.

    Args:
        server: `host:port`.
        image: An encoded image file.
    """
    tensor = tritonclient.http.InferInput(contract.IMAGE, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image], np.object_))
    body, header_bytes = tritonclient.http.InferenceServerClient.generate_request_body([tensor])
    headers = (f"inference-header-content-length: {header_bytes}",)
    return Request(f"http://{server}/v2/models/{contract.FER_MODEL}/infer", body, headers)


def grpc_request(server: str, image: bytes) -> Request:
    """Return a request to the model `fer` over gRPC; the arguments are those of `http_request`."""
    element = struct.pack("<I", len(image)) + image
    return _grpc_infer(server, contract.FER_MODEL, contract.IMAGE, "BYTES", [1], element)


def grpc_faces_request(server: str, faces: npt.NDArray[np.uint8]) -> Request:
    """Return a request to the model `fer_classifier` over gRPC. `faces` are uint8, (N, 1, 48, 48), N = 1..64."""
    return _grpc_infer(server, contract.CLASSIFIER_MODEL, contract.FACES, "UINT8", list(faces.shape), faces.tobytes())


def _grpc_infer(server: str, model: str, tensor: str, datatype: str, shape: list[int], content: bytes) -> Request:
    """Return an HTTP/2 POST with one length-prefixed message, which is what a call over gRPC is."""
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name=tensor, datatype=datatype, shape=shape)
    message.raw_input_contents.append(content)
    body = message.SerializeToString()
    headers = ("content-type: application/grpc", "te: trailers")
    return Request(f"http://{server}{_GRPC_PATH}", struct.pack(">BI", 0, len(body)) + body, headers, is_http2=True)


def warm_up(request: Request, in_flight: int) -> None:
    """Send some requests, and wait for the last answer.

    Raises:
        LoadError: h2load is missing, or a request was not answered with a 2xx status.
    """
    count = max(_WARM_UP_REQUESTS, 2 * in_flight)
    _read_log(_run_h2load(request, in_flight, f"--requests={count}"), request.url)


def send_load(request: Request, in_flight: int, seconds: float, *, warm_up_s: float = 0.5) -> Load:
    """Send a request over `in_flight` connections, the next as soon as the last is answered.

    gRPC tells its errors behind the body, where h2load does not look: compare the server's counters.

    Args:
        request: What is sent, every time the same.
        in_flight: Number of connections, each with one request in flight.
        seconds: How long, after the warm-up.
        warm_up_s: How long answers do not count at first.

    Raises:
        LoadError: h2load is missing, or a request was not answered with a 2xx status.
    """
    times = f"--duration={round(1000 * seconds)}ms", f"--warm-up-time={round(1000 * warm_up_s)}ms"
    rows = _read_log(_run_h2load(request, in_flight, *times), request.url)
    latencies_ms = rows[:, 2] / 1000
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return Load(len(rows), len(rows) / seconds, float(latencies_ms.mean()), float(p50), float(p99))


def _run_h2load(request: Request, in_flight: int, *options: str) -> list[str]:
    """Return the lines of h2load's log: start in us, HTTP status and duration in us, separated by tabs."""
    program = shutil.which("h2load")
    if program is None:
        raise LoadError("h2load is not installed: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="fer-bench-") as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(request.body)
        command = [program, f"--clients={in_flight}", "--threads=1", f"--data={body}", f"--log-file={log}", *options]
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
        return log.read_text(encoding="utf-8").splitlines()


def _never_interrupt() -> None:
    """Run h2load as a batch job, which does not interrupt the server: other clients are on other machines."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _read_log(lines: list[str], url: str) -> npt.NDArray[np.int64]:
    """Return what the lines say, (answers, 3).

    Raises:
        LoadError: There are none, or one has another status than 2xx.
    """
    if not lines:
        raise LoadError(f"{url} answered nothing while the load lasted: give more --seconds")
    rows = np.array([line.split("\t") for line in lines], np.int64)
    refused = rows[(rows[:, 1] < 200) | (rows[:, 1] > 299)]
    if len(refused):
        raise LoadError(f"{url} answered {len(refused)} of {len(rows)} requests with status {refused[0, 1]}, not 2xx")
    return rows
