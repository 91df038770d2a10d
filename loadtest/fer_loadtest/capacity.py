"""Find what a server can take: `python -m fer_loadtest.capacity --p99-ms 200`.

The highest rate of arrivals at which p99 stays within the objective, at most 1 % fail, and as many are answered as
come: doubling, bisection, and then the same rate again, as often as --confirmations says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fer_loadtest.__main__ import HelpFormatter, run
from fer_loadtest.options import add_options

_EPILOG = """\
It takes about a dozen trials of --level-s seconds each. --rates is where it begins. The exit codes
are those of python -m fer_loadtest.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Does not return where a search is run: Locust ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_loadtest.capacity",
        usage="%(prog)s [options]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser, is_search=True)
    words = sys.argv[1:] if arguments is None else list(arguments)
    # The objective of a search is no threshold: trials above it are meant to break it.
    words = ["--objective-p99-ms" + word.removeprefix("--p99-ms") if _is_p99(word) else word for word in words]
    words = ["--shape", "capacity", *words]
    given, for_locust = parser.parse_known_args(words)
    if given.shape != "capacity":
        parser.error("--shape is capacity here: leave it out")
    return run(parser, given, words, is_worker="--worker" in for_locust)


def _is_p99(word: str) -> bool:
    return word == "--p99-ms" or word.startswith("--p99-ms=")


if __name__ == "__main__":
    sys.exit(main())
