"""Keeps one tritonserver, and leaves nothing of it behind.

Started by `fer_build.server`, not by hand:

    python -I -S guard.py WORK_DIR SHM_PREFIX EXIT_TIMEOUT_S LOG_FILE COMMAND...

The guard stands between the launcher and the server because someone has to clean up when the launcher is killed. It
holds the read end of a pipe on its standard input; the launcher holds the other end and never writes. When the pipe
closes, for whatever reason, the server is stopped. When the server ends, for whatever reason, its Python stubs are
killed, and its shared-memory regions and work folder removed: Triton 2.51 does none of it if it is killed itself.

Standard library only, and run as a file with `python -I -S`, so that the user's environment has no say in it.
"""

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

_STACK_BYTES = 1 << 30
"""A JSON body of deeply nested arrays recurses in Triton's parser; with the usual 8 MiB of stack 195 kB of it kill the
server, with 1 GiB five million levels don't. Only address space until it is used."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> NoReturn:
    """Runs the command until it ends or the launcher does; exits with the command's exit status."""
    work_dir, shm_prefix, exit_timeout_s, log_file, *command = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle; it closes the pipe
    signal.signal(signal.SIGTERM, _interrupt)
    server = None
    try:
        with Path(log_file).open("ab") as log:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a process group of its own, so that it can be killed as one
                preexec_fn=_prepare_server,  # this process has one thread
            )
        _wait(server, float(exit_timeout_s))
    finally:
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
        for region in Path("/dev/shm").glob(f"{shm_prefix}*"):  # noqa: S108  # where POSIX shared memory is
            region.unlink(missing_ok=True)
        shutil.rmtree(work_dir, ignore_errors=True)
    code = server.wait()
    sys.exit(code if code >= 0 else 128 - code)


def _wait(server: "subprocess.Popen[bytes]", exit_timeout_s: float) -> None:
    """Until the server ends, or the launcher's end of the pipe closes and the server has had its time to stop."""
    server_ended = os.pidfd_open(server.pid)
    with contextlib.suppress(InterruptedError):
        select.select([sys.stdin.fileno(), server_ended], [], [])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.terminate()
    select.select([server_ended], [], [], exit_timeout_s)


def _interrupt(*_: object) -> NoReturn:
    raise InterruptedError


def _prepare_server() -> None:
    """Between fork and exec: should the guard itself be killed, the kernel tells the server to stop."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    allowed = _STACK_BYTES if hard == resource.RLIM_INFINITY else min(_STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (allowed, hard))


if __name__ == "__main__":
    main()
