"""What the figures of a run say: knee and capacity, thresholds, and what to know before believing the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fer_contract as contract
from fer_loadtest.capacity import Found
from fer_loadtest.checks import WRONG_ANSWER
from fer_loadtest.generator import BUSY_SHARE
from fer_loadtest.histogram import needed
from fer_loadtest.options import Thresholds
from fer_loadtest.recorder import Summary

_STILL_GROWS: Final = 1.1
"""Growth of throughput up to the last level above which that level is no knee."""
_SHARED_PERCENT: Final = 10.0
_FULL: Final = 0.9
_MANY_PERCENT: Final = 1.0
_COUNTED_AT_LEAST: Final = 0.8


def find_knee(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the level with the most throughput for its latency, beyond which load adds more waiting than answers.

    Args:
        levels: Levels as a report has them.

    Returns:
        Index, name and figures of the level, and `is_reached`: False where throughput still grew at the end. None for
        fewer than three levels that were answered.

    Source: L. Kleinrock, Power and deterministic rules of thumb for probabilistic problems in computer communications,
    1979: power is throughput over mean delay, greatest at the knee.
    """
    answered = [(index, level) for index, level in enumerate(levels) if level["latency_ms"]["mean"]]
    if len(answered) < 3:
        return None
    index, best = max(answered, key=lambda pair: pair[1]["images_per_s"] / pair[1]["latency_ms"]["mean"])
    before = [level["images_per_s"] for level in levels[:index]]
    at_the_end = index == answered[-1][0] and bool(before) and best["images_per_s"] > _STILL_GROWS * max(before)
    return {**_figures(index, best), "is_reached": not at_the_end}


def find_capacity(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the level with the most throughput of those that held the objective; None where none did."""
    held = [(index, level) for index, level in enumerate(levels) if level["held"] and level["latency_ms"]["p99"]]
    if not held:
        return None
    return _figures(*max(held, key=lambda pair: pair[1]["images_per_s"]))


def _figures(index: int, level: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "level": index,
        "name": level["name"],
        "images_per_s": level["images_per_s"],
        "faces_per_s": level["faces_per_s"],
        "p99_ms": level["latency_ms"]["p99"],
    }


def describe_found(search: dict[str, Any], objective_ms: float) -> str:
    """Return the result of a search as a sentence."""
    if search["rate"] is None:
        lowest = "" if search["fails_at"] is None else f", not even {search['fails_at']:.4g} images/s"
        return f"capacity: none; no rate held p99 <= {objective_ms:g} ms{lowest}"
    interval = search.get("p99_interval_ms")
    between = "" if interval is None else f" (95 % interval {interval[0]:g} to {interval[1]:g})"
    above = "" if search["fails_at"] is None else f"; {search['fails_at']:.4g}/s did not hold"
    return (
        f"capacity: {search['rate']:.4g} images/s at p99 <= {objective_ms:g} ms; held in {search['held']} of "
        f"{search['tried']} confirmations, p99 {search.get('p99_ms')} ms{between}{above}"
    )


def holds_objective(summary: Summary, p99_ms: float, max_error_percent: float, rate: float) -> bool:
    """Return whether a level held p99 and errors and, for arrivals, whether as many were answered as came."""
    p99 = summary.latency.percentile_ms(99)
    keeps_up = not rate or summary.good >= 0.95 * summary.sent
    return p99 is not None and p99 <= p99_ms and summary.error_percent <= max_error_percent and keeps_up


@dataclass(frozen=True)
class Judgement:
    """One threshold beside what was measured.

    Attributes:
        name: Name of the option that sets it, without dashes.
        limit: Limit, with its unit.
        measured: Measured value, with its unit.
        holds: Whether the limit is held.
    """

    name: str
    limit: str
    measured: str
    holds: bool


def judge(thresholds: Thresholds, summary: Summary, found: Found | None = None) -> list[Judgement]:
    """Compare a run with its thresholds. Wrong answers break it always, and too few answers break a percentile.

    Args:
        thresholds: Limits of the run.
        summary: Figures that the limits apply to.
        found: Result of a search, where there was one.
    """
    judgements = []
    if found is not None:
        measured = "no rate held the objective" if found.rate is None else f"{found.rate:.4g}/s"
        judgements.append(Judgement("capacity", "a rate that holds the objective", measured, found.rate is not None))
    for percent, limit in ((50, thresholds.p50_ms), (95, thresholds.p95_ms), (99, thresholds.p99_ms)):
        if limit is None:
            continue
        value = summary.latency.percentile_ms(percent)
        few = f"{len(summary.latency)} answers are too few: it takes {needed(percent)}"
        measured = few if value is None else f"{value:.1f} ms"
        judgements.append(
            Judgement(f"p{percent}-ms", f"<= {limit:g} ms", measured, value is not None and value <= limit)
        )
    if thresholds.max_error_percent is not None:
        judgements.append(_judge_errors(thresholds.max_error_percent, summary))
    if thresholds.min_images_per_s is not None:
        limit, rate = thresholds.min_images_per_s, summary.images_per_s
        judgements.append(Judgement("min-images-per-s", f">= {limit:g}/s", f"{rate:.2f}/s", rate >= limit))
    wrong = summary.errors[WRONG_ANSWER]
    judgements.append(Judgement("wrong answers", "<= 0", f"{wrong}", wrong == 0))
    return judgements


def _judge_errors(limit: float, summary: Summary) -> Judgement:
    name, asked = "max-error-percent", f"<= {limit:g} %"
    if not summary.ended:
        return Judgement(name, asked, "no request ended", holds=False)
    return Judgement(name, asked, f"{summary.error_percent:.3g} %", summary.error_percent <= limit)


def findings_of(document: Mapping[str, Any], metrics_problem: str | None) -> list[str]:
    """Return what a reader has to know before believing the figures of a run, in sentences.

    Args:
        document: The report, without its findings.
        metrics_problem: Reason why the server's metrics could not be read, or None.
    """
    return [*_of_generator(document), *_of_levels(document), *_of_server(document, metrics_problem)]


def _of_generator(document: Mapping[str, Any]) -> Iterator[str]:
    cost, cores = document["generator"], document["machine"]["cores"]
    if cost["busy_share"] > BUSY_SHARE:
        yield (
            f"The load generator is saturated: one process used up to {cost['peak_cores']:.2f} of the one core that it "
            "can use. Its limit was measured, not that of the server: add workers (--processes 2)."
        )
    elif cost["is_saturated"]:
        yield (
            f"The load generator could not keep up: 1 % of the requests were sent {cost['late_p99_ms']:.0f} ms late or "
            f"more, while it used {cost['peak_cores']:.2f} of a core at most. Its machine is too busy, so the "
            "latencies are not only the server's: make the load on another machine."
        )
    elif saturated := [level["name"] for level in document["levels"] if level["generator_is_saturated"]]:
        yield f"The load generator could not keep up at {', '.join(saturated)}: do not rely on their figures."
    share = 100 * cost["cores"] / cores if cores else 0.0
    busy = document["machine_cores_mean"]
    if document["is_local"] and busy is not None and busy > _FULL * cores:
        yield (
            f"Server and load generator share this machine, which was full ({busy:.1f} of {cores} cores in use): the "
            f"generator took {cost['cores']:.2f} cores ({share:.0f} %). On its own the server could do more."
        )
    elif document["is_local"] and share > _SHARED_PERCENT:
        yield f"Server and load generator share this machine; the generator took {share:.0f} % of it."
    before = document["machine"]["load_average_before"]
    if document["is_local"] and cores and before > 2 * cores:
        yield f"The load average of this machine was {before} before the test: something else ran, so repeat the test."


def _of_levels(document: Mapping[str, Any]) -> Iterator[str]:
    totals, knee = document["totals"], document["knee"]
    if totals["error_percent"] > _MANY_PERCENT:
        kind = max(totals["errors"], key=totals["errors"].get)
        yield (
            f"{totals['error_percent']:.3g} % of the requests failed, most of them as '{kind}': requests that are "
            "turned away at once are in no percentile."
        )
    if knee is not None and not knee["is_reached"]:
        yield f"Throughput still grew at the last level, {knee['name']}: add higher --levels to see the knee."
    if document["options"]["shape"] == "steps" and document["capacity"] is None:
        limit = document["options"]["objective_p99_ms"]
        yield f"No level held p99 <= {limit:g} ms with enough answers to tell: begin lower, or raise --level-s."
    if document["options"]["shape"] == "spike":
        shed = sum(n for level in document["levels"] if level["name"] == "spike" for n in level["errors"].values())
        yield f"{shed} requests failed in the spike itself, which no threshold counts."
        recovery_s = document["recovery_s"]
        if document["levels"][0]["latency_ms"]["p95"] is None:
            yield "Too few answers came before the spike to tell when the server had recovered: raise --level-s."
        elif recovery_s is None:
            yield "After the spike no second was as good as those before it."
        else:
            yield f"After the spike, answers were as fast as before it within {recovery_s:g} s."
    if not document["is_complete"]:
        yield "The run was broken off: the figures are those up to that moment."


def _of_server(document: Mapping[str, Any], metrics_problem: str | None) -> Iterator[str]:
    triton = document["triton"]
    if triton is None:
        yield f"The server's own counters are missing: {metrics_problem or 'the run was too short'}."
    elif metrics_problem:
        yield f"The server's counters could not be read at the end: {metrics_problem}."
    if triton is not None and triton["restarted"]:
        yield "The server was restarted during the run: its counters are those since then."
    elif triton is not None and not metrics_problem:
        yield from _of_another_server(triton, document["seconds"])


def _of_another_server(triton: Mapping[str, Any], seconds: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    asked = triton["models"].get(contract.FER_MODEL, {"requests": 0, "failures": {}})
    counted = asked["requests"] + sum(asked["failures"].values()) / 2  # Triton 2.51 counts failures of ensembles twice.
    answered = sum(second["good"] for second in seconds)
    if counted < _COUNTED_AT_LEAST * answered:
        yield (
            f"The server whose counters were read was asked {counted:.0f} times, where {answered} requests were "
            "answered: it is another server, or one of several. Give --metrics-url with the metrics of all of them."
        )
