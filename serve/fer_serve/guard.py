"""Keep one tritonserver, stop it in order, and leave nothing of it behind.

`fer_serve.server` starts it:

    python -I -S guard.py WORK_DIR SHM_PREFIX EXIT_TIMEOUT_S HTTP_PORT LOG_FILE COMMAND...

The guard stands between the launcher and the server because someone has to clean up when the launcher is killed. It
holds the read end of a pipe on its standard input; the launcher holds the other end. When the pipe closes, for
whatever reason, the server is stopped, within EXIT_TIMEOUT_S seconds or the number that the launcher has written
before. When the server ends, for whatever reason, its Python stubs are killed, and its shared-memory regions and work
folder removed: Triton 2.51 does none of it if it is killed itself.

Standard library only, and run as a file with `python -I -S`, so that the user's environment has no say in it.
"""

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

_STACK_BYTES = 1 << 30
"""A JSON body of deeply nested arrays recurses in Triton's parser; with the usual 8 MiB of stack 195 kB of it kill the
server, with 1 GiB five million levels do not. Only address space until it is used."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SYS_PIDFD_GETFD = 438  # asm/unistd.h, the same on every architecture; Linux 5.6
_TCP_ESTABLISHED = "01"  # net/tcp_states.h
_TCP_INFO_LAST_SENT_AND_RECEIVED = struct.Struct("44x I 4x I")  # linux/tcp.h: tcpi_last_data_sent, _recv, in ms

_DRAIN_EVERY_S = 0.02
_ALL_ANSWERED = b"All models are stopped, unloading models"
"""What Triton 2.51 logs when no request is under way any more. It unloads its models then, for seconds in which gRPC
clients are told that they do not exist; nothing is lost if it is killed instead."""
_LAST_ANSWERS_S = 0.2
"""The time for answers that are not yet sent."""
_LONGEST_TICK_MS = 10
"""The kernel tells when something was last sent or received in ticks of its clock, of 1 to 10 ms."""
_UPLOAD_PAUSE_MS = 200
"""A client that has sent a part of a request and then nothing for so long is not waited for any longer."""


def main() -> NoReturn:
    """Run the command until it ends or the launcher does, and exit with the command's exit code."""
    work_dir, shm_prefix, exit_timeout_s, http_port, log_file, *command = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle; it closes the pipe
    signal.signal(signal.SIGTERM, _interrupt)
    server = None
    try:
        with Path(log_file).open("ab") as log, Path(log_file).open("rb") as said:
            said.seek(0, os.SEEK_END)
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a process group of its own, so that it can be killed as one
                preexec_fn=_prepare_server,  # this process has one thread
            )
            time_to_stop_s = _wait(server, float(exit_timeout_s))
            if time_to_stop_s is not None:
                _stop(server, time_to_stop_s, int(http_port), said)
    finally:
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
        for region in Path("/dev/shm").glob(f"{shm_prefix}*"):  # noqa: S108  # where POSIX shared memory is
            region.unlink(missing_ok=True)
        shutil.rmtree(work_dir, ignore_errors=True)
    code = server.wait()
    sys.exit(code if code >= 0 else 128 - code)


def _wait(server: "subprocess.Popen[bytes]", exit_timeout_s: float) -> "float | None":
    """Wait until the server ends, or return the seconds that it may take to stop once it is told to."""
    server_ended = os.pidfd_open(server.pid)
    try:
        ready, _, _ = select.select([sys.stdin.fileno(), server_ended], [], [])
    except InterruptedError:
        return exit_timeout_s
    if server_ended in ready:
        return None
    written = os.read(sys.stdin.fileno(), 32)
    return float(written) if written else exit_timeout_s


def _stop(server: "subprocess.Popen[bytes]", exit_timeout_s: float, http_port: int, said: BinaryIO) -> None:
    """Tell the server to stop, and return when it has answered all that it had accepted, or its time is up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.terminate()
    server_ended = os.pidfd_open(server.pid)
    deadline = time.monotonic() + exit_timeout_s
    while time.monotonic() < deadline and not select.select([server_ended], [], [], _DRAIN_EVERY_S)[0]:
        if _ALL_ANSWERED in said.read():
            time.sleep(_LAST_ANSWERS_S)
            return
        with contextlib.suppress(OSError):  # it has ended meanwhile, or this is not allowed: it stops later then
            _let_go_of_clients(server.pid, server_ended, http_port)


def _let_go_of_clients(pid: int, pidfd: int, http_port: int) -> None:
    """End the server's HTTP connections that have no request under way, or one that has arrived whole.

    Triton 2.51 waits for the clients to close them, and goes on answering on them for as long as they do not, until its
    time is up; then it drops what is under way. So the receiving side of these connections is closed in its place: a
    request that has been received is answered before the server sees the end.
    """
    connections = set(_connections_of(http_port))
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if str(entry.readlink()) in connections:
                _stop_receiving(pidfd, int(entry.name))


def _connections_of(port: int) -> Iterator[str]:
    """Yield the name in /proc/PID/fd of each established TCP connection with this local port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
        if state == _TCP_ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
            yield f"socket:[{inode}]"


def _stop_receiving(pidfd: int, descriptor: int) -> None:
    ours = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    if ours < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    with socket.socket(fileno=ours) as connection:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_LAST_SENT_AND_RECEIVED.size)
        sent_ms, received_ms = _TCP_INFO_LAST_SENT_AND_RECEIVED.unpack(info)
        # An answer in the same tick as its request looks like a request in the same tick as the last answer. The rest
        # of the latter, if not all of it is there, would have followed by the next tick.
        is_idle = sent_ms < received_ms or sent_ms == received_ms > _LONGEST_TICK_MS
        if is_idle or received_ms > _UPLOAD_PAUSE_MS:
            connection.shutdown(socket.SHUT_RD)


def _interrupt(*_: object) -> NoReturn:
    raise InterruptedError


def _prepare_server() -> None:
    """Prepare the server between fork and exec: if the guard itself is killed, the kernel tells the server to stop.

    Under SCHED_BATCH, which its stubs inherit, a process that wakes up waits for its turn instead of interrupting one
    that is at work: between detection, classifier and server that happened four times an image, and each time the cache
    was another's.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    with contextlib.suppress(OSError):  # a container may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    allowed = _STACK_BYTES if hard == resource.RLIM_INFINITY else min(_STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (allowed, hard))


if __name__ == "__main__":
    main()
