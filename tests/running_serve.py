"""A `fer-serve` in a process of its own, as a terminal would start it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

SERVE = [str(Path(sys.executable).with_name("fer-serve"))]


class RunningServe:
    """One that has said that it is ready."""

    def __init__(self, repository: Path, *flags: str, exit_timeout_s: int = 2) -> None:
        timeout = ("--exit-timeout", str(exit_timeout_s))
        command = [*SERVE, "--repository", str(repository), "--free-ports", *timeout, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.printed = ""
        """All that it has said."""
        self.read_until("Press Ctrl-C")
        self.http_url = re.search(r"http://(\S+:\d+)\n", self.printed)[1]
        self.grpc_url = re.search(r"grpc://(\S+:\d+)\n", self.printed)[1]
        self.metrics_url = re.search(r"metrics +(\S+)\n", self.printed)[1]

    def read_until(self, words: str) -> str:
        """Waits until it says `words` from now on; returns what it said up to there."""
        start = len(self.printed)
        while words not in self.printed[start:]:
            line = self.process.stdout.readline()
            if not line:
                self.process.stdout.close()
                pytest.fail(f"fer-serve ended ({self.process.wait()}): {self.printed}")
            self.printed += line
        return self.printed[start:]

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)

    def server_processes(self) -> list[psutil.Process]:
        return [p for p in psutil.Process(self.process.pid).children(recursive=True) if "triton" in p.exe()]

    def tritonserver(self) -> psutil.Process:
        return next(p for p in self.server_processes() if p.name() == "tritonserver")

    def stubs(self, model: str) -> list[psutil.Process]:
        return [p for p in self.server_processes() if any(f"/{model}/" in word for word in p.cmdline())]


@contextmanager
def serving(repository: Path, *flags: str, exit_timeout_s: int = 2) -> Iterator[RunningServe]:
    serve = RunningServe(repository, *flags, exit_timeout_s=exit_timeout_s)
    try:
        yield serve
    finally:
        if serve.process.poll() is None:
            serve.stop(signal.SIGTERM)
        serve.process.stdout.close()
