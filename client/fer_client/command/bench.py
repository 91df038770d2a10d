"""`fer-client bench`: how fast does the server answer?"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_client._config import Protocol, parse_endpoint
from fer_client._errors import FerClientError, is_installed
from fer_client._images import encode_png
from fer_client.command.connection import Connection, add_settings, read_connection
from fer_client.command.options import Subcommands, add_command, positive_int, say, seconds
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import one_line, printable
from fer_commands.running import CommandError

if TYPE_CHECKING:
    from fer_client import FerClient

_WARM_UP_S: Final = 0.5
"""By then connections are open, and the server's first, slower requests are over."""

_PERCENTILES: Final = {50: 1, 90: 10, 95: 20, 99: 100}
"""Percentile -> number of answers that it takes: at least one has to lie beyond it."""

_DESCRIPTION: Final = """\
Measure quickly how fast the server answers, over HTTP and gRPC, at one or more levels of
concurrency. The picture is sent again and again for some seconds. Without IMAGE it is a plain
gray one, in which there is no face to classify.

What is measured is what this machine sees, network and client included. Each worker waits for
its answer before it asks again, so a slow server is asked less often: this is not a load test,
and the waits of arriving users in a queue do not show. Requests are not tried again. One run is
one sample: repeat it before you compare, and send pictures like yours.
"""

_EXAMPLES: Final = """\
  fer-client bench photo.jpg
  fer-client bench photo.jpg --concurrency 1,4,16 --seconds 10
  fer-client bench photo.jpg --protocol grpc --json
"""


@dataclass
class Measurement:
    """Requests of one protocol at one level of concurrency.

    Attributes:
        protocol: `http` or `grpc`.
        concurrency: Number of workers, and so the most requests in flight.
        latencies_ms: Latency of each answer in milliseconds.
        failures: How many requests failed, by kind.
        seconds: How long the measurement took, up to the last answer.
    """

    protocol: Protocol
    concurrency: int
    latencies_ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return len(self.latencies_ms) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percent: int) -> float | None:
        """Return the latency that this percentage of the answers does not exceed (nearest rank), or None if too few."""
        count = len(self.latencies_ms)
        if count < _PERCENTILES[percent]:
            return None
        return sorted(self.latencies_ms)[math.ceil(percent / 100 * count) - 1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, rounded to microseconds."""
        percentiles = {f"p{percent}": self.percentile_ms(percent) for percent in _PERCENTILES}
        percentiles["max"] = max(self.latencies_ms, default=None)
        return {
            "protocol": self.protocol,
            "concurrency": self.concurrency,
            "seconds": round(self.seconds, 3),
            "answered": len(self.latencies_ms),
            "requests_per_s": round(self.requests_per_s, 2),
            "latency_ms": {name: None if value is None else round(value, 3) for name, value in percentiles.items()},
            "failed": dict(self.failures),
        }


def add_bench_command(commands: Subcommands) -> None:
    """Add `bench` to the commands."""
    parser = add_command(
        commands,
        "bench",
        summary="measure quickly how fast the server answers",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?", help="picture to send (default: a plain gray one of 640 x 480 px)"
    )
    parser.add_argument(
        "--concurrency",
        metavar="N[,N...]",
        type=_levels,
        default=(1, 8),
        help="requests in flight, one level after the other (default: 1,8)",
    )
    parser.add_argument(
        "--seconds",
        metavar="SECONDS",
        type=seconds,
        default=3.0,
        help="how long to measure each level (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Measure each protocol at each level, and return the exit code."""
    content = _gray_png() if options.image is None else _read(options.image)
    name = "a plain gray picture" if options.image is None else printable(options.image)
    connection = read_connection(options)
    endpoints = _endpoints(connection)
    about: dict[str, Any] = {}
    measured: list[Measurement] = []
    for (protocol, url), level in itertools.product(endpoints.items(), options.concurrency):
        with connection.open(url=url, protocol=protocol, retries=0) as client:
            if not about:
                about = _describe(client, name, content)
                if not options.json:
                    sys.stdout.write(_heading(about, options.seconds))
            measured.append(_measure(client, protocol, content, level, options.seconds))
        if not options.json:
            sys.stdout.write(f"{_row(measured[-1])}\n")
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(f"{json.dumps({**about, 'measured': [one.to_dict() for one in measured]}, indent=2)}\n")
    if len(endpoints) == 1 and connection.protocol is None:
        say(f"only {next(iter(endpoints))} was measured: {_why_only_one()}")
    return ExitCode.PARTIAL if any(one.failures for one in measured) else ExitCode.OK


def _measure(client: FerClient, protocol: Protocol, content: bytes, level: int, duration_s: float) -> Measurement:
    """Keep `level` requests in flight for some seconds, and return what came of them.

    Raises:
        FerClientError: Nothing was answered.
    """
    _Workers(client, protocol, content, level).run(min(_WARM_UP_S, duration_s))
    workers = _Workers(client, protocol, content, level)
    workers.run(duration_s)
    if not workers.measurement.latencies_ms and workers.last_error:
        raise workers.last_error
    return workers.measurement


class _Workers:
    """Threads that each send the picture, wait for the answer, and send it again."""

    def __init__(self, client: FerClient, protocol: Protocol, content: bytes, level: int) -> None:
        self.measurement = Measurement(protocol, level)
        self.last_error: FerClientError | None = None
        self._client = client
        self._content = content
        self._stop = threading.Event()

    def run(self, duration_s: float) -> None:
        """Work for some seconds, and until the requests in flight then are answered."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.measurement.concurrency)]
        start_s = time.perf_counter()
        try:
            for thread in threads:
                thread.start()
            self._stop.wait(duration_s)
        finally:
            self._stop.set()
        for thread in threads:
            thread.join()
        self.measurement.seconds = time.perf_counter() - start_s

    def _work(self) -> None:
        while not self._stop.is_set():
            start_s = time.perf_counter()
            try:
                self._client.predict(self._content)
            except FerClientError as error:
                self.last_error = error
                self.measurement.failures[error.kind] += 1
                self._stop.wait(0.01)  # What fails at once would otherwise be asked as fast as a processor can.
            else:
                self.measurement.latencies_ms.append(1000 * (time.perf_counter() - start_s))


def _endpoints(connection: Connection) -> dict[Protocol, str]:
    """Return the URL for each protocol to measure: both, unless only one is wanted or known."""
    given = _protocol_of(connection)
    endpoints: dict[Protocol, str] = {given: connection.url}
    if connection.protocol is not None or not is_installed("grpc"):
        return endpoints
    if connection.grpc_url is not None:
        endpoints["grpc"] = connection.grpc_url
    elif not re.search(r"://|:\d+$", connection.url):  # Triton's own ports.
        endpoints["grpc"] = connection.url
    return endpoints


def _why_only_one() -> str:
    if is_installed("grpc"):
        return "set FER_URL and FER_GRPC_URL to measure both protocols"
    return "gRPC needs pip install 'fer-triton[grpc]'"


def _protocol_of(connection: Connection) -> Protocol:
    """Return the protocol of the URL."""
    try:
        return parse_endpoint(connection.url, connection.protocol).protocol
    except ValueError as error:
        raise CommandError(str(error)) from error


def _describe(client: FerClient, name: str, content: bytes) -> dict[str, Any]:
    """Return what is measured. The picture has to be answered once: measuring how it is refused is of no use."""
    prediction = client.predict(content)
    return {
        "image": name,
        "image_bytes": len(content),
        "image_size": prediction.image_size._asdict(),
        "faces": len(prediction.faces),
        "model_version": prediction.model_version,
    }


def _heading(about: dict[str, Any], duration_s: float) -> str:
    size, faces = about["image_size"], about["faces"]
    columns = "".join(f"{f'p{percent} ms':>9}" for percent in _PERCENTILES)
    return (
        f"{about['image']}: {about['image_bytes'] / 1000:.0f} kB, {size['width']} x {size['height']} px, "
        f"{faces} face{'s' * (faces != 1)}; model {one_line(about['model_version'])}; {duration_s:g} s each\n\n"
        f"protocol  in flight  requests/s{columns}   max ms  answered  failed\n"
    )


def _row(measured: Measurement) -> str:
    values = [*(measured.percentile_ms(percent) for percent in _PERCENTILES), max(measured.latencies_ms)]
    times = "".join(f"{'-' if value is None else format(value, '.1f'):>9}" for value in values)
    failed = ", ".join(f"{count} {kind}" for kind, count in measured.failures.items()) or "0"
    return (
        f"{measured.protocol:<8}  {measured.concurrency:>9}  {measured.requests_per_s:>10.1f}{times}"
        f"  {len(measured.latencies_ms):>8}  {failed:>6}"
    )


def _levels(text: str) -> tuple[int, ...]:
    return tuple(positive_int(part.strip()) for part in text.split(","))


def _read(image: str) -> bytes:
    path = Path(image)
    try:
        if path.is_char_device() or path.is_block_device():  # Some have no end.
            raise CommandError(f"cannot read {printable(image)}: it is a device")
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {printable(image)}: {error.strerror}") from error


def _gray_png() -> bytes:
    """Return a PNG file of 640 x 480 px in plain mid-gray."""
    import numpy as np  # Not at the top: `--help` does not need it.

    return encode_png(np.full((480, 640), 128, np.uint8))
