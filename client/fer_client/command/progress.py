"""The bars on standard error while pictures or a video are processed. They are for people: on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from fer_client.video.clock import format_time

_EVERY_S: Final = 0.1
_WIDEST_BAR: Final = 40
_MINUTES_S: Final = 60.0
"""A span of time that is written in minutes and whole seconds."""


class Progress:
    """How far a run over pictures has come, how fast it is, and how long the rest will take."""

    def __init__(
        self,
        total: int | None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        quiet: bool,
    ) -> None:
        """Start the clock.

        Args:
            total: How many pictures or frames there are; None if that is not known.
            stream: Where the bar is drawn; None takes standard error.
            clock: Returns seconds, as `time.monotonic` does.
            quiet: Draw nothing.
        """
        self._total = total
        self._stream = stream or sys.stderr
        self._clock = clock
        self._start_s = clock()
        self._drawn_s = float("-inf")
        self._is_shown = False
        self._is_wanted = not quiet and total != 1 and self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def update(self, done: int, failed: int) -> None:
        """Draw the bar anew, unless that was done a moment ago.

        Args:
            done: How many pictures or frames are through, with a result or without.
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
        """Return the bar as text, at most `columns` - 1 wide: in the last column, terminals wrap."""
        total = self._total or max(done, 1)
        place = f"{done}/{total}  {done / total:4.0%}"
        return self._with_bar(place, done / total, self._speed(done, failed, "images"), columns)

    def _speed(self, done: int, failed: int, noun: str) -> str:
        """Return the rate, the time left where it can be known, and the number of failures."""
        rate = done / max(self._clock() - self._start_s, 1e-9)
        eta = ""
        if self._total is not None:
            left_s = max(self._total - done, 0) / rate if done else None
            eta = f"  ETA {'-:--' if left_s is None else format_time(left_s, _MINUTES_S)}"
        return f"{rate:.1f} {noun}/s{eta}{f', {failed} failed' if failed else ''}"

    @staticmethod
    def _with_bar(place: str, share: float, speed: str, columns: int) -> str:
        """Return a line with a bar in its middle where there is room for one."""
        width = min(_WIDEST_BAR, columns - 1 - len(place) - len(speed) - 6)
        if width < 5:
            return f"{place}  {speed}"[: columns - 1]
        filled = int(width * share)
        return f"{place}  [{'#' * filled}{'-' * (width - filled)}]  {speed}"


class VideoProgress(Progress):
    """Where in a video the analysis is, how fast it is, and how long the rest will take."""

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
            frames: How many frames will be analysed; None if that is not known.
            length_s: How many seconds of the video they last; None if that is not known.
            stream: Where the bar is drawn; None takes standard error.
            clock: Returns seconds, as `time.monotonic` does.
            quiet: Draw nothing.
        """
        super().__init__(None if length_s is None else frames, stream, clock, quiet=quiet)
        self._length_s = length_s
        self._time_s = 0.0

    def advance(self, time_s: float, done: int, failed: int) -> None:
        """Draw the bar anew, unless that was done a moment ago.

        Args:
            time_s: Time of the latest frame, in seconds.
            done: How many frames are through, with an answer or without.
            failed: How many of them are without.
        """
        self._time_s = time_s
        self.update(done, failed)

    def line(self, done: int, failed: int, columns: int) -> str:
        """Return the bar as text, at most `columns` - 1 wide."""
        speed = self._speed(done, failed, "frames")
        place = format_time(self._time_s, _MINUTES_S)
        if self._total is None or self._length_s is None:
            return f"{place}  {speed}"[: columns - 1]
        share = min(done / self._total, 1.0)
        return self._with_bar(
            f"{place} of {format_time(self._length_s, _MINUTES_S)}  {share:4.0%}", share, speed, columns
        )
