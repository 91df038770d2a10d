"""Text for people: harmless lines, whatever a file's name, an error or the terminal's encoding holds; and tables."""

from __future__ import annotations

import difflib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Final

_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Lone surrogates that stand for no byte of a file's name, as damaged JSON may hold."""


def escape_what_cannot_be_encoded() -> None:
    r"""Let standard output and standard error write every text, whatever the terminal's or the locale's encoding.

    A character that the encoding lacks is written as Python would write it (`B\xfccher.png`): losing a result because
    of a name would be worse. JSON is ASCII and files are UTF-8, so neither is affected.
    """
    if sys.stdout is None:  # Closed by whoever started this (`>&-`). Writing to it has to fail as it does elsewhere.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(script: str, message: object) -> None:
    """Print a line to standard error, with the script's name in front.

    Args:
        script: As the user typed it, with its subcommand: `fer-build quantize`.
        message: Written as one line.
    """
    if sys.stderr is not None:  # It is None where it was closed.
        sys.stderr.write(f"{script}: {one_line(str(message))}\n")
        sys.stderr.flush()


def utf8_name(name: str | os.PathLike[str]) -> str:
    """Return a file's name as text: its bytes read as UTF-8, whatever the locale is.

    Bytes that are not UTF-8 become lone surrogates, as `os.fsdecode` makes them, so that the name can be restored.
    """
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def printable(name: str | os.PathLike[str]) -> str:
    r"""Return a file's name as one harmless line for people, whatever it holds.

    Bytes that are not text are written as `\xe9`, so that two names stay two.
    """
    text = _NO_BYTE.sub(lambda match: _escaped(match[0]), os.fspath(name))
    return one_line(text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def one_line(text: str) -> str:
    """Return text whose characters that move the cursor or start a line are written as Python would write them."""
    return "".join(character if _is_harmless(character) else _escaped(character) for character in text)


def _is_harmless(character: str) -> bool:
    """Return whether a character only prints. All spaces do: macOS writes a narrow one into names of screenshots."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


_ALIKE: Final = 0.7
"""Share of letters that two words must have in common, as `difflib` counts, to be taken for one another. `predct`,
`grcp` and `--ouput` are above it for what they were meant to be; `--gray` and `photo` are below it for every word."""


def closest(word: str, known: Iterable[str], alike: float = _ALIKE, *, by_beginning: bool = True) -> str | None:
    """Return the known word that another one is most like, or None where it is like none.

    Args:
        word: As the user typed it.
        known: What could be meant.
        alike: Share of letters in common that is needed, 0..1.
        by_beginning: The first letters of a known word suffice, two at least.
    """
    typed = word.lower().replace("_", "-")
    by_form = {known_word.lower().replace("_", "-"): known_word for known_word in known}
    if found := difflib.get_close_matches(typed, by_form, n=1, cutoff=alike):
        return by_form[found[0]]
    if not by_beginning or len(typed.strip("-")) < 2:
        return None
    return min((by_form[form] for form in by_form if form.startswith(typed)), key=len, default=None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `: did you mean WORD?` for the end of a message; empty where nothing is alike."""
    found = closest(word, known)
    return f": did you mean {found}?" if found else ""


def align(rows: Sequence[Sequence[str]], left_aligned: Collection[int]) -> str:
    """Return rows as lines, in columns as wide as their widest cell.

    Args:
        rows: Cells, as many in each row.
        left_aligned: Indices of the columns that are not aligned on the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index in left_aligned else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
