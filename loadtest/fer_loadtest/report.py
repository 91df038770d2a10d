"""The report of a run: one document, written as JSON, CSV and an HTML page."""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_commands.running import CommandError
from fer_loadtest.course import Conductor, Span
from fer_loadtest.generator import cost_of, describe_machine, is_this_machine
from fer_loadtest.page import format_page
from fer_loadtest.recorder import PERCENTILES, Cell, CellKey, Recorder, Summary, summarise
from fer_loadtest.server_metrics import Sample, Sampler, change, gauge_mean
from fer_loadtest.verdict import find_capacity, find_knee, findings_of, judge

if TYPE_CHECKING:
    from fer_loadtest.users import Session

FORMAT: Final = 1
"""Version of the format of `report.json`; it grows when something is renamed."""


def prepare_folder(folder: Path) -> None:
    """Check that a report can be written, before there is one that could be lost. Raises CommandError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CommandError(
            f"--out {folder}: no report can be written there ({error.strerror}): give another folder"
        ) from error


def write(
    session: Session, conductor: Conductor, sampler: Sampler, notes: Sequence[str]
) -> tuple[dict[str, Any], Path]:
    """Make the document and write it in all forms.

    Args:
        session: Options, baseline and counts of the test.
        conductor: Levels of the test.
        sampler: Samples of the server's metrics and of this machine.
        notes: Sentences that come before the findings.

    Returns:
        The document, and the path of the page.

    Raises:
        OSError: A file cannot be written.
    """
    document = make(session, conductor, sampler, notes)
    folder = Path(session.options.out)
    text = json.dumps(document, indent=1)
    (folder / "report.json").write_text(text, encoding="utf-8")
    _write_csv(folder / "levels.csv", [_flat(level) for level in document["levels"]])
    _write_csv(folder / "seconds.csv", [_flat(second) for second in document["seconds"]])
    page = folder / "report.html"
    page.write_text(format_page(json.loads(text)), encoding="utf-8")
    return document, page


def make(session: Session, conductor: Conductor, sampler: Sampler, notes: Sequence[str]) -> dict[str, Any]:
    """Return the document, of plain values. The arguments are those of `write`."""
    options, recorder, spans = session.options, session.recorder, conductor.spans
    counted = [(span.settled_s, span.end_s) for span in _counted(conductor) if span.end_s > span.settled_s]
    totals = summarise(recorder, counted)
    begin_s, end_s = (spans[0].begin_s, spans[-1].end_s) if spans else (0.0, 0.0)
    levels = [_level(span, recorder, sampler) for span in spans]
    document: dict[str, Any] = {
        "format": FORMAT,
        "label": options.label or f"{options.shape} on {session.baseline.server['url']}",
        "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(begin_s)),
        "is_complete": conductor.is_done,
        "options": options.to_dict(),
        "server": session.baseline.server,
        "machine": describe_machine(),
        "is_local": all(is_this_machine(one.endpoint.host) for one in options.connections.values()),
        "pictures": _pictures(session),
        "totals": totals.to_dict(),
        "kinds": _parts(recorder, counted, "kind"),
        "protocols": _parts(recorder, counted, "protocol"),
        "errors": _errors(recorder),
        "levels": levels,
        "seconds": _seconds(recorder, spans, sampler),
        "knee": find_knee(levels) if options.shape == "steps" else None,
        "capacity": find_capacity(levels) if options.shape == "steps" else None,
        "search": _search(conductor, recorder),
        "triton": _triton(sampler),
        "generator": _cost(recorder, begin_s, end_s, totals),
        "machine_cores_mean": _mean([one.cores for one in sampler.machine]),
        "thresholds": [asdict(one) for one in judge(options.thresholds, totals, conductor.found)],
    }
    document["recovery_s"] = _recovery_s(recorder, spans) if options.shape == "spike" else None
    document["findings"] = [*notes, *findings_of(document, sampler.problem)]
    return document


def _counted(conductor: Conductor) -> list[Span]:
    """Return the levels that the figures of a run as a whole include: of a search, those at the rate that it found."""
    if conductor.found is not None and conductor.found.rate is not None:
        return [span for span in conductor.spans if span.level.rate == conductor.found.rate]
    return [span for span in conductor.spans if span.level.counts]


def _level(span: Span, recorder: Recorder, sampler: Sampler) -> dict[str, Any]:
    summary = summarise(recorder, [(span.settled_s, span.end_s)])
    before, after = (_nearest(sampler.server, moment) for moment in (span.settled_s, span.end_s))
    models = change(before, after)["models"] if before and after and before.at_s < after.at_s else {}
    cost = cost_of(recorder, span.settled_s, span.end_s, summary.latency.percentile_ms(99))
    first_s = min((key.second for key in recorder.cells), default=int(span.begin_s))
    return {
        "name": span.level.name,
        "users": span.level.users,
        "rate": span.level.rate,
        "begin_s": round(span.begin_s - first_s, 1),
        "counts": span.level.counts,
        "held": span.held,
        **summary.to_dict(),
        "mean_batch": models.get("fer_classifier", {}).get("mean_batch"),
        "queue_ms": models.get("fer_preprocess", {}).get("queue_ms"),
        "generator_cores": round(cost.cores, 3),
        "generator_is_saturated": cost.is_saturated,
    }


def _nearest(samples: Sequence[Sample], moment: float) -> Sample | None:
    return min(samples, key=lambda one: abs(one.at_s - moment), default=None)


def _pictures(session: Session) -> list[dict[str, Any]]:
    rows = []
    for kind, share in session.mix.shares.items():
        of_kind = [one for one in session.baseline.pictures if one.kind == kind]
        expected = [session.baseline.expected[one.name] for one in of_kind]
        rows.append(
            {
                "kind": kind,
                "share": round(share, 4),
                "pictures": len(of_kind),
                "mean_kb": round(sum(len(one.content) for one in of_kind) / len(of_kind) / 1000, 1),
                "faces": sorted({one.faces for one in expected if one.faces is not None}),
            }
        )
    return sorted(rows, key=lambda row: -row["share"])


def _parts(recorder: Recorder, spans: list[tuple[float, float]], by: str) -> dict[str, Any]:
    """Return the figures of each protocol, or of each kind of picture."""

    def is_of(name: str) -> Callable[[CellKey], bool]:
        return lambda key: getattr(key, by) == name

    names = sorted({getattr(key, by) for key in recorder.cells})
    return {name: summarise(recorder, spans, is_of(name)).to_dict() for name in names}


def _errors(recorder: Recorder) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    for cell in recorder.cells.values():
        counts.update(cell.errors)
    return [{"kind": kind, "count": n, "example": recorder.examples.get(kind, "")} for kind, n in counts.most_common()]


def _seconds(recorder: Recorder, spans: Sequence[Span], sampler: Sampler) -> list[dict[str, Any]]:
    """Return a row for each second of the run, for charts and CSV."""
    if not spans or not recorder.cells:
        return []
    first = min(key.second for key in recorder.cells)
    last = max(key.second for key in recorder.cells)
    by_second = {second: Cell() for second in range(first, last + 1)}
    for key, cell in recorder.cells.items():
        by_second[key.second].merge(cell)
    cores: dict[int, float] = defaultdict(float)
    in_flight: Counter[int] = Counter()
    for (second, _), one in recorder.generator.items():
        cores[second] += one.cpu_s
        in_flight[second] += one.in_flight
    machine = {int(one.at_s): round(one.cores, 2) for one in sampler.machine}
    return [
        {
            "second": second - first,
            "load": _load_at(spans, second),
            "sent": counts.sent,
            "good": counts.good,
            "faces": counts.faces,
            "errors": dict(counts.errors),
            **{
                f"p{percent}_ms": _rounded(counts.latency.percentile_ms(percent, is_lenient=True), 2)
                for percent in PERCENTILES
            },
            "in_flight": in_flight[second],
            "generator_cores": round(cores[second], 3),
            "machine_cores": machine.get(second),
        }
        for second, counts in by_second.items()
    ]


def _load_at(spans: Sequence[Span], second: int) -> float:
    """Return the load asked for in a second: of the last level that had begun, unless it is over and drains."""
    begun = [span for span in spans if span.begin_s < second + 1]
    if not begun:
        return 0.0
    is_over = second >= begun[-1].end_s and (begun[-1] is spans[-1] or begun[-1].level.drains)
    return 0.0 if is_over else begun[-1].level.load


def _search(conductor: Conductor, recorder: Recorder) -> dict[str, Any] | None:
    found = conductor.found
    if found is None:
        return None
    at_rate = [span for span in conductor.spans if span.level.rate == found.rate]
    summary = summarise(recorder, [(span.settled_s, span.end_s) for span in at_rate])
    figures = summary.to_dict()
    return {**asdict(found), "p99_ms": figures["latency_ms"]["p99"], "p99_interval_ms": figures["p99_interval_ms"]}


def _triton(sampler: Sampler) -> dict[str, Any] | None:
    if len(sampler.server) < 2:
        return None
    gauges = ("nv_cpu_utilization", "nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_cpu_memory_used_bytes")
    means = {name: _rounded(gauge_mean(sampler.server[1:], name)) for name in gauges}
    return {**change(sampler.server[0], sampler.server[-1]), "gauges": means}


def _cost(recorder: Recorder, begin_s: float, end_s: float, totals: Summary) -> dict[str, Any]:
    cost = asdict(cost_of(recorder, begin_s, end_s, totals.latency.percentile_ms(99)))
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in cost.items()}


def _recovery_s(recorder: Recorder, spans: Sequence[Span]) -> float | None:
    """Return the seconds after a spike until one is as good as before it; None if none was, or the run ended."""
    if len(spans) < 3:
        return None
    usual = summarise(recorder, [(spans[0].settled_s, spans[0].end_s)]).latency.percentile_ms(95)
    if usual is None:
        return None
    end_s = spans[1].end_s
    for second in range(int(end_s) + 1, int(spans[2].end_s)):
        now = summarise(recorder, [(second, second + 1)])
        median = now.latency.percentile_ms(50)
        if now.good and not now.errors.total() and median is not None and median <= usual:
            return round(second - end_s, 1)
    return None


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of CSV: nested values get columns of their own, or one of words."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "errors":
            flat["errors"] = sum(value.values())
            flat["errors_by_kind"] = "; ".join(f"{kind}: {count}" for kind, count in value.items())
        elif isinstance(value, dict):
            flat |= {
                f"{inner}_{name.removeprefix('latency_')}" if name == "latency_ms" else inner: v
                for inner, v in value.items()
            }
        elif isinstance(value, list):
            flat[name] = " to ".join(map(str, value))
        else:
            flat[name] = value
    return flat


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]), restval="")
            writer.writeheader()
            writer.writerows(rows)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
