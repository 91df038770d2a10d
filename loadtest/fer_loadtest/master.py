"""Leads a test, in a master or in the only process: its course, its workers, what is printed, the report, the end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import gevent
from locust import LoadTestShape
from locust.env import Environment
from locust.runners import STATE_MISSING, STATE_RUNNING, STATE_SPAWNING, MasterRunner

from fer_commands import messages
from fer_commands.exit_codes import ExitCode
from fer_loadtest import report
from fer_loadtest.course import REPORT_EVERY_S, Conductor, Span, course_of, users_of
from fer_loadtest.options import Options
from fer_loadtest.recorder import GeneratorSecond, Summary, summarise
from fer_loadtest.server_metrics import Sampler
from fer_loadtest.users import Session
from fer_loadtest.verdict import describe_found, holds_objective

say = partial(messages.say, "fer-loadtest")
"""Prints a line to standard error, with the command's name in front."""

_MAX_ERROR_PERCENT: Final = 1.0
"""Highest share of failures of a level that holds its objective, where no threshold sets another."""


class FerShape(LoadTestShape):
    """Locust's shape, which asks the master of the test each second how many users there are to be."""

    ask: Callable[[], tuple[int, float] | None] | None = None

    def tick(self) -> tuple[int, float] | None:
        """Return users and users to start per second; None ends the test."""
        return None if FerShape.ask is None else FerShape.ask()


class Master:
    """Leads a test.

    Attributes:
        session: What this process knows and counts.
        sampler: Samples of the server's metrics and of this machine.
        conductor: Leads through the course.
        notes: Events for the report.
        failure: Why the test cannot be what it should be; None as long as it can.
    """

    def __init__(self, environment: Environment, session: Session) -> None:
        """Prepare; nothing is sent yet."""
        self.session = session
        self.sampler = Sampler(session.options.metrics_urls, session.clock)
        self.notes = list(session.baseline.notes)
        self.failure: str | None = None
        self._environment = environment
        self._is_reported = False
        self._is_stopped = False
        self._most_users = 1
        self._workers: set[str] = set()
        self._has_workers = isinstance(environment.runner, MasterRunner)
        self.conductor = Conductor(
            course=course_of(session.options),
            settle_s=session.options.settle_s,
            clock=session.clock,
            users_of=lambda level: users_of(level, session.options),
            in_flight=self._in_flight,
            evaluate=self._evaluate,
            lag_s=2.5 * REPORT_EVERY_S if self._has_workers else 0.0,
            patience_s=session.options.timeout_s,
        )
        FerShape.ask = staticmethod(self.tick)

    def tick(self) -> tuple[int, float] | None:
        """Return for Locust's shape how many users there are to be, and how many may start or stop per second."""
        if self.failure is not None:
            return None
        try:
            count = self.conductor.tick()
        except Exception:
            self.fail("a defect of the load test ended it; the traceback says where")
            raise
        if count is None:
            return None
        self._most_users = max(self._most_users, count, 1)
        return count, self._most_users

    def take_over(self, client_id: str, data: dict[str, Any]) -> None:
        """Add the report of a worker."""
        if "fer" in data:
            self.session.recorder.take_over(data["fer"])
        if data.get("fer_failure"):
            self.fail(f"worker {client_id}: {data['fer_failure']}")

    def watch_workers(self) -> NoReturn:
        """Look for lost workers twice a second while the load runs."""
        while True:
            gevent.sleep(0.5)
            runner = self._environment.runner
            if runner is not None and runner.state in (STATE_SPAWNING, STATE_RUNNING):
                self.look_for_workers()

    def look_for_workers(self, **_: Any) -> None:
        """Note the workers that are lost. Locust ends the test itself when all are, and loses none when it ends it."""
        runner = self._environment.runner
        clients = runner.clients.all if isinstance(runner, MasterRunner) else []
        present = {one.id for one in clients if one.state != STATE_MISSING}
        for lost in sorted(self._workers - present):
            spans = self.conductor.spans
            second = self.session.clock() - spans[0].begin_s if spans else 0.0
            self.notes.append(f"worker {lost} was lost in second {second:.0f}; its last second may be missing")
            say(self.notes[-1])
        if self._workers and not present:
            self.fail("all workers were lost")
        self._workers = present

    def note_stop(self) -> None:
        """Note that the test has been stopped, in whatever way."""
        self._is_stopped = True

    def fail(self, reason: str) -> None:
        """End the test, because it cannot be what it should."""
        self.failure = self.failure or reason

    def finish(self) -> None:
        """Write the report, once, and say how the test ended."""
        if self._is_reported:
            return
        self._is_reported = True
        self.conductor.close()
        if not self._is_stopped and self._environment.runner is not None:
            self._environment.runner.quit()  # A SIGTERM quits Locust before it stops the test.
        self.sampler.stop()
        try:
            document, page = report.write(self.session, self.conductor, self.sampler, self.notes)
        except OSError as error:
            self._end(ExitCode.USAGE, f"cannot write the report: {error}")
            return
        _print_end(document, page)
        if self.failure is not None:
            self._end(ExitCode.FAILED, self.failure)
        elif not self.conductor.is_done:
            self._end(ExitCode.INTERRUPTED, "interrupted; the report has what was measured until then")
        elif not document["totals"]["good"]:
            self._end(ExitCode.FAILED, "no request was answered as expected")
        elif broken := [one["name"] for one in document["thresholds"] if not one["holds"]]:
            self._end(ExitCode.CHECK_FAILED, f"broken: {', '.join(broken)}")
        else:
            self._environment.process_exit_code = ExitCode.OK

    def _end(self, code: ExitCode, message: str) -> None:
        self._environment.process_exit_code = code
        say(message)

    def _in_flight(self) -> int:
        if not self._has_workers:
            return self.session.in_flight()
        now = int(self.session.clock())
        latest: dict[str, tuple[int, GeneratorSecond]] = {}
        for (second, process), one in self.session.recorder.generator.items():
            if second > now - 5 and second >= latest.get(process, (0, one))[0]:
                latest[process] = (second, one)
        return sum(one.in_flight for _, one in latest.values())

    def _evaluate(self, span: Span) -> bool:
        options = self.session.options
        summary = summarise(self.session.recorder, [(span.settled_s, span.end_s)])
        allowed = options.thresholds.max_error_percent
        held = holds_objective(
            summary, options.objective_p99_ms, _MAX_ERROR_PERCENT if allowed is None else allowed, span.level.rate
        )
        _print_level(span, summary, held, options)
        return held


def print_start(options: Options) -> None:
    """Print what is going to happen."""
    if options.shape == "capacity":
        load = f"searching the highest rate with p99 <= {options.objective_p99_ms:g} ms"
    elif options.rates:
        load = f"arrivals/s {', '.join(f'{rate:g}' for rate in options.rates)}"
    else:
        load = f"users {', '.join(map(str, options.levels))}"
    urls = " and ".join(url for url in (options.url, options.grpc_url) if url)
    _print(f"{urls}: {options.shape}, {load}, {options.level_s:g} s each")


def print_columns() -> None:
    """Print the header of the lines that follow, one for each level."""
    _print(f"{'level':<24} {'images/s':>9} {'faces/s':>9} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}  errors")


def _print_level(span: Span, summary: Summary, held: bool, options: Options) -> None:
    values = [summary.latency.percentile_ms(percent) for percent in (50, 95, 99)]
    times = "".join(f" {'-' if value is None else format(value, '.1f'):>8}" for value in values)
    errors = ", ".join(f"{count} {kind}" for kind, count in summary.errors.most_common()) or "0"
    verdict = ("  holds" if held else "  fails") if options.shape == "capacity" else ""
    name = span.level.name
    _print(f"{name:<24} {summary.images_per_s:>9.1f} {summary.faces_per_s:>9.1f}{times}  {errors}{verdict}")


def _print_end(document: dict[str, Any], page: Path) -> None:
    _print("")
    for one in document["thresholds"]:
        _print(f"{'ok    ' if one['holds'] else 'BROKEN'} {one['name']}: {one['measured']} ({one['limit']})")
    if document["search"] is not None:
        _print(describe_found(document["search"], document["options"]["objective_p99_ms"]))
    for finding in document["findings"]:
        _print(f"note: {finding}")
    _print(f"report: {page}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
