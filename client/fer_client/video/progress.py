"""The bar on standard error while a video is analysed: it is there for people, on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from fer_client.command.progress import Progress
from fer_client.video.clock import format_time

_WIDEST_BAR: Final = 30
_MINUTES_S: Final = 60.0


class VideoProgress(Progress):
    """Where in the video the analysis is, how fast it is, and how long the rest will take."""

    def __init__(
        self,
        frames: int | None,
        length_s: float | None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        quiet: bool,
    ) -> None:
        """Start the clock.

        Args:
            frames: How many will be analysed, or None where nobody knows.
            length_s: How much of the video they last, or None.
            stream: Where the bar is drawn; None takes standard error.
            clock: Seconds, as `time.monotonic`.
            quiet: Draw nothing.
        """
        super().__init__(sys.maxsize if frames is None else frames, stream, clock, quiet=quiet)
        self._frames = frames
        self._length_s = length_s
        self._now = clock
        self._began_s = clock()
        self._time_s = 0.0

    def advance(self, time_s: float, done: int, failed: int) -> None:
        """Draw the bar anew, unless that was done a moment ago.

        Args:
            time_s: Of the latest frame.
            done: How many frames are through, with an answer or without.
            failed: How many of them are without.
        """
        self._time_s = time_s
        self.update(done, failed)

    def line(self, done: int, failed: int, columns: int) -> str:
        """The bar as text, at most `columns` - 1 wide."""
        rate = done / max(self._now() - self._began_s, 1e-9)
        failures = f"  {failed} failed" if failed else ""
        speed = f"{rate:.1f} frames/s"
        if self._frames is None or self._length_s is None:
            return f"{format_time(self._time_s, _MINUTES_S)}  {speed}{failures}"[: columns - 1]
        share = min(done / self._frames, 1.0)
        left_s = (self._frames - done) / rate if done else 0.0
        place = f"{format_time(self._time_s, _MINUTES_S)} of {format_time(self._length_s, _MINUTES_S)}  {share:4.0%}"
        speed = f"{speed}  ETA {format_time(left_s, _MINUTES_S)}{failures}"
        width = min(_WIDEST_BAR, columns - 1 - len(place) - len(speed) - 6)
        if width < 5:
            return f"{place}  {speed}"[: columns - 1]
        filled = int(width * share)
        return f"{place}  [{'#' * filled}{'-' * (width - filled)}]  {speed}"
