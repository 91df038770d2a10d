"""The processes of one tritonserver, watched from outside: which of them has ended, and how much memory they hold.

Triton 2.51 neither restarts a dead Python stub nor reports it.
"""

import os
import select
from pathlib import Path
from typing import Final

_STUB: Final = "triton_python_backend_stub"
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory is


class ServerProcesses:
    """A server's guard, the server itself and its Python stubs, each held by a descriptor that tells when it ends."""

    def __init__(self, guard_pid: int, shm_prefix: str) -> None:
        """Find the processes.

        Args:
            guard_pid: The process that is the ancestor of all others.
            shm_prefix: The beginning of the names of the server's shared-memory regions.
        """
        self._shm_prefix = shm_prefix
        self._names: dict[int, str] = {}
        self._pids: list[int] = []
        guard, *others = _descendants(guard_pid)
        for pid in (*others, guard):  # the guard last: it ends because the server has
            try:
                self._names[os.pidfd_open(pid)] = _name(pid)
            except OSError:  # gone already: the probes find out what is missing
                continue
            self._pids.append(pid)

    def wait_for_an_end(self, timeout_s: float) -> str | None:
        """Return the name of a process that has ended, as soon as one has; None if none has within `timeout_s`."""
        ended, _, _ = select.select(list(self._names), [], [], timeout_s)
        return self._names[ended[0]] if ended else None

    def memory_bytes(self) -> int:
        """Return the memory of the processes themselves, and that of their shared-memory regions, counted once."""
        own = sum(_anonymous_bytes(pid) for pid in self._pids)
        return own + sum(_allocated_bytes(region) for region in _SHARED_MEMORY.glob(f"{self._shm_prefix}*"))

    def close(self) -> None:
        """Stop watching."""
        for descriptor in self._names:
            os.close(descriptor)
        self._names.clear()


def _descendants(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = entry.read_text().rpartition(")")[2].split()  # state, parent, ...
        except OSError:  # ended meanwhile
            continue
        children.setdefault(int(after_name[1]), []).append(int(entry.parent.name))
    found = [pid]
    for parent in found:  # grows as it goes
        found += children.get(parent, [])
    return found


def _name(pid: int) -> str:
    """Return `fer_preprocess_0_1` for that instance's stub, else the program's name."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    if not words:  # a zombie
        return f"process {pid}"
    program = Path(words[0]).name
    return words[-2] if program == _STUB else program


def _anonymous_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # ended
        return 0
    sizes = (line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:"))
    return 1024 * int(next(sizes, "0"))


def _allocated_bytes(region: Path) -> int:
    try:
        return 512 * region.stat().st_blocks
    except FileNotFoundError:
        return 0
