"""What a test says while it runs: lines on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from fer_loadtest.options import Options

if TYPE_CHECKING:
    from fer_loadtest.conductor import Span
    from fer_loadtest.report import Written
    from fer_loadtest.summary import Summary


def say(message: str) -> None:
    """One line on standard error, with the command's name in front."""
    line = " ".join(message.split())
    sys.stderr.write(f"fer_loadtest: {line}\n")
    sys.stderr.flush()


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def print_start(options: Options) -> None:
    """What is going to happen."""
    load = f"users {', '.join(map(str, options.levels))}" if options.levels else f"arrivals/s {options.rates}"
    if options.shape == "capacity":
        load = f"searching the highest rate with p99 <= {options.objective_p99_ms:g} ms"
    elif options.rates:
        load = f"arrivals/s {', '.join(f'{rate:g}' for rate in options.rates)}"
    urls = " and ".join(url for url in (options.url, options.grpc_url) if url)
    _print(f"{urls}: {options.shape}, {load}, {options.level_s:g} s each")


def print_columns() -> None:
    """What the lines of levels are going to say."""
    _print(f"{'level':<24} {'images/s':>9} {'faces/s':>9} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}  errors")


def print_level(span: Span, summary: Summary, held: bool, options: Options) -> None:
    """What came of a level."""
    values = [summary.latency.percentile_ms(percent) for percent in (50, 95, 99)]
    times = "".join(f" {'-' if value is None else format(value, '.1f'):>8}" for value in values)
    errors = ", ".join(f"{count} {kind}" for kind, count in summary.errors.most_common()) or "0"
    verdict = ("  holds" if held else "  fails") if options.shape == "capacity" else ""
    name = span.level.name
    _print(f"{name:<24} {summary.images_per_s:>9.1f} {summary.faces_per_s:>9.1f}{times}  {errors}{verdict}")


def print_end(written: Written) -> None:
    """What all of it comes to, and where to read more."""
    document: dict[str, Any] = written.document
    _print("")
    for one in document["thresholds"]:
        _print(f"{'ok    ' if one['holds'] else 'BROKEN'} {one['name']}: {one['measured']} ({one['limit']})")
    if document["search"] is not None:
        _print(describe_found(document["search"], document["options"]["objective_p99_ms"]))
    for finding in document["findings"]:
        _print(f"note: {finding}")
    _print(f"report: {written.page}")


def describe_found(search: dict[str, Any], objective_ms: float) -> str:
    """What a search has found, in a sentence."""
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
