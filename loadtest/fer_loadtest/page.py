"""The page of a report: one HTML file that needs nothing else, made of the document by the template report.html."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import jinja2

from fer_loadtest.charts import Chart, Line, Mark
from fer_loadtest.course import slot_s
from fer_loadtest.verdict import describe_found

_BLUE, _ORANGE, _GREEN, _RED, _GRAY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#6b7280"
"""Colours that colour-blind people can tell apart.

Source: M. Okabe and K. Ito, Color Universal Design, 2008; the gray is ours.
"""
_ERROR_COLORS: Final = (_RED, _BLUE, _GREEN, _ORANGE, _GRAY, "#cc79a7")
_PERCENTILES: Final = (
    Line("p99", [], _RED, width=3.0),
    Line("p95", [], "#111111", width=1.2, dashes="5 4"),
    Line("p50", [], _BLUE),
)
"""How each percentile is drawn, the topmost last. Where p95 and p99 are the same, both are seen."""


def format_page(document: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        document: The report as `report.json` has it.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= {
        "decimal": _decimal,
        "ms": _ms,
        "number": _number,
        "option": _option,
        "percent": _percent,
        "px": "{:.1f}".format,
    }
    search, options = document["search"], document["options"]
    found = describe_found(search, options["objective_p99_ms"]).replace("capacity", "Capacity", 1) if search else ""
    page = environment.get_template("report.html").render(
        report=document, charts=_charts(document), found=found, slot_s=slot_s(options["shape"], options["rates"])
    )
    return f"{page.strip()}\n"


def _charts(document: Mapping[str, Any]) -> dict[str, Chart | None]:
    """Return the charts of a report; None where there is nothing to show."""
    seconds = document["seconds"]

    def column(name: str) -> list[tuple[float, float | None]]:
        return [(row["second"], row[name]) for row in seconds]

    load = Line("arrivals/s asked" if document["options"]["rates"] else "users", column("load"), _GRAY, dashes="6 3")
    starts = [Mark(level["begin_s"], level["name"]) for level in document["levels"][1:]]
    marks = starts if len(starts) <= 6 else []
    latencies = [replace(line, points=column(f"{line.name}_ms")) for line in _PERCENTILES]
    throughput = [load, Line("faces/s", column("faces"), _GREEN), Line("images/s", column("good"), _BLUE)]
    cores = [
        Line("generator", column("generator_cores"), _ORANGE),
        Line("the whole machine", [point for point in column("machine_cores") if point[1] is not None], _GRAY),
    ]
    errors = [
        Line(one["kind"], [(row["second"], row["errors"].get(one["kind"], 0)) for row in seconds], color)
        for one, color in zip(document["errors"], _ERROR_COLORS, strict=False)
    ]
    return {
        "curve": _curve(document),
        "throughput": Chart("s", "per second", throughput, marks),
        "latency": Chart("s", "ms", latencies, marks, is_log=True),
        "cores": Chart("s", "cores", cores, marks),
        "errors": Chart("s", "failed per second", errors) if errors else None,
    }


def _curve(document: Mapping[str, Any]) -> Chart | None:
    """Return latency over throughput, one point for each level: where the curve turns upwards is the knee."""
    options, knee = document["options"], document["knee"]
    levels = [level for level in document["levels"] if level["latency_ms"]["p50"] is not None]
    if options["shape"] not in ("steps", "capacity") or len(levels) < 2:
        return None
    if options["shape"] == "capacity":
        levels = sorted(levels, key=lambda level: (level["rate"], level["images_per_s"]))
    marks = [Mark(options["objective_p99_ms"], "p99 objective", is_horizontal=True)]
    if knee is not None:
        marks.append(Mark(knee["images_per_s"], f"knee: {knee['name']}"))
    lines = [
        replace(
            line,
            points=[(level["images_per_s"], level["latency_ms"][line.name]) for level in levels],
            has_dots=True,
        )
        for line in _PERCENTILES
    ]
    return Chart("images/s answered", "latency, ms", lines, marks, is_log=True)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{_number(value)} ms"


def _percent(value: float) -> str:
    return f"{value:.3g} %"


def _option(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner:g}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
