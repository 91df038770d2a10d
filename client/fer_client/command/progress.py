"""The bar on standard error while many images are on their way. It is there for people: on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

_EVERY_S: Final = 0.1
_WIDEST_BAR: Final = 40


class Progress:
    """How far a run has come, how fast it is, and how long the rest will take."""

    def __init__(
        self, total: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, *, quiet: bool
    ) -> None:
        """Start the clock.

        Args:
            total: How many images there are.
            stream: Where the bar is drawn; None takes standard error.
            clock: Seconds, as `time.monotonic`.
            quiet: Draw nothing.
        """
        self._total = total
        self._stream = stream or sys.stderr
        self._clock = clock
        self._start_s = clock()
        self._drawn_s = float("-inf")
        self._is_shown = False
        self._is_wanted = not quiet and total > 1 and self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def update(self, done: int, failed: int) -> None:
        """Draw the bar anew, unless that was done a moment ago.

        Args:
            done: How many images are through, with a result or without.
            failed: How many of them are without.
        """
        now_s = self._clock()
        if self._is_wanted and now_s - self._drawn_s >= _EVERY_S:
            columns = shutil.get_terminal_size().columns
            self._stream.write(f"\r{self.line(done, failed, columns)}\x1b[K")
            self._stream.flush()
            self._drawn_s, self._is_shown = now_s, True

    def clear(self) -> None:
        """Take the bar away, so that a line can be written where it is."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_shown, self._drawn_s = False, float("-inf")

    def line(self, done: int, failed: int, columns: int) -> str:
        """The bar as text, at most `columns` - 1 wide: in the last column, terminals wrap."""
        rate = done / max(self._clock() - self._start_s, 1e-9)
        left = _duration((self._total - done) / rate) if done else "-:--"
        failures = f", {failed} failed" if failed else ""
        counts = f"{done}/{self._total}  {done / self._total:4.0%}"
        speed = f"{rate:.1f} images/s  ETA {left}{failures}"
        width = min(_WIDEST_BAR, columns - 1 - len(counts) - len(speed) - 6)
        if width < 5:
            return f"{counts}  {speed}"[: columns - 1]
        filled = width * done // self._total
        return f"{counts}  [{'#' * filled}{'-' * (width - filled)}]  {speed}"


def _duration(seconds: float) -> str:
    """`1:05` or `2:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
