"""Run a load test: `python -m fer_loadtest --shape steps`. Options that are not ours go to Locust (`--processes 2`)."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fer_loadtest.errors import LoadTestError
from fer_loadtest.options import add_options, read_options

LOCUSTFILE: Final = Path(__file__).resolve().with_name("locustfile.py")

_DESCRIPTION: Final = """\
Load a server with pictures, check every answer, and write a report: report.html, report.json,
levels.csv, seconds.csv.

shapes:
  steps     more and more load, to find the knee; --levels 1,2,4,8,16 or --rates 10,20,40
  soak      the same load for an hour, or --level-s
  spike     usual load, a spike, usual load again; --levels 2,64 or --rates 5,200
  arrivals  a constant rate of arrivals that wait for nobody; latency counts from when a
            request was meant to be sent (no coordinated omission); --rates 10
  capacity  the highest rate of arrivals that holds --objective-p99-ms, by bisection
"""

_EPILOG: Final = """\
examples:
  python -m fer_loadtest --url http://localhost:8000 --levels 1,2,4,8 --level-s 20
  python -m fer_loadtest --shape arrivals --rates 20 --p99-ms 250 --max-error-percent 0.1
  python -m fer_loadtest --preset ci
  python -m fer_loadtest --shape soak --pictures my-photos --level-s 7200 --processes 2
  python -m fer_loadtest.capacity --p99-ms 200
  python -m fer_loadtest.compare before/report.json after/report.json

All of Locust's own options can be added: --processes 2 for two workers here, --master and
--expect-workers 4 here with `--worker --master-host HOST` elsewhere. Of a spike, thresholds judge
what is before and after it.

exit codes:
  0    every threshold holds
  1    the test cannot be made: no server, no model, no pictures; or no answer was good
  2    wrong usage
  3    a threshold is broken, or an answer was wrong
  130  interrupted; the report has what was measured until then
"""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions and examples as they are written."""

    def __init__(self, prog: str) -> None:
        """Set the width."""
        super().__init__(prog, max_help_position=28, width=96)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Does not return where a test is run: Locust ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_loadtest",
        usage="%(prog)s [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser)
    given, for_locust = parser.parse_known_args(arguments)
    ours = sys.argv[1:] if arguments is None else list(arguments)
    return run(parser, given, ours, is_worker="--worker" in for_locust)


def run(parser: argparse.ArgumentParser, given: argparse.Namespace, words: Sequence[str], *, is_worker: bool) -> int:
    """Check what is given and become Locust.

    Args:
        parser: Reports what is wrong.
        given: Parsed options of ours.
        words: The command line that Locust gets.
        is_worker: Workers get their options from the master.
    """
    if importlib.util.find_spec("locust") is None:
        sys.stderr.write("fer_loadtest: Locust is not installed: pip install 'fer-triton[loadtest]'\n")
        return 1
    try:
        if not is_worker:
            read_options(given)
    except LoadTestError as error:
        parser.error(str(error))
    quiet = ["--headless", "--only-summary", "--skip-log-setup"] if not is_worker else ["--skip-log-setup"]
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *quiet, *words]
    if is_worker:
        master = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        master.add_argument("--master-host", default="127.0.0.1")
        master.add_argument("--master-port", default="5557")
        where, _ = master.parse_known_args(words)
        # Locust says nothing while it looks for a master that is not there.
        sys.stderr.write(f"fer_loadtest: a worker of the master at {where.master_host}:{where.master_port}\n")
    sys.stdout.flush()
    return os.execv(sys.executable, command)  # noqa: S606 - so that signals reach Locust itself


if __name__ == "__main__":
    sys.exit(main())
