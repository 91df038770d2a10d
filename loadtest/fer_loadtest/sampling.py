"""Reads the server's metrics while a test runs, and how busy the machine is that the test runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import gevent
import psutil

from fer_loadtest.triton_metrics import Sample, read_metrics

_EVERY_S: Final = 2.0
"""As often as Triton renews its figures of CPU and GPU."""


@dataclass(frozen=True)
class MachineSample:
    """How busy this machine was.

    Attributes:
        at_s: When, seconds since 1970.
        cores: Cores in use, by whomever.
    """

    at_s: float
    cores: float


class Sampler:
    """Takes samples from its start to its stop.

    Attributes:
        server: Of the server's metrics; empty where they cannot be read.
        machine: Of this machine.
        problem: Why the metrics cannot be read, or None.
    """

    def __init__(self, urls: Sequence[str], clock: Callable[[], float]) -> None:
        """Prepare to read the metrics at `urls`."""
        self.server: list[Sample] = []
        self.machine: list[MachineSample] = []
        self.problem: str | None = None if urls else "--metrics-url none"
        self._urls = urls
        self._clock = clock
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Take the first sample now, and more in the background."""
        if self._greenlet is None:
            self._read_server()
            self._greenlet = gevent.spawn(self._sample_for_ever)

    def stop(self) -> None:
        """Take the last one."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
            self._read_server()

    def _sample_for_ever(self) -> None:
        psutil.cpu_percent()  # It counts from the last call of the same thread, which here is a greenlet.
        while True:
            gevent.sleep(_EVERY_S)
            cores = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
            self.machine.append(MachineSample(self._clock(), cores))
            self._read_server()

    def _read_server(self) -> None:
        if not self._urls:
            return
        try:
            self.server.append(read_metrics(self._urls, self._clock()))
            self.problem = None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)  # What urllib raises hides the reason in angle brackets.
            self.problem = f"{', '.join(self._urls)} cannot be read ({reason}): give --metrics-url"
