"""The exit codes of all commands, in one table."""

from __future__ import annotations

import enum
from typing import Final


class ExitCode(enum.IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    PARTIAL = 5
    FORBIDDEN = 6
    CHECK_FAILED = 7
    DEFECT = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141


ANY_COMMAND: Final = (ExitCode.OK, ExitCode.USAGE, ExitCode.DEFECT, ExitCode.INTERRUPTED, ExitCode.PIPE_CLOSED)
"""The codes that every command can end with."""

MEANINGS: Final = {
    ExitCode.OK: "done, or nothing to do; no face in a picture is a result too",
    ExitCode.FAILED: "the work cannot be done, or the server failed, is overloaded or serves something else",
    ExitCode.USAGE: "wrong usage or settings, or a file that cannot be read or written",
    ExitCode.UNREACHABLE: "no server answers at the URL, or none that TLS trusts",
    ExitCode.REFUSED: "the server does not accept the image",
    ExitCode.PARTIAL: "some inputs have a result and others do not: standard error says which",
    ExitCode.FORBIDDEN: "the server, or a proxy before it, does not accept the token",
    ExitCode.CHECK_FAILED: "a check failed: an accuracy gate, a threshold, or an answer that is wrong",
    ExitCode.DEFECT: "a bug in the command itself",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C, SIGTERM); what was finished is kept",
    ExitCode.PIPE_CLOSED: "the program that reads the output has stopped, as `head` does",
}
"""What each code means, as help texts and READMEs say it."""


def describe(*codes: ExitCode) -> str:
    """Return the table of exit codes for a help text.

    Args:
        codes: The codes that the command can end with; none for all of them.
    """
    lines = [f"  {code.value:<3}  {MEANINGS[code]}" for code in (codes or ExitCode)]
    return "\n".join(["exit codes:", *lines]) + "\n"
