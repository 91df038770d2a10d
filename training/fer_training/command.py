"""What the room's commands share: an error that the user can put right is one line on stderr and an exit code."""

import io
import sys
from collections.abc import Callable, Mapping
from typing import Final

from fer_training.errors import TrainingRoomError

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def run_command(
    name: str,
    work: Callable[[], None],
    *,
    exit_codes: Mapping[type[Exception], int] | None = None,
    when_interrupted: str = "interrupted",
) -> int:
    """Does a command's work.

    Args:
        name: of the command, which begins the line.
        work: what to do.
        exit_codes: of errors that only this command has, a subclass before its base. A `TrainingRoomError`, and a file
            or folder that can't be read or written, give 2.
        when_interrupted: what to say after Ctrl-C.

    Returns:
        0, 2, one of `exit_codes`, or 130 after Ctrl-C. Any other error is a mistake of the room's: it is raised.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # File names need not suit the terminal.
        sys.stdout.reconfigure(errors="backslashreplace")
    known: dict[type[Exception], int] = {**(exit_codes or {}), TrainingRoomError: EXIT_USAGE, OSError: EXIT_USAGE}
    try:
        work()
    except KeyboardInterrupt:
        message, exit_code = when_interrupted, EXIT_INTERRUPTED
    except tuple(known) as error:
        message, exit_code = _describe(error), next(known[kind] for kind in known if isinstance(error, kind))
    else:
        return 0
    print(f"{name}: {message}", file=sys.stderr)
    return exit_code


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
