"""Runs a command: an error becomes one line and an exit code, SIGTERM does what Ctrl-C does."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from fer_commands.exit_codes import ExitCode
from fer_commands.messages import escape_what_cannot_be_encoded, one_line, printable, say


class CommandError(Exception):
    """A line for the user, and the exit code that goes with it.

    A room's own errors need not derive from it: `run_command` reports every exception with an attribute `exit_code`.
    """

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.USAGE) -> None:
        """Keep the code beside the message."""
        super().__init__(message)
        self.exit_code = exit_code


class DetailedError(Exception):
    """An error of a room that may have lines for people beneath its message: a table, or the end of a log.

    Attributes:
        exit_code: The exit code of a command that ends with this error.
        details: The lines; empty for most errors.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        """Keep the details beside the message."""
        super().__init__(message)
        self.details = tuple(details)

    def __str__(self) -> str:
        """Return the message and the details, a line each."""
        return "\n".join([*map(str, self.args), *self.details])


def run_command(
    script: str, work: Callable[[], int | None], *, debug: bool = False, when_interrupted: str = "interrupted"
) -> int:
    """Do a command's work and say on standard error what went wrong.

    Args:
        script: As the user typed it, with its subcommand: `fer-build quantize`.
        work: Does the command's work and returns its exit code; None is `ExitCode.OK`.
        debug: Whether errors are shown with their traceback.
        when_interrupted: What to say after Ctrl-C or SIGTERM; empty says nothing.

    Returns:
        The exit code.
    """
    escape_what_cannot_be_encoded()
    try:
        with terminable():
            code = work()
            sys.stdout.flush()
        return ExitCode.OK if code is None else code
    except KeyboardInterrupt:
        if when_interrupted:
            say(script, when_interrupted)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return ExitCode.PIPE_CLOSED
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = _describe(script, error)
        say(script, message)
        if isinstance(error, DetailedError) and sys.stderr is not None:
            sys.stderr.writelines(f"{one_line(line)}\n" for line in error.details)
        return code


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM, which stops jobs and containers, does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # Only there can handlers be set.
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _describe(script: str, error: Exception) -> tuple[str, int]:
    """Return the line and the exit code for an error."""
    if isinstance(error, DetailedError):
        return str(error.args[0]), error.exit_code
    exit_code = getattr(error, "exit_code", None)
    if isinstance(exit_code, int):
        return str(error), exit_code
    if isinstance(error, OSError) and error.filename is not None:
        return f"{printable(error.filename)}: {error.strerror}", ExitCode.USAGE
    if isinstance(error, OSError):  # Without a file's name it is standard output that failed.
        _discard_output()
        return f"cannot write the output: {error.strerror or error}", ExitCode.USAGE
    if isinstance(error, MemoryError):
        return "too little memory", ExitCode.FAILED
    name = script.partition(" ")[0]
    what = f"{type(error).__name__}: {error}"
    return f"this is a defect of {name}: {what}; please report it with what --debug shows", ExitCode.DEFECT


def _discard_output() -> None:
    """Drop what is still buffered: Python would try to write it again when it ends, and fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
