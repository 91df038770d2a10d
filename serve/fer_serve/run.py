"""The command `fer-serve run`: the model on this machine, on loopback unless told otherwise, kept alive until Ctrl-C.

    fer-serve                                          # 8000 HTTP, 8001 gRPC, 8002 metrics
    fer-serve --free-ports -- fer-client predict a.jpg # while a command runs: see FER_URL

Without a command, the server is watched, and restarted when one of its processes has died, when it holds too much
memory, or when a real inference, sent every two seconds, is answered wrongly, or three in a row get no answer: a Triton
whose Python stubs have died still reports itself ready.
"""

import argparse
import contextlib
import ipaddress
import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NoReturn

from fer_build.detector_options import add_detector_options, read_detector_options
from fer_build.release import SERVED_ONNX, SERVED_RUNTIME
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import say
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_runtimes import RUNTIMES
from fer_serve.probe import Problem
from fer_serve.server import LOOPBACK, EmbeddedTriton, Ports, temporary_repository

_SCRIPT: Final = "fer-serve"
_PROBE_EVERY_S: Final = 2.0
_PROBE_TIMEOUT_S: Final = 12.0
"""Longer than the 10 s that fer_preprocess lets a request wait: a busy server answers by then that it is busy."""
_SILENT_PROBES: Final = 3
"""A wrong answer means a broken server. No answer may only mean a busy machine, so that takes more than one."""
_DEFAULT_MEMORY_MIB: Final = 1024
_DEFAULT_MEMORY_PER_INSTANCE_MIB: Final = 2048
"""Twice what the largest accepted images need, decoded by all instances of both preprocessing models at once."""
_WATCH_EVERY_S: Final = 0.1
_BROKEN_EXIT_TIMEOUT_S: Final = 2.0
"""The time that a broken server gets to answer. Until it is gone, a part of the requests fails."""
_COMMAND_NOT_FOUND: Final = 127
"""The exit code that shells use for it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-serve run` and return its exit code: 0 once stopped, or the given command's own."""
    options = _parse(arguments)
    return run_command(_SCRIPT, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> int:
    try:
        with contextlib.ExitStack() as cleanup:
            repository = options.repository or cleanup.enter_context(
                temporary_repository(
                    options.onnx,
                    runtime=options.runtime or SERVED_RUNTIME,
                    detector=read_detector_options(options),
                )
            )
            server = EmbeddedTriton(
                repository,
                options.ports,
                options.log,
                options.exit_timeout,
                address=options.address,
                metrics_address=options.metrics_address,
            )
            cleanup.callback(server.stop)
            return _serve(server, options)
    except KeyboardInterrupt:
        if options.command:
            raise
        say(_SCRIPT, "stopped")
        return ExitCode.OK


def supervise(server: EmbeddedTriton, memory_limit_bytes: int) -> NoReturn:
    """Watch and probe a running server for ever, and restart it when it is broken.

    Raises:
        FerServeError: A restart failed.
    """
    prober = ThreadPoolExecutor(1)  # a busy server answers a probe late; a dead process is to be noticed at once
    try:
        while True:
            say(_SCRIPT, f"restarting the server: {_wait_for_a_problem(server, prober, memory_limit_bytes)}")
            started = time.monotonic()
            server.restart(_BROKEN_EXIT_TIMEOUT_S)
            say(_SCRIPT, f"ready again after {time.monotonic() - started:.1f} s")
    finally:
        prober.shutdown(wait=False, cancel_futures=True)


def _wait_for_a_problem(server: EmbeddedTriton, prober: ThreadPoolExecutor, memory_limit_bytes: int) -> Problem:
    silent = 0
    while True:
        if broken := server.wait_until_broken(_PROBE_EVERY_S, memory_limit_bytes):
            return broken
        probe = prober.submit(_probe_each_instance, server)
        while not probe.done():
            if broken := server.wait_until_broken(_WATCH_EVERY_S, memory_limit_bytes):
                return broken
        problem = probe.result()
        silent = silent + 1 if problem and problem.is_silence else 0
        if problem and silent in (0, _SILENT_PROBES):
            return problem


def _probe_each_instance(server: EmbeddedTriton) -> Problem | None:
    """Probe once for each instance. Triton takes them in turn, so a dead one of several is met."""
    probes = (server.probe(_PROBE_TIMEOUT_S) for _ in range(server.instances))
    return next(filter(None, probes), None)


def _serve(server: EmbeddedTriton, options: argparse.Namespace) -> int:
    for flag, address in (("--address", options.address), ("--metrics-address", options.metrics_address)):
        if not ipaddress.IPv4Address(address).is_loopback:
            say(
                _SCRIPT,
                f"{flag} {address}: whoever reaches this address can use the server; Triton 2.51 asks for no password, "
                "encrypts nothing and does not limit a request's body. Let only a gateway or a container's network in",
            )
    started = time.monotonic()
    server.start()
    say(_SCRIPT, f"ready in {time.monotonic() - started:.1f} s")
    if options.command:
        return _run_command(options.command, server)
    print(
        f"  HTTP     http://{server.http_url}\n  gRPC     grpc://{server.grpc_url}\n"
        f"  metrics  {server.metrics_url}\n  log      {server.log_file}\nPress Ctrl-C to stop.",
        flush=True,
    )
    memory_limit_mib = options.memory_limit or _DEFAULT_MEMORY_MIB + server.instances * _DEFAULT_MEMORY_PER_INSTANCE_MIB
    supervise(server, memory_limit_mib << 20)


def _run_command(command: list[str], server: EmbeddedTriton) -> int:
    """Run the given command while the server is not supervised: it is to see failures, not a server that comes back."""
    urls = {
        "FER_URL": f"http://{server.http_url}",
        "FER_GRPC_URL": f"grpc://{server.grpc_url}",
        "FER_METRICS_URL": server.metrics_url,
    }
    try:
        code = subprocess.call(command, env=os.environ | urls)
    except OSError as error:
        say(_SCRIPT, f"cannot run {command[0]}: {error.strerror}")
        return _COMMAND_NOT_FOUND
    return code if code >= 0 else 128 - code  # as a shell reports a signal


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not 0..65535")
    return port


def _mebibytes(text: str) -> int:
    mebibytes = int(text)
    if mebibytes < 1:
        raise argparse.ArgumentTypeError(f"{mebibytes} is not 1 or more")
    return mebibytes


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is no IPv4 address: give one of this machine's, or 0.0.0.0 for all of them"
        ) from None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = subcommand_parser(
        f"{_SCRIPT} run",
        description=(
            "Serve the expression model with the embedded Triton until Ctrl-C, on 127.0.0.1 by default.\n"
            "With a COMMAND: serve while it runs, and end with its exit code."
        ),
        examples=(
            "  fer-serve                                            # 8000 HTTP, 8001 gRPC, 8002 metrics\n"
            "  fer-serve --repository repository --http-port 9000\n"
            "  fer-serve --free-ports -- fer-client predict a.jpg"
        ),
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.INTERRUPTED),
    )
    _add_model_options(parser)
    _add_network_options(parser)
    _add_process_options(parser)
    parser.add_argument(
        "command",
        nargs="*",
        metavar="COMMAND",
        help="run this while serving, with FER_URL, FER_GRPC_URL and FER_METRICS_URL set, then stop",
    )
    options = parser.parse_args(arguments)
    if options.repository and options.runtime:
        parser.error("--repository says its own runtime: leave --runtime out")
    if options.repository and read_detector_options(options):
        parser.error("--repository says itself how faces are searched: leave the options of the detector out")
    wanted = Ports(options.http_port, options.grpc_port, options.metrics_port)
    options.ports = Ports() if options.free_ports else wanted
    return options


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--repository", type=Path, metavar="DIR", help="serve this assembled repository")
    models.add_argument(
        "--onnx",
        type=Path,
        default=SERVED_ONNX,
        metavar="FILE",
        help="serve this classifier; default: the released one",
    )
    parser.add_argument("--runtime", choices=RUNTIMES, help=f"runs the classifier; default: {SERVED_RUNTIME}")
    add_detector_options(parser)


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(f"--{name}-port", type=_port, default=port, metavar="PORT", help="default: %(default)s")
    parser.add_argument("--free-ports", action="store_true", help="choose three free ports instead")
    parser.add_argument(
        "--address",
        type=_address,
        default=LOOPBACK,
        metavar="IPV4",
        help="serve HTTP and gRPC on this address; default: %(default)s, for this machine only. 0.0.0.0, all "
        "addresses, is for containers: everybody who reaches it can use the server, without password or encryption",
    )
    parser.add_argument(
        "--metrics-address",
        type=_address,
        default=LOOPBACK,
        metavar="IPV4",
        help="the same for the metrics; default: %(default)s, whatever --address is",
    )


def _add_process_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the server's log to this file")
    parser.add_argument(
        "--exit-timeout",
        type=int,
        default=10,
        metavar="S",
        help="seconds that requests in flight get to finish; default: %(default)s",
    )
    parser.add_argument(
        "--memory-limit",
        type=_mebibytes,
        metavar="MIB",
        help="restart the server when it holds more, shared memory included; default: "
        f"{_DEFAULT_MEMORY_MIB} + {_DEFAULT_MEMORY_PER_INSTANCE_MIB} for each instance of the largest model",
    )
