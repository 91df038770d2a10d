"""A real Triton server on this machine, on loopback unless told otherwise, for as long as a `with` block lasts.

    with serving() as server:  # the released model; serving(repository) for one that `fer-build assemble` made
        ...  # requests to server.http_url or server.grpc_url

For development, demos, CI and CPU deployments behind a gateway; on GPUs NVIDIA's image serves the same repository.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from fer_build.assemble import assemble
from fer_build.errors import RepositoryError
from fer_build.manifest import CPU, read_manifest
from fer_build.release import SERVED_ONNX
from fer_serve import embedded_triton, guard
from fer_serve.errors import LogFileError, PortTakenError, ServerFailedError
from fer_serve.probe import Problem, probe
from fer_serve.triton_processes import ServerProcesses

LOOPBACK: Final = "127.0.0.1"
_ANY_ADDRESS: Final = "0.0.0.0"  # noqa: S104  # compared with, not bound to
_RESTRICTED_APIS: Final = "model-repository,shared-memory,trace,logging"
_STARTS: Final = 5
"""A start of Triton 2.51 aborts now and then (boost::interprocess::lock_exception; three times in a row on a machine
with seven times as many busy processes as cores), and a port that was free a moment ago can be taken: try again."""
_MEMORY_CHECK_EVERY_S: Final = 0.25


@dataclass(frozen=True)
class Ports:
    """The ports that the server listens on. A port of 0 is replaced by a free one at the start."""

    http: int = 0
    grpc: int = 0
    metrics: int = 0


@contextlib.contextmanager
def temporary_repository(onnx: Path = SERVED_ONNX, **choices: Any) -> Iterator[Path]:
    """Assemble a repository in a temporary folder, which is removed at the end of the block.

    Args:
        onnx: The classifier; by default the released one.
        **choices: Further arguments of `fer_build.assemble.assemble`, such as the runtime.

    Raises:
        FerBuildError: What `fer_build.assemble.assemble` raises.
    """
    with tempfile.TemporaryDirectory(prefix="fer-repository-") as folder:
        repository = Path(folder) / "repository"
        assemble(repository, onnx, **choices)
        yield repository


@contextlib.contextmanager
def serving(repository: Path | None = None, **choices: Any) -> Iterator["EmbeddedTriton"]:
    """Serve a repository on free ports until the end of the block.

    Args:
        repository: Made by `fer-build assemble`, profile cpu; None assembles one for this machine.
        **choices: Arguments of `temporary_repository`, where one is assembled; by default the released classifier is.

    Raises:
        FerBuildError: The repository cannot be served or assembled, or something is not installed.
        FerServeError: The server did not start.
    """
    with contextlib.ExitStack() as stack:
        served = repository or stack.enter_context(temporary_repository(**choices))
        yield stack.enter_context(EmbeddedTriton(served))


class EmbeddedTriton:
    """One tritonserver process with its Python stubs, started and stopped as a whole.

    Stopping it, leaving the `with` block, or the death of this process by any means ends every process of it and
    removes its shared-memory regions.
    """

    def __init__(
        self,
        repository: Path,
        ports: Ports = Ports(),
        log_file: Path | None = None,
        exit_timeout_s: int = 10,
        *,
        address: str = LOOPBACK,
        metrics_address: str = LOOPBACK,
    ) -> None:
        """Prepare a server; `start` or `with` starts it.

        Args:
            repository: A model repository made by `fer-build assemble`, profile cpu.
            ports: The ports to listen on.
            log_file: The server's log is appended to it; by default a temporary file, which goes away when the server
                is stopped unless a start has failed.
            exit_timeout_s: How long requests in flight may take to finish once the server is told to stop.
            address: IPv4 address to serve HTTP and gRPC on; 0.0.0.0 is all that the machine has.
            metrics_address: The same for the metrics.
        """
        self._repository = repository
        self._wanted_ports = ports
        self._log_file = log_file
        self._log_is_temporary = log_file is None
        self._log_start = 0
        self._exit_timeout_s = exit_timeout_s
        self._address = address
        self._metrics_address = metrics_address
        self._guard: subprocess.Popen[bytes] | None = None
        self._shm_prefix = ""
        self._processes: ServerProcesses | None = None
        self.ports = ports
        self.instances = 1
        """The largest number of instances that a model has, once started."""

    @property
    def http_url(self) -> str:
        """`host:port` for HTTP clients."""
        return f"{_reachable(self._address)}:{self.ports.http}"

    @property
    def grpc_url(self) -> str:
        """`host:port` for gRPC clients."""
        return f"{_reachable(self._address)}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """The URL that Prometheus reads."""
        return f"http://{_reachable(self._metrics_address)}:{self.ports.metrics}/metrics"

    @property
    def log_file(self) -> Path:
        """The server's log, standard error of its models included."""
        if self._log_file is None:
            raise RuntimeError("a server that was never started has no log")
        return self._log_file

    def start(self, timeout_s: float = 60) -> None:
        """Start the server, and return when it has answered a real inference.

        Raises:
            NotInstalledError: The embedded Triton or libpython is missing.
            PortTakenError: A wanted port is in use.
            RepositoryError: The repository is not an assembled one, or made for a GPU.
            LogFileError: The log cannot be written.
            ServerFailedError: The server ended, or did not answer within `timeout_s`: the message has the end of its
                log and the log's place.
            RuntimeError: It is started already.
        """
        if self._guard is not None:
            raise RuntimeError("the server is started already: stop it first, or restart it")
        manifest = read_manifest(self._repository)
        if manifest["profile"] != CPU:
            raise RepositoryError(
                f"{self._repository} is made for a GPU, which the embedded server has no backend for: serve it with "
                "NVIDIA's Triton image, or assemble one with --profile cpu"
            )
        self.instances = max(manifest["instances"].values())
        for attempt in range(1, _STARTS + 1):
            self._launch()
            try:
                self._wait_until_ready(timeout_s)
                self._processes = ServerProcesses(self._running_guard().pid, self._shm_prefix)
                return
            except ServerFailedError:
                worth_another = self._crashed_or_lost_a_port()
                self._stop_processes()
                if attempt == _STARTS or not worth_another:
                    self._log_is_temporary = False  # the message has just told where it is
                    raise
            except BaseException:  # Ctrl-C, say
                self._stop_processes()
                raise

    def restart(self, exit_timeout_s: float | None = None) -> None:
        """Stop the server and start it again on the same ports, with the same log. It raises what `start` raises.

        Args:
            exit_timeout_s: How long requests in flight may take to finish, where that is not what the server was made
                with.
        """
        self._stop_processes(exit_timeout_s)
        self._wanted_ports = self.ports
        self.start()

    def stop(self) -> None:
        """Let requests in flight finish, then end every process. A server that is stopped already stays so."""
        self._stop_processes()
        if self._log_is_temporary and self._log_file is not None:
            self._log_file.unlink(missing_ok=True)
            self._log_file = None

    def is_running(self) -> bool:
        """Return whether the process is there. A running server can still fail every request: see `probe`."""
        return self._guard is not None and self._guard.poll() is None

    def wait_until_broken(self, timeout_s: float, memory_limit_bytes: int) -> Problem | None:
        """Watch the processes of a started server without asking it anything.

        Returns:
            What is wrong, at once: one of them has ended, or together they hold more memory than the limit. None if
            nothing is within `timeout_s`.
        """
        if self._processes is None:
            raise RuntimeError("a server that was never started has no processes")
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            ended = self._processes.wait_for_an_end(min(max(left_s, 0), _MEMORY_CHECK_EVERY_S))
            if ended:
                return Problem(f"{ended} has died")
            held = self.memory_bytes()
            if held > memory_limit_bytes:
                return Problem(f"it holds {held >> 20:,} MiB of memory, more than {memory_limit_bytes >> 20:,}")
            if left_s <= 0:
                return None

    def memory_bytes(self) -> int:
        """Return the memory that the processes of a started server hold, shared memory included."""
        if self._processes is None:
            raise RuntimeError("a server that was never started holds nothing")
        return self._processes.memory_bytes()

    def probe(self, timeout_s: float = 5) -> Problem | None:
        """Send an image through each ensemble, and return None if the answers are right, else the problem."""
        if not self.is_running():
            return Problem("the server's process has ended")
        return probe(self.http_url, timeout_s)

    def __enter__(self) -> "EmbeddedTriton":
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def _launch(self) -> None:
        self.ports = _choose_ports(self._wanted_ports, self._address, self._metrics_address)
        self._open_log()
        work_dir = Path(tempfile.mkdtemp(prefix="fer-serve-"))  # the guard removes it
        try:
            triton = embedded_triton.stage(work_dir)
        except BaseException:
            shutil.rmtree(work_dir)
            self.stop()  # an empty log
            raise
        self._shm_prefix = f"fer_{uuid.uuid4().hex[:12]}_"
        time_to_stop_s = self._exit_timeout_s + 1
        guarded = [guard.__file__, work_dir, self._shm_prefix, time_to_stop_s, self.ports.http, self.log_file.resolve()]
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", *map(str, guarded), str(triton.binary), *self._flags(triton.backends)],
            stdin=subprocess.PIPE,
            env=triton.environment,
            start_new_session=True,  # Ctrl-C in a terminal reaches the launcher only, which stops the server in order
        )

    def _flags(self, backends: Path) -> list[str]:
        flags = {
            "model-repository": self._repository.resolve(),
            "model-config-name": "cpu",  # configs/cpu.pbtxt where there is one
            "backend-directory": backends,
            "backend-config": f"python,shm-region-prefix-name={self._shm_prefix}",
            "exit-timeout-secs": self._exit_timeout_s,
            "http-address": self._address,
            "http-port": self.ports.http,
            "grpc-address": self._address,
            "grpc-port": self.ports.grpc,
            "metrics-address": self._metrics_address,
            "metrics-port": self.ports.metrics,
            "allow-gpu-metrics": "false",
            # Nobody is given this key: who can reach the port cannot load models, map memory, or write traces and logs.
            "http-restricted-api": f"{_RESTRICTED_APIS}:fer-key={secrets.token_hex()}",
            "grpc-restricted-protocol": f"{_RESTRICTED_APIS}:fer-key={secrets.token_hex()}",
        }
        # Without auto-completion the configuration files say everything. A flag without a value.
        return ["--disable-auto-complete-config", *(f"--{name}={value}" for name, value in flags.items())]

    def _open_log(self) -> None:
        """Make sure that the log can be written, and note where in it this start begins."""
        if self._log_file is None:
            descriptor, name = tempfile.mkstemp(prefix="fer-serve-", suffix=".log")
            os.close(descriptor)
            self._log_file = Path(name)
        try:
            with self._log_file.open("ab") as log:
                self._log_start = log.tell()
        except OSError as error:
            raise LogFileError(f"the log cannot be written to {self._log_file}: {error.strerror}") from None

    def _running_guard(self) -> subprocess.Popen[bytes]:
        if self._guard is None:
            raise RuntimeError("the server is not started")
        return self._guard

    def _stop_processes(self, exit_timeout_s: float | None = None) -> None:
        if self._processes is not None:
            self._processes.close()
            self._processes = None
        if self._guard is None:
            return
        if self._guard.stdin:
            with contextlib.suppress(BrokenPipeError):  # the guard has ended
                if exit_timeout_s is not None:
                    self._guard.stdin.write(str(exit_timeout_s).encode())
                self._guard.stdin.close()  # the guard sees the end of its input
        try:
            self._guard.wait((self._exit_timeout_s if exit_timeout_s is None else exit_timeout_s) + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._guard = None

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        problem: Problem | None = None
        while time.monotonic() < deadline:
            problem = self.probe(timeout_s=2)
            if problem is None:
                return
            if not self.is_running() or problem.is_final:
                break
            time.sleep(0.1)
        raise ServerFailedError(
            f"the server did not start: {problem}. The end of its log, {self.log_file}, says:", self._log_end()
        )

    def _crashed_or_lost_a_port(self) -> bool:
        code = self._guard.poll() if self._guard else None
        return code is not None and (code > 128 or "Address already in use" in self._log_text())

    def _log_text(self) -> str:
        """Return the part of the log since the last start."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _log_end(self) -> list[str]:
        lines = self._log_text().splitlines()
        errors = [line for line in lines if line.startswith(("E", "error:", "failed"))] or lines
        return errors[-8:]


def _reachable(address: str) -> str:
    """Return the address by which this machine reaches a server that listens on `address`."""
    return LOOPBACK if address == _ANY_ADDRESS else address


def _choose_ports(wanted: Ports, address: str, metrics_address: str) -> Ports:
    """Return `wanted` with every 0 replaced by a port that is free now on its address.

    Raises:
        PortTakenError: A port is in use, or wanted twice.
    """
    fixed = [port for port in (wanted.http, wanted.grpc, wanted.metrics) if port]
    if len(set(fixed)) < len(fixed):
        raise PortTakenError(f"http, grpc and metrics need different ports, not {', '.join(map(str, fixed))}")
    with contextlib.ExitStack() as held:  # held together, so that no two are the same

        def choose(name: str, port: int, address: str) -> int:
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((address, port))
            except OSError as error:
                raise PortTakenError(
                    f"port {port} for {name} cannot be used on {address} ({error.strerror}): choose another with "
                    f"--{name}-port, or any free ones with --free-ports"
                ) from None
            return int(listener.getsockname()[1])

        return Ports(
            choose("http", wanted.http, address),
            choose("grpc", wanted.grpc, address),
            choose("metrics", wanted.metrics, metrics_address),
        )
