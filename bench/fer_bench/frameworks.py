"""The server beside other frameworks that run the very same functions, or those of another checkout.

All run at once, so that each cell is measured in turn and a ratio taken within its round; a server that is not measured
idles. Each framework gets as many worker processes as there are cores. Load is made by h2load over HTTP.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from tqdm import tqdm

from fer_bench.command import choose_workloads, describe_rounds, format_markdown, make_parser, median, run
from fer_bench.load import LoadError, Request, http_request
from fer_bench.machine import ONE_THREAD, Family, describe_machine, usable_cores
from fer_bench.serving import CHECKOUT, Cost, measure_cost, run_checkout

OURS: Final = "fer-serve"
_READY_TIMEOUT_S: Final = 240.0
_CONTENDERS: Final = Path(__file__).with_name("contenders")
"""On the contenders' PYTHONPATH, so that they are the same whatever checkout's functions they call."""
_ROOMS: Final = ("triton_models", "build", "serve", "commands", "client", "bench")


_QUIET: Final = {
    "BENTOML_DO_NOT_TRACK": "true",
    "RAY_AUTH_MODE": "disabled",  # or it writes a token to the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "200",
}


@dataclass(frozen=True)
class Contender:
    """Another framework."""

    package: str
    """Its name on PyPI."""
    command: Callable[[int, Path], list[str]]
    """Makes the arguments of Python that serve on a port of 127.0.0.1; the folder is empty and the contender's own."""
    request: Callable[[str, bytes], Request]
    """Makes a request of `host:port` and an encoded image."""


def _raw_body(server: str, image: bytes) -> Request:
    return Request(f"http://{server}/predict", image, ("content-type: image/jpeg",))


def _form_request(server: str, image: bytes) -> Request:
    """Return a request with a file in a form: LitServe takes any other body for JSON."""
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
    workers = f"--workers={usable_cores()}"
    return ["-m", "uvicorn", "fastapi_app:app", f"--port={port}", workers, "--log-level=warning", "--no-access-log"]


def _litserve(port: int, _: Path) -> list[str]:
    return ["-m", "litserve_app", f"--port={port}", f"--workers={usable_cores()}"]


def _bentoml(port: int, _: Path) -> list[str]:
    return ["-m", "bentoml", "serve", "bentoml_service:Fer", "--host=127.0.0.1", f"--port={port}"]


def _ray(port: int, _: Path) -> list[str]:
    return ["-m", "ray_app", f"--port={port}", f"--workers={usable_cores()}"]


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
    model = {"name": "fer", "implementation": "mlserver_runtime.Fer"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return ["-c", "from mlserver.cli import main; main()", "start", str(folder)]


CONTENDERS: Final[Mapping[str, Contender]] = {
    "fastapi": Contender("fastapi", _fastapi, _raw_body),
    "litserve": Contender("litserve", _litserve, _form_request),
    "bentoml": Contender("bentoml", _bentoml, _raw_body),
    "mlserver": Contender("mlserver", _mlserver, _mlserver_request),
    "ray": Contender("ray", _ray, _raw_body),
}


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    request: Callable[[bytes], Request]
    """Makes a request of an encoded image."""
    family: Family
    """Its processes."""
    ready_s: float
    """From its start to its first answer."""
    memory_mb: float
    """Proportional set size after that answer."""


def find_environment(package: str, environments: Sequence[Path]) -> tuple[Path, str] | None:
    """Return the interpreter of the first environment that has a package, and the package's version; or None."""
    for environment in environments:
        python = environment.absolute() / "bin" / "python"
        code = f"from importlib.metadata import version; print(version('{package}'))"
        with contextlib.suppress(OSError):
            found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
            if not found.returncode:
                return python, found.stdout.strip()
    return None


@contextmanager
def run_contender(name: str, python: Path, functions: Path, sample: bytes) -> Iterator[Running]:
    """Serve with another framework until the `with` block ends.

    Args:
        name: One of `CONTENDERS`.
        python: An interpreter that has the framework.
        functions: The checkout whose functions answer.
        sample: A picture. The server is ready when it has answered it.

    Raises:
        LoadError: It did not answer the sample in time; the message has the end of its log.
    """
    contender = CONTENDERS[name]
    with tempfile.TemporaryDirectory(prefix=f"fer-{name}-") as folder:
        port = _free_port()
        log = Path(folder) / "log"
        command = [str(python), *contender.command(port, Path(folder))]
        path = os.pathsep.join(map(str, (_CONTENDERS, *(functions.absolute() / room for room in _ROOMS))))
        environment = os.environ | ONE_THREAD | {"PYTHONPATH": path, "WORKERS": str(usable_cores())}
        environment |= _QUIET
        started = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=environment)
        try:
            address = f"127.0.0.1:{port}"
            while not _is_answered(contender.request(address, sample)):
                if process.poll() is not None or time.monotonic() - started > _READY_TIMEOUT_S:
                    raise LoadError(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.05)
            ready_s = time.monotonic() - started
            family = Family(psutil.Process(process.pid))
            yield Running(lambda image: contender.request(address, image), family, ready_s, family.memory_mb())
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
    """End a process with all that it has started."""
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


Measured = dict[tuple[str, str], list[Cost]]
"""The rounds' costs by server and cell; a cell is a workload and a number of requests in flight."""

QUANTITIES: Final = {
    "CPU ms an image": ("cpu_ms", "{:.2f}", True),
    "images/s": ("images_per_s", "{:.0f}", False),
    "p99 ms": ("p99_ms", "{:.0f}", True),
}
"""The attribute of `Cost`, its format, and whether less of it is better."""


def compare(ours: Sequence[Cost], theirs: Sequence[Cost], quantity: str) -> float:
    """Return how many times better ours is, as the median of the ratios within a round; below 1 we are behind."""
    attribute, _, less_is_better = QUANTITIES[quantity]
    ratios = [
        float(getattr(other, attribute)) / float(getattr(one, attribute))
        for one, other in zip(ours, theirs, strict=True)
    ]
    return statistics.median(ratios if less_is_better else [1 / ratio for ratio in ratios])


def format_table(measured: Measured, quantity: str) -> str:
    """Return a Markdown table of one quantity: medians over the rounds, and how many times better `fer-serve` is."""
    cells = list(dict.fromkeys(cell for _, cell in measured))
    attribute, form, _ = QUANTITIES[quantity]
    rows = []
    for server in dict.fromkeys(server for server, _ in measured):
        row = [server]
        for cell in cells:
            figure = form.format(median(measured[server, cell], attribute))
            times = compare(measured[OURS, cell], measured[server, cell], quantity)
            row.append(figure if server == OURS else f"{figure} ({times:.2f})")
        rows.append(row)
    return format_markdown([quantity, *cells], rows)


def describe_losses(measured: Measured, tolerance: float = 0.05) -> str:
    """Return a sentence that names each cell in which a server is ahead of `fer-serve` by more than the tolerance."""
    ahead = [
        f"{server} by {1 / times:.2f} ({quantity}, {cell})"
        for server, cell in measured
        for quantity in QUANTITIES
        if server != OURS and (times := compare(measured[OURS, cell], measured[server, cell], quantity)) < 1 - tolerance
    ]
    return f"Ahead of fer-serve by more than {tolerance:.0%}: {'; '.join(ahead) or 'none in any cell'}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser(
        "frameworks",
        "Compare the server with other frameworks that run the very same functions.",
        rounds=3,
        seconds=3.0,
        in_flight=(1, 16),
        workloads=True,
    )
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="default: all")
    parser.add_argument(
        "--environments",
        type=Path,
        nargs="+",
        default=[CHECKOUT / ".venv-bench", CHECKOUT / ".venv-ray"],
        metavar="DIR",
        help="virtual environments to look for the frameworks in; default: .venv-bench and .venv-ray of this checkout",
    )
    parser.add_argument(
        "--functions-of",
        type=Path,
        nargs="+",
        default=[],
        metavar="CHECKOUT",
        help="run the frameworks around the functions of other checkouts too, and their fer-serve",
    )
    options = parser.parse_args(arguments)
    return run(parser, options, lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    workloads = choose_workloads(options)
    measured: Measured = {}
    failed: set[str] = set()
    with ExitStack() as stack:
        running, versions = _start_all(stack, options, workloads[0].image)
        cells = [(workload, n) for workload in workloads for n in options.in_flight]
        turns = [(server, *cell) for _ in range(options.rounds) for cell in cells for server in running]
        for server, workload, in_flight in tqdm(turns, unit="cell", leave=False, disable=None):
            if server in failed:
                continue
            one = running[server]
            try:
                cost = measure_cost(one.request(workload.image), one.family, in_flight, options.seconds)
            except LoadError as error:
                if server == OURS:
                    raise
                print(f"{server} is left out: {error}", file=sys.stderr)
                failed.add(server)
            else:
                measured.setdefault((server, f"{workload.name}, {in_flight}"), []).append(cost)
    measured = {(server, cell): rounds for (server, cell), rounds in measured.items() if server not in failed}
    for quantity in QUANTITIES:
        print(format_table(measured, quantity) + "\n")
    rows = [[name, f"{one.memory_mb:.0f}", f"{one.ready_s:.1f}"] for name, one in running.items() if name not in failed]
    print(format_markdown(["server", "MB at rest", "ready, s"], rows) + "\n")
    print(describe_losses(measured) + "\n")
    print("; ".join(f"{workload.name}: {workload.description}" for workload in workloads) + ".")
    print(f"{', '.join(versions)}; {describe_machine()}, load {os.getloadavg()[0]:.1f}; {describe_rounds(options)}.")


def _start_all(stack: ExitStack, options: argparse.Namespace, sample: bytes) -> tuple[dict[str, Running], list[str]]:
    """Start every server that can be started; standard error says which cannot.

    Returns:
        The servers by name, and the frameworks with their versions.

    Raises:
        LoadError: A `fer-serve` did not start.
    """
    running: dict[str, Running] = {}
    versions = []
    checkouts = {"": CHECKOUT} | {f", {name_commit(one)}": one for one in options.functions_of}
    for suffix, checkout in checkouts.items():
        server = stack.enter_context(run_checkout(checkout))
        request = _requester(server.http_url)
        running[OURS + suffix] = Running(request, server.family, server.ready_s, server.family.memory_mb())
    for name in options.only:
        package = CONTENDERS[name].package
        found = find_environment(package, options.environments)
        if found is None:
            places = ", ".join(map(str, options.environments))
            print(f"{name} is left out: {places} do not have it; see bench/README.md", file=sys.stderr)
            continue
        try:
            for suffix, checkout in checkouts.items():
                running[name + suffix] = stack.enter_context(run_contender(name, found[0], checkout, sample))
        except LoadError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        versions.append(f"{package} {found[1]}")
    return running, versions


def _requester(http_url: str) -> Callable[[bytes], Request]:
    return lambda image: http_request(http_url, image)


def name_commit(checkout: Path) -> str:
    """Return the short name of a checkout's commit, or its folder's name where git does not know it."""
    done = subprocess.run(["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)  # noqa: S607
    return checkout.absolute().name if done.returncode else done.stdout.strip()
