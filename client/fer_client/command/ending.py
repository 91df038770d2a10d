"""How `fer-client` ends: exit codes, and errors as one line on standard error."""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from typing import Final

from fer_client._errors import (
    AuthenticationError,
    FerClientError,
    ImageRefusedError,
    ImageUnreadableError,
    ServerUnreachableError,
)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_REFUSED: Final = 4
EXIT_PARTIAL: Final = 5
EXIT_FORBIDDEN: Final = 6
EXIT_DEFECT: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE: Final = 141

EXIT_CODES: Final = f"""\
exit codes:
  {EXIT_OK}    answered; a picture without a face is answered too
  {EXIT_FAILED}    the server failed, is overloaded, took too long, or serves something else
  {EXIT_USAGE}    wrong usage or settings, or a file that cannot be read or written
  {EXIT_UNREACHABLE}    no server answers at the URL, or none that TLS trusts
  {EXIT_REFUSED}    the server does not accept the image
  {EXIT_PARTIAL}    some images have a result and others do not: standard error says which
  {EXIT_FORBIDDEN}    the server, or what stands before it, does not accept the token
  {EXIT_DEFECT}   a defect of fer-client itself
  {EXIT_INTERRUPTED}  interrupted (Ctrl-C, SIGTERM); what was answered is kept
  {EXIT_PIPE}  whatever was reading the output has stopped, as `| head` does
Where no image has a result, the code is that of the first one.
"""

_EXIT_CODE_OF: Final[tuple[tuple[type[FerClientError], int], ...]] = (
    (AuthenticationError, EXIT_FORBIDDEN),
    (ServerUnreachableError, EXIT_UNREACHABLE),
    (ImageRefusedError, EXIT_REFUSED),
    (ImageUnreadableError, EXIT_USAGE),
)
"""The first class that fits decides; any other error of the client is EXIT_FAILED."""


_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Lone surrogates that stand for no byte of a file's name. They come from JSON that is not what it should be."""


class CommandError(Exception):
    """A line for the user, and the exit code that goes with it."""

    def __init__(self, message: str, exit_code: int = EXIT_USAGE) -> None:
        """Keep the code beside the message."""
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: FerClientError) -> int:
    """The documented exit code of an error of the client."""
    return next((code for kind, code in _EXIT_CODE_OF if isinstance(error, kind)), EXIT_FAILED)


def escape_what_cannot_be_encoded() -> None:
    r"""Let standard output and standard error write every text, whatever the terminal's or the locale's encoding.

    A character that the encoding lacks is written as Python would write it (`B\xfccher.png`): losing a result because
    of a name would be worse. JSON is ASCII and files are UTF-8, so neither has anything to escape.
    """
    if sys.stdout is None:  # Closed by whoever started this (`>&-`). Writing to it is to fail as it does elsewhere.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(message: object) -> None:
    """Print a line to standard error, with the command's name in front."""
    if sys.stderr is not None:  # It is None where it was closed.
        sys.stderr.write(f"fer-client: {one_line(str(message))}\n")
        sys.stderr.flush()


def utf8_name(name: str | os.PathLike[str]) -> str:
    """A file's name as text: its bytes read as UTF-8 whatever the locale is.

    Bytes that are no UTF-8 stay what `os.fsdecode` makes of them under UTF-8, lone surrogates, so that the name can be
    had back.
    """
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def printable(name: str | os.PathLike[str]) -> str:
    r"""A file's name for people: it need not be text and may hold anything; what is printed is one harmless line.

    Bytes that are no text are written as `\xe9`, so that two names stay two.
    """
    text = _NO_BYTE.sub(lambda match: _escaped(match[0]), os.fspath(name))
    return one_line(text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def one_line(text: str) -> str:
    """Text without what moves the cursor or starts a line: each such character as Python would write it."""
    return "".join(character if _is_harmless(character) else _escaped(character) for character in text)


def _is_harmless(character: str) -> bool:
    """Whether a character only prints. Spaces of all widths do: macOS writes a narrow one into names of screenshots."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
