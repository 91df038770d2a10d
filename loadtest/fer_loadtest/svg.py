"""Charts as SVG elements within a page, which needs nothing else and stays small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from markupsafe import Markup, escape

_WIDTH: Final = 860
_HEIGHT: Final = 250
_LEFT: Final = 58
_RIGHT: Final = 16
_TOP: Final = 14
_BOTTOM: Final = 40

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: Name in the legend.
        points: Pairs of x and y; None interrupts the line.
        color: Colour, as CSS has it.
        width: Width of the line, in px.
        dashes: Lengths of dashes and gaps in px, as SVG has them; empty for a solid line.
        has_dots: Whether each point is marked.
    """

    name: str
    points: Sequence[Point]
    color: str
    width: float = 1.8
    dashes: str = ""
    has_dots: bool = False

    @property
    def stroke(self) -> str:
        """Attributes of an SVG path that draws like this line."""
        dashes = f' stroke-dasharray="{self.dashes}"' if self.dashes else ""
        return f'stroke="{self.color}" stroke-width="{self.width:g}"{dashes}'


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
    """What to draw.

    Attributes:
        x_name: Name of the x axis.
        y_name: Name of the y axis.
        lines: Lines, the topmost first.
        marks: Marks across the chart.
        is_log: Whether the y axis is logarithmic.
    """

    x_name: str
    y_name: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = field(default_factory=tuple)
    is_log: bool = False


def draw(chart: Chart) -> Markup:
    """Return the chart as a `<figure>` element; a sentence where there is nothing to draw."""
    points = [(x, y) for line in chart.lines for x, y in line.points if y is not None and (y > 0 or not chart.is_log)]
    if not points:
        return Markup("<p>Nothing to draw: nothing was answered.</p>")
    all_x = [x for line in chart.lines for x, _ in line.points]  # Charts over the same time have the same axis.
    x_low, x_high = min(0.0, *all_x), max(all_x) or 1.0
    horizontal = [mark.at for mark in chart.marks if mark.is_horizontal]
    y_low, y_high = _y_range([y for _, y in points] + horizontal, chart.is_log)
    to_x = _scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT)
    to_y = _scale(_log(y_low, chart), _log(y_high, chart), _HEIGHT - _BOTTOM, _TOP)

    def place_y(value: float) -> float:
        return to_y(_log(max(value, y_low), chart))

    parts = [*_axes(chart, (x_low, x_high), (y_low, y_high), to_x, place_y)]
    parts += [_mark(mark, to_x, place_y) for mark in chart.marks]
    parts += [_line(line, to_x, place_y, is_log=chart.is_log) for line in reversed(chart.lines)]
    label = escape(f"{chart.y_name} by {chart.x_name}")
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return Markup(f"<figure>{svg}{_legend(chart.lines)}</figure>")  # noqa: S704 - all names in it are escaped


def _axes(
    chart: Chart,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    to_x: Callable[[float], float],
    to_y: Callable[[float], float],
) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for value in _log_ticks(*y_range) if chart.is_log else _ticks(*y_range):
        y = to_y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in _ticks(*x_range, 8):
        parts.append(f'<text x="{to_x(value):.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    parts.append(f'<text x="{right}" y="{bottom + 32}" text-anchor="end">{escape(chart.x_name)}</text>')
    middle = (_TOP + bottom) / 2
    turned = f'transform="rotate(-90 14 {middle})" text-anchor="middle"'
    parts.append(f'<text x="14" y="{middle}" {turned}>{escape(chart.y_name)}</text>')
    return parts


def _line(line: Line, to_x: Callable[[float], float], to_y: Callable[[float], float], *, is_log: bool) -> str:
    commands, is_down = [], False
    dots = []
    for x, y in line.points:
        if y is None or (is_log and y <= 0):
            is_down = False
            continue
        commands.append(f"{'L' if is_down else 'M'}{to_x(x):.1f} {to_y(y):.1f}")
        is_down = True
        if line.has_dots:
            title = escape(f"{line.name}: {y:g} at {x:g}")
            place = f'cx="{to_x(x):.1f}" cy="{to_y(y):.1f}"'
            dots.append(f'<circle {place} r="4" fill="{line.color}"><title>{title}</title></circle>')
    return f'<path class="line" d="{"".join(commands)}" {line.stroke}/>{"".join(dots)}'


def _mark(mark: Mark, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> str:
    name = escape(mark.name)
    if mark.is_horizontal:
        y = to_y(mark.at)
        return (
            f'<path class="mark" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text class="mark" x="{_LEFT + 4}" y="{y - 5:.1f}">{name}</text>'
        )
    x = to_x(mark.at)
    anchor, shift = ("start", 4) if x < _WIDTH * 0.88 else ("end", -4)
    return (
        f'<path class="mark" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
        f'<text class="mark" x="{x + shift:.1f}" y="{_TOP + 10}" text-anchor="{anchor}">{name}</text>'
    )


def _legend(lines: Sequence[Line]) -> str:
    items = []
    for line in lines:
        sample = f'<svg viewBox="0 0 30 8" aria-hidden="true"><path d="M0 4H30" {line.stroke}/></svg>'
        items.append(f"<span>{sample}{escape(line.name)}</span>")
    return f"<figcaption>{''.join(items)}</figcaption>"


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: begin + (value - low) / span * (end - begin)


def _log(value: float, chart: Chart) -> float:
    return math.log10(value) if chart.is_log else value


def _y_range(values: Sequence[float], is_log: bool) -> tuple[float, float]:
    if is_log:
        positive = [value for value in values if value > 0]
        return min(positive) * 0.8, max(positive) * 1.25
    return min(0.0, *values, 0.0), (max(values) * 1.08) or 1.0


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about so many round numbers within a range."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(n * step, 10) for n in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within a range; powers alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 5 else (1,)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
