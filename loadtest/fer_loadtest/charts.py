"""Charts as geometry: the template report.html draws them as SVG, so a page needs nothing else and stays small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: Name in the legend.
        points: Pairs of x and y; None interrupts the line.
        color: Colour, as CSS has it.
        width: Width of the line, in px.
        dashes: Lengths of dashes and gaps in px, as SVG has them.
        has_dots: Whether each point is marked.
    """

    name: str
    points: Sequence[Point]
    color: str
    width: float = 1.8
    dashes: str = "none"
    has_dots: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line with words, or a horizontal one.

    Attributes:
        at: Position on its axis.
        name: Words beside it.
        is_horizontal: Whether it marks a value of y.
    """

    at: float
    name: str
    is_horizontal: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart, and where its parts are. Charts over the same time have the same x axis.

    Attributes:
        x_name: Name of the x axis.
        y_name: Name of the y axis.
        lines: Lines, the topmost last.
        marks: Marks across the chart.
        is_log: Whether the y axis is logarithmic.
    """

    x_name: str
    y_name: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    is_log: bool = False

    width: ClassVar[int] = 860
    height: ClassVar[int] = 250
    left: ClassVar[int] = 58
    right: ClassVar[int] = 844
    top: ClassVar[int] = 14
    bottom: ClassVar[int] = 210

    @cached_property
    def values(self) -> list[float]:
        """All values of y that can be drawn; empty where there is nothing to draw."""
        return [y for line in self.lines for _, y in line.points if y is not None and self.can_draw(y)]

    def can_draw(self, y: float | None) -> bool:
        """Return whether a value of y is a number that the axis has."""
        return y is not None and (y > 0 or not self.is_log)

    def x(self, value: float) -> float:
        """Return the horizontal position of a value, in px."""
        return self._place(value, self._x_range, self.left, self.right)

    def y(self, value: float) -> float:
        """Return the vertical position of a value, in px."""
        low, high = self._y_range
        scale: Callable[[float], float] = math.log10 if self.is_log else float
        return self._place(scale(max(value, low)), (scale(low), scale(high)), self.bottom, self.top)

    def path(self, line: Line) -> str:
        """Return a line as the commands of an SVG path."""
        commands, command = [], "M"
        for x, y in line.points:
            if y is None or not self.can_draw(y):
                command = "M"
                continue
            commands.append(f"{command}{self.x(x):.1f} {self.y(y):.1f}")
            command = "L"
        return "".join(commands)

    @property
    def x_ticks(self) -> list[float]:
        """Round numbers on the x axis."""
        return _ticks(*self._x_range, 8)

    @property
    def y_ticks(self) -> list[float]:
        """Round numbers on the y axis."""
        return _log_ticks(*self._y_range) if self.is_log else _ticks(*self._y_range, 5)

    @cached_property
    def _x_range(self) -> tuple[float, float]:
        values = [x for line in self.lines for x, _ in line.points]
        return min(0.0, *values), max(values) or 1.0

    @cached_property
    def _y_range(self) -> tuple[float, float]:
        values = self.values + [mark.at for mark in self.marks if mark.is_horizontal]
        if self.is_log:
            return min(values) * 0.8, max(values) * 1.25
        return min(0.0, *values), (max(values) * 1.08) or 1.0

    @staticmethod
    def _place(value: float, span: tuple[float, float], begin: float, end: float) -> float:
        return begin + (value - span[0]) / ((span[1] - span[0]) or 1.0) * (end - begin)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return about so many round numbers within a range."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(n * step, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within a range; powers alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 5 else (1,)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
