"""What the room's commands have in common: how they end. Exit status 2 is argparse's, for a command typed wrongly."""

import io
import sys
from collections.abc import Callable
from typing import Final

from fer_build.errors import FerBuildError, GateError

DONE: Final = 0
FAILED: Final = 1
GATE_FAILED: Final = 3
INTERRUPTED: Final = 130

EXIT_STATUSES: Final = (
    "Exit status: 0 done or nothing to do, 1 it can't be done, 2 the command is wrong, 3 a gate on accuracy failed."
)


def run_command(name: str, work: Callable[[], None], *expected: type[Exception]) -> int:
    """Does a command's work. Returns its exit status, and says on standard error what went wrong.

    Args:
        name: as the user typed it: `fer_build.quantize`.
        work: the rest.
        expected: further errors whose message is for people.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # File names need not suit the terminal.
        sys.stdout.reconfigure(errors="backslashreplace")
    reported: tuple[type[Exception], ...] = (FerBuildError, OSError, *expected)
    try:
        work()
    except reported as error:
        print(f"{name}: {error}", file=sys.stderr)
        return GATE_FAILED if isinstance(error, GateError) else FAILED
    except MemoryError:
        print(f"{name}: too little memory", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing half-made is left", file=sys.stderr)
        return INTERRUPTED
    return DONE
