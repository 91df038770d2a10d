"""Compares the server with other frameworks that run the very same functions.

    python -m fer_bench.frameworks [--rounds N] [--seconds S] [--in-flight 16] [--only fastapi litserve ...]

All run at once, so that each cell is measured in turn and a ratio taken within its round; who is not measured idles.
Each framework gets as many worker processes as there are cores. Load is made by h2load over HTTP.
"""

import argparse
import base64
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil
from tqdm import tqdm

from fer_bench.load import Load, LoadError, Request, http_request, send_load
from fer_bench.machine import ONE_THREAD, describe_machine, resident_mb, usable_cores
from fer_bench.workloads import Workload, make_workloads
from fer_commands.exit_codes import describe
from fer_commands.running import run_command
from fer_serve.server import serving

OURS: Final = "fer-serve"
_READY_TIMEOUT_S: Final = 120.0
_CONTENDERS: Final = "fer_bench.contenders"


@dataclass(frozen=True)
class Contender:
    """Another framework."""

    package: str
    """On PyPI."""
    command: Callable[[int, Path], list[str]]
    """The command that serves on a port of 127.0.0.1; the folder is empty and its own."""
    request: Callable[[str, bytes], Request]
    """For `host:port` and an image."""


def _raw_body(path: str) -> Callable[[str, bytes], Request]:
    headers = ("content-type: image/jpeg",)
    return lambda server, image: Request(f"http://{server}{path}", image, headers)


def _form_request(server: str, image: bytes) -> Request:
    """A file in a form: LitServe takes any other body for JSON."""
    boundary = b"fer-bench-boundary"
    part = b'Content-Disposition: form-data; name="image"; filename="image.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = b"--" + boundary + b"\r\n" + part + image + b"\r\n--" + boundary + b"--\r\n"
    return Request(
        f"http://{server}/predict", body, (f"content-type: multipart/form-data; boundary={boundary.decode()}",)
    )


def _mlserver_request(server: str, image: bytes) -> Request:
    text = base64.b64encode(image).decode()
    tensor = {"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
    body = json.dumps({"inputs": [tensor | {"data": [text]}]}).encode()
    return Request(f"http://{server}/v2/models/fer/infer", body, ("content-type: application/json",))


def _fastapi(port: int, _: Path) -> list[str]:
    app = f"{_CONTENDERS}.fastapi_app:app"
    return ["-m", "uvicorn", app, f"--port={port}", f"--workers={usable_cores()}", "--log-level=warning"]


def _litserve(port: int, _: Path) -> list[str]:
    return ["-m", f"{_CONTENDERS}.litserve_app", f"--port={port}", f"--workers={usable_cores()}"]


def _bentoml(port: int, _: Path) -> list[str]:
    return ["-m", "bentoml", "serve", f"{_CONTENDERS}.bentoml_service:Fer", "--host=127.0.0.1", f"--port={port}"]


def _mlserver(port: int, folder: Path) -> list[str]:
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": _free_port(),
        "metrics_port": _free_port(),
        "parallel_workers": usable_cores(),
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "fer", "implementation": f"{_CONTENDERS}.mlserver_runtime.Fer"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return ["-c", "from mlserver.cli import main; main()", "start", str(folder)]


CONTENDERS: Final = {
    "fastapi": Contender("fastapi", _fastapi, _raw_body("/predict")),
    "litserve": Contender("litserve", _litserve, _form_request),
    "bentoml": Contender("bentoml", _bentoml, _raw_body("/predict")),
    "mlserver": Contender("mlserver", _mlserver, _mlserver_request),
}


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    request: Callable[[bytes], Request]
    ready_s: float
    """From its start to its first answer."""
    resident_mb: float
    """Memory after that answer."""


@contextmanager
def run_contender(name: str, sample: bytes) -> Iterator[Running]:
    """Serves until the `with` block ends.

    Raises:
        LoadError: it did not answer the picture `sample` in time; the message has the end of its log.
    """
    contender = CONTENDERS[name]
    with tempfile.TemporaryDirectory(prefix=f"fer-{name}-") as folder:
        port = _free_port()
        log = Path(folder) / "log"
        command = [sys.executable, *contender.command(port, Path(folder))]
        environment = os.environ | ONE_THREAD | {"WORKERS": str(usable_cores()), "BENTOML_DO_NOT_TRACK": "true"}
        others_mb = resident_mb()
        started = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=environment)
        try:
            request = contender.request(f"127.0.0.1:{port}", sample)
            while not _is_answered(request):
                if process.poll() is not None or time.monotonic() - started > _READY_TIMEOUT_S:
                    raise LoadError(f"{name} did not start:\n" + log.read_text(errors="replace")[-2000:])
                time.sleep(0.05)
            ready_s = time.monotonic() - started
            address = f"127.0.0.1:{port}"
            yield Running(lambda image: contender.request(address, image), ready_s, resident_mb() - others_mb)
        finally:
            _end(process)


def _is_answered(request: Request) -> bool:
    headers = dict(header.split(": ", 1) for header in request.headers)
    posted = urllib.request.Request(request.url, request.body, headers)  # noqa: S310  # our own loopback
    try:
        with urllib.request.urlopen(posted, timeout=30):  # noqa: S310
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends it with all its workers."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


Measured = dict[tuple[str, str], list[Load]]
"""Rounds by server and workload."""


def format_table(measured: Measured, running: dict[str, Running]) -> str:
    """A Markdown table of medians over the rounds: images per second and p99 by workload, and ratios to ours."""
    servers = list(dict.fromkeys(server for server, _ in measured))
    workloads = list(dict.fromkeys(workload for _, workload in measured))
    header = [
        "server",
        *(f"{name}, images/s (p99, ms)" for name in workloads),
        "fer-serve is faster by",
        "MB",
        "ready, s",
    ]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for server in servers:
        cells = [server]
        advantages = []
        for workload in workloads:
            rounds, ours = measured[server, workload], measured[OURS, workload]
            per_s, p99 = (statistics.median(getattr(one, name) for one in rounds) for name in ("per_s", "p99_ms"))
            cells.append(f"{per_s:.1f} ({p99:.0f})")
            advantages.append(statistics.median(a.per_s / b.per_s for a, b in zip(ours, rounds, strict=True)))
        cells.append("" if server == OURS else ", ".join(f"{advantage:.2f}" for advantage in advantages))
        lines.append(
            "| " + " | ".join([*cells, f"{running[server].resident_mb:.0f}", f"{running[server].ready_s:.1f}"]) + " |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_bench.frameworks",
        description="Compare the server with other frameworks that run the very same functions.",
        epilog=describe(),
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of each cell; default: %(default)s")
    parser.add_argument("--in-flight", type=int, default=16, metavar="N", help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="default: all")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.in_flight) < 1 or options.seconds <= 0:
        parser.error("--rounds and --in-flight must be at least 1, --seconds above 0")
    return run_command("fer_bench.frameworks", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    workloads = make_workloads()
    measured: Measured = {}
    with ExitStack() as stack:
        running = {OURS: stack.enter_context(_run_ours())}
        for name in options.only:
            running[name] = stack.enter_context(run_contender(name, workloads[0].image))
        turns = [(server, workload) for _ in range(options.rounds) for workload in workloads for server in running]
        for server, workload in tqdm(turns, unit="cell", leave=False, disable=None):
            load = send_load(running[server].request(workload.image), options.in_flight, options.seconds)
            measured.setdefault((server, workload.name), []).append(load)
    print(format_table(measured, running))
    print("\n" + _describe(workloads, options))


@contextmanager
def _run_ours() -> Iterator[Running]:
    started = time.monotonic()
    with serving() as server:
        ready_s = time.monotonic() - started
        yield Running(lambda image: http_request(server.http_url, image), ready_s, resident_mb())


def _describe(workloads: Sequence[Workload], options: argparse.Namespace) -> str:
    frameworks = ", ".join(f"{CONTENDERS[name].package} {version(CONTENDERS[name].package)}" for name in options.only)
    kinds = "; ".join(f"{workload.name}: {workload.description}" for workload in workloads)
    how = f"{options.in_flight} requests in flight, {options.rounds} rounds of {options.seconds:g} s"
    return f"{kinds}\n{frameworks}; {how}\n{describe_machine()}"


if __name__ == "__main__":
    sys.exit(main())
