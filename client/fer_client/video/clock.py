"""Times within a video: those of its frames, whose stamps are believed within bounds; and times as people read them."""

from __future__ import annotations

from typing import Final, NamedTuple

_LONGEST_STEP_S: Final = 60.0
_LONGEST_STEP_INTERVALS: Final = 10.0
"""A step that is longer than both, in seconds and in usual intervals, is a jump of the clock. Shorter steps are
believed: recordings of a screen or by a motion sensor do pause."""
_SHORTEST_STEP_S: Final = 0.0004
"""2,500 frames/s, beyond any slow motion. A smaller step is a clock that does not run."""


class Jump(NamedTuple):
    """A place where time stamps are not believed.

    Attributes:
        at_s: Time of the frame before the jump, in seconds from the video's start.
        step_s: By how many seconds the stamps go on or back there.
    """

    at_s: float
    step_s: float


class StampChoice:
    """Chooses of a frame's two time stamps the one that goes back less often; if both do alike, the time of showing.

    AVI, for one, does not store when frames are shown, and FFmpeg's guess at it may be wrong for whole files. Source:
    guess_correct_pts in FFmpeg's libavcodec/decode.c.
    """

    def __init__(self) -> None:
        """Start before the first frame."""
        self._last: list[int | None] = [None, None]
        self._steps_back = [0, 0]

    def choose(self, shown: int | None, decoded: int | None) -> int | None:
        """Choose a frame's time stamp.

        Args:
            shown: When the frame is shown (FFmpeg's pts), in ticks; None if the file does not say.
            decoded: When the frame is decoded (dts), in ticks; None if the file does not say.
        """
        for index, stamp in enumerate((shown, decoded)):
            last = self._last[index]
            if stamp is not None:
                self._steps_back[index] += last is not None and stamp <= last
                self._last[index] = stamp
        if self._last[1] is not None and self._steps_back[0] > self._steps_back[1]:
            return decoded  # Also where it is missing, as of a file's last frames.
        return decoded if shown is None else shown


class FrameClock:
    """Gives each frame its time from its time stamp, and closes the jumps between stamps.

    The first frame is at 0. Times grow from frame to frame: a frame without a stamp, or with one that is not believed,
    comes one usual interval after the frame before. Where stamps go on from another place, as in joined recordings,
    they are believed again from there on; a single wrong stamp moves no other frame.

    Attributes:
        jumps: How many steps were not believed.
        first_jump: The first of them, or None.
    """

    def __init__(self, interval_s: float) -> None:
        """Start before the first frame.

        Args:
            interval_s: The usual time between two frames, in seconds.
        """
        self.jumps = 0
        self.first_jump: Jump | None = None
        self._interval_s = interval_s
        self._longest_s = max(_LONGEST_STEP_S, _LONGEST_STEP_INTERVALS * interval_s)
        self._last_s: float | None = None
        self._offset_s: float | None = None
        self._other_offset_s: float | None = None

    def time_s(self, stamp_s: float | None) -> float:
        """Give the next frame's time, in seconds from the first frame.

        Args:
            stamp_s: What the file says, in seconds from anywhere; None where it says nothing.
        """
        if self._last_s is None:
            self._last_s = 0.0
        elif stamp_s is None:
            self._last_s += self._interval_s
        else:
            self._last_s = self._after(self._last_s, stamp_s)
        if self._offset_s is None and stamp_s is not None:
            self._offset_s = self._last_s - stamp_s
        return self._last_s

    def restart(self, pause_s: float) -> None:
        """Expect stamps of another clock, as after a connection was lost, `pause_s` seconds after the last frame."""
        if self._last_s is not None:
            self._last_s += max(pause_s - self._interval_s, 0.0)
        self._offset_s = self._other_offset_s = None

    def _after(self, last_s: float, stamp_s: float) -> float:
        expected_s = last_s + self._interval_s
        if self._offset_s is None:
            return expected_s
        for offset_s in (self._offset_s, self._other_offset_s):
            if offset_s is not None and _SHORTEST_STEP_S <= stamp_s + offset_s - last_s <= self._longest_s:
                self._offset_s, self._other_offset_s = offset_s, None
                return stamp_s + offset_s
        step_s = stamp_s + self._offset_s - last_s
        if -self._interval_s < step_s <= 0:  # Two frames with one stamp, or a stumble: half a step, and nothing moves.
            return last_s + self._interval_s / 2
        self.jumps += 1
        self.first_jump = self.first_jump or Jump(last_s, step_s)
        self._other_offset_s = expected_s - stamp_s
        return expected_s


def format_time(time_s: float, span_s: float) -> str:
    """Minutes and seconds as players show them, `1:05` or `2:01:05`; with tenths in a video shorter than a minute.

    Args:
        time_s: Seconds from the video's start.
        span_s: How long the whole is, in seconds, for one precision throughout.
    """
    tenths = round(10 * max(time_s, 0.0)) if span_s < 60 else 10 * round(max(time_s, 0.0))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 10:04.1f}" if span_s < 60 else f"{rest // 10:02}"
    return f"{hours}:{minutes:02}:{seconds}" if hours else f"{minutes}:{seconds}"
