"""What a run must hold to pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fer_loadtest.histogram import needed
from fer_loadtest.recorder import WRONG_ANSWER
from fer_loadtest.search import Found

if TYPE_CHECKING:
    from fer_loadtest.summary import Summary


@dataclass(frozen=True)
class Thresholds:
    """Limits; None sets none.

    Attributes:
        p50_ms: Median latency at most.
        p95_ms: The latency that 5 % exceed, at most.
        p99_ms: The latency that 1 % exceed, at most.
        max_error_percent: Share of failed requests at most.
        min_images_per_s: Images answered per second at least.
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_error_percent: float | None = None
    min_images_per_s: float | None = None


@dataclass(frozen=True)
class Judgement:
    """One threshold beside what was measured.

    Attributes:
        name: As the option that sets it, without its dashes.
        limit: What was asked, with its unit.
        measured: What came, with its unit.
        holds: Whether that is good enough.
    """

    name: str
    limit: str
    measured: str
    holds: bool


def judge(thresholds: Thresholds, summary: Summary, found: Found | None = None) -> list[Judgement]:
    """Compare. A threshold that too few answers say anything about is broken; wrong answers always are.

    Args:
        thresholds: What was asked.
        summary: Of all that counts.
        found: The result of a search, where there was one.
    """
    judgements = []
    if found is not None:
        measured = "no rate held the objective" if found.rate is None else f"{found.rate:.4g}/s"
        judgements.append(Judgement("capacity", "a rate that holds the objective", measured, found.rate is not None))
    for percent, limit in ((50, thresholds.p50_ms), (95, thresholds.p95_ms), (99, thresholds.p99_ms)):
        if limit is None:
            continue
        value = summary.latency.percentile_ms(percent)
        few = f"{len(summary.latency)} answers say nothing about it: {needed(percent)} are needed"
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
