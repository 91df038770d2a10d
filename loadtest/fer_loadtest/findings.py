"""What a reader of a report has to know before believing its figures, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import fer_contract as contract
from fer_loadtest.generator import BUSY_SHARE

_SHARED_PERCENT: Final = 10.0
_FULL: Final = 0.9
_MANY_PERCENT: Final = 1.0
_COUNTED_AT_LEAST: Final = 0.8


def of(document: Mapping[str, Any], metrics_problem: str | None) -> list[str]:
    """All that applies to a run.

    Args:
        document: The report, without its findings.
        metrics_problem: Why the server's metrics could not be read, or None.
    """
    return [*_of_generator(document), *_of_levels(document), *_of_server(document, metrics_problem)]


def _of_generator(document: Mapping[str, Any]) -> Iterator[str]:
    cost, cores = document["generator"], document["machine"]["cores"]
    if cost["busy_share"] > BUSY_SHARE:
        yield (
            f"The load generator is saturated: one process used up to {cost['peak_cores']:.2f} of the one core that it "
            "can use. Its limit was measured, not the server's: add workers (--processes 2)."
        )
    elif cost["is_saturated"]:
        yield (
            f"The load generator could not keep up: 1 % of the requests were sent {cost['late_p99_ms']:.0f} ms late or "
            f"more, while it used {cost['peak_cores']:.2f} of a core at most. The machine that it runs on is too busy: "
            "do not blame the server, and make the load elsewhere."
        )
    elif saturated := [level["name"] for level in document["levels"] if level["generator_is_saturated"]]:
        yield f"The load generator could not keep up at {', '.join(saturated)}: do not blame the server for them."
    share = 100 * cost["cores"] / cores if cores else 0.0
    busy = document["machine_cores_mean"]
    if document["is_local"] and busy is not None and busy > _FULL * cores:
        yield (
            f"Server and load generator share this machine, which was full ({busy:.1f} of {cores} cores in use): the "
            f"generator took {cost['cores']:.2f} cores ({share:.0f} %). Alone the server would do more."
        )
    elif document["is_local"] and share > _SHARED_PERCENT:
        yield f"Server and load generator share this machine; the generator took {share:.0f} % of it."
    before = document["machine"]["load_average_before"]
    if document["is_local"] and cores and before > 2 * cores:
        yield f"The load average of this machine is {before}: something else ran on it, so repeat the test."


def _of_levels(document: Mapping[str, Any]) -> Iterator[str]:
    totals, knee = document["totals"], document["knee"]
    if totals["error_percent"] > _MANY_PERCENT:
        kind = max(totals["errors"], key=totals["errors"].get)
        yield (
            f"{totals['error_percent']:.3g} % of the requests failed, most of them as '{kind}': what was turned away "
            "at once is in no percentile."
        )
    if knee is not None and not knee["is_reached"]:
        yield f"Throughput still grew at the last level, {knee['name']}: add higher --levels to see the knee."
    if document["options"]["shape"] == "steps" and document["capacity"] is None:
        limit = document["options"]["objective_p99_ms"]
        yield f"No level held p99 <= {limit:g} ms with enough answers to say so: begin lower, or raise --level-s."
    if document["options"]["shape"] == "spike":
        shed = sum(n for level in document["levels"] if level["name"] == "spike" for n in level["errors"].values())
        yield f"{shed} requests failed in the spike itself, which no threshold counts."
        recovery_s = document["recovery_s"]
        if document["levels"][0]["latency_ms"]["p95"] is None:
            yield "Too few answers before the spike to say when the server had recovered: raise --level-s."
        elif recovery_s is None:
            yield "After the spike no second was as good as the usual ones before it."
        else:
            yield f"After the spike, answers were as fast as before it within {recovery_s:g} s."
    if not document["is_complete"]:
        yield "The run was broken off: the figures are those up to then."


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
            "answered: it is another server, or one of several. Give --metrics-url, with all of them."
        )
