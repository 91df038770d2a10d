"""What a mistyped word was meant to be: commands, options, their values, keys of the configuration file, variables."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_ALIKE: Final = 0.7
"""Share of letters two words have in common, as `difflib` counts. `predct`, `grcp` and `--ouput` are above it for what
they were meant to be; `--gray` and `photo` are below it for everything there is."""


def closest(word: str, known: Iterable[str], alike: float = _ALIKE, *, by_beginning: bool = True) -> str | None:
    """The known word that another one is most like, or None where it is like none.

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
    """`: did you mean WORD?`, to be put behind a message; empty where nothing is alike."""
    found = closest(word, known)
    return f": did you mean {found}?" if found else ""
