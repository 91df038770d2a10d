"""`fer-loadtest capacity`: the search for the highest rate of arrivals that holds an objective.

Rates are doubled, then bisected, and the rate found is tried again.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

from fer_commands.parser import subcommand_parser
from fer_loadtest.options import add_options
from fer_loadtest.run import EXIT_CODES, add_locusts_options, become_locust

_LARGEST: Final = 100_000.0
_STEPS_BACK: Final = 6
"""Times that a rate which does not hold again is lowered before the search gives up."""


@dataclass(frozen=True)
class Trial:
    """A rate to be tried, and the purpose: `try` or `confirm`."""

    rate: float
    purpose: str


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        rate: Highest rate that held in most of its confirmations, in arrivals per second; None if no rate did.
        fails_at: Lowest higher rate that did not hold; None if every rate held.
        held: Number of confirmations in which `rate` held.
        tried: Number of confirmations.
    """

    rate: float | None
    fails_at: float | None
    held: int = 0
    tried: int = 0


def search_rate(
    start: float, tolerance: float, confirmations: int, smallest: float = 0.1
) -> Generator[Trial, bool, Found]:
    """Yield rates to try, and receive whether each held, until the highest rate that holds is found.

    A trial is one sample of a noisy quantity, and the rate that bisection ends with was lucky as often as not. So that
    rate is tried again, and lowered until it holds in most of the trials.

    Args:
        start: Rate of the first trial, in arrivals per second.
        tolerance: Largest gap between the highest rate that holds and the lowest that does not, relative to the former.
        confirmations: Number of times that a rate is tried again.
        smallest: Rate below which a trial has too few answers to mean anything; the search ends there.
    """
    low, high = yield from _enclose(start, smallest)
    while low is not None and high is not None and high - low > tolerance * low:
        rate = (low + high) / 2
        if (yield Trial(rate, "try")):
            low = rate
        else:
            high = rate
    for _ in range(_STEPS_BACK):
        if low is None:
            break
        held = 0
        for _ in range(confirmations):
            held += yield Trial(low, "confirm")
        if held * 2 > confirmations:
            return Found(low, high, held, confirmations)
        low, high = low / (1 + max(tolerance, 0.05)), low
    return Found(None, high)


def _enclose(start: float, smallest: float) -> Generator[Trial, bool, tuple[float | None, float | None]]:
    """Return a rate that holds and one that does not, a factor of two apart; None where there is none in reach."""
    low, high, rate = None, None, max(start, smallest)
    while smallest <= rate <= _LARGEST and (low is None or high is None):
        if (yield Trial(rate, "try")):
            low, rate = rate, rate * 2
        else:
            high, rate = rate, rate / 2
    return low, high


_DESCRIPTION: Final = """\
Find the highest rate of arrivals at which p99 stays within the objective, at most 1 % fail (or
--max-error-percent), and as many are answered as come: by doubling, bisection, and then the same
rate again, as often as --confirmations says. It takes about a dozen trials of --level-s seconds.
--rates is where it begins.
"""
_EXAMPLES: Final = """\
  fer-loadtest capacity --p99-ms 200
  fer-loadtest capacity --url http://localhost:8000 --rates 40 --p99-ms 100 --confirmations 5
"""


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand.

    Args:
        arguments: The words after the subcommand's name.

    Raises:
        SystemExit: argparse printed the help or a usage error. Where a search is run, Locust ends the process.
    """
    # `--p99-ms` is the objective of a search, and no threshold of Locust's run: trials above it are meant to break it.
    words = ["--objective-p99-ms" + word.removeprefix("--p99-ms") if _is_p99(word) else word for word in arguments]
    parser = build_parser()
    if any(word.partition("=")[0] == "--shape" for word in words):
        parser.error("--shape is capacity here: leave it out")
    return become_locust(parser, words, "--shape", "capacity")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the subcommand."""
    parser = subcommand_parser(
        "fer-loadtest capacity", description=_DESCRIPTION, examples=_EXAMPLES, exit_codes=EXIT_CODES
    )
    add_options(parser, is_search=True)
    add_locusts_options(parser)
    return parser


def _is_p99(word: str) -> bool:
    return word.partition("=")[0] == "--p99-ms"
