"""What leads a test, in a master or in the only process: its course, samples of the server, the report and the end."""

from __future__ import annotations

from typing import Any, Final

from locust.env import Environment
from locust.runners import MasterRunner

from fer_loadtest import progress, report
from fer_loadtest.conductor import REPORT_EVERY_S, Conductor, Span, holds_objective
from fer_loadtest.levels import course_of, users_of
from fer_loadtest.recorder import GeneratorSecond
from fer_loadtest.sampling import Sampler
from fer_loadtest.session import Session
from fer_loadtest.summary import summarise

EXIT_FAILED: Final = 1
EXIT_BROKEN: Final = 3
EXIT_INTERRUPTED: Final = 130

_MAX_ERROR_PERCENT: Final = 1.0
"""Of a level that holds its objective, where no threshold says otherwise."""


class Lead:
    """What leads a test, in a master or in the only process: course, samples of the server, report."""

    def __init__(self, environment: Environment, session: Session) -> None:
        """Prepare; nothing is sent yet."""
        self.session = session
        self.sampler = Sampler(session.options.metrics_urls, session.clock)
        self.events: list[str] = []
        self.failure: str | None = None
        self._environment = environment
        self._is_reported = False
        self._is_stopped = False
        self._most_users = 1
        self._is_master = isinstance(environment.runner, MasterRunner)
        self.conductor = Conductor(
            course=course_of(session.options),
            settle_s=session.options.settle_s,
            clock=session.clock,
            users_of=lambda level: users_of(level, session.options),
            in_flight=self._in_flight,
            evaluate=self._evaluate,
            lag_s=2.5 * REPORT_EVERY_S if self._is_master else 0.0,
            patience_s=session.options.timeout_s,
        )

    def tick(self) -> tuple[int, float] | None:
        """For Locust's shape: how many users there are to be, and how fast."""
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
        return count, self._most_users  # All at once; users are also stopped no faster than that.

    def take_over(self, client_id: str, data: dict[str, Any]) -> None:
        """A worker's report."""
        if "fer" in data:
            self.session.recorder.take_over(data["fer"])
        if data.get("fer_failure"):
            self.fail(f"worker {client_id}: {data['fer_failure']}")

    def note_stop(self) -> None:
        """The test has been stopped, in whatever way."""
        self._is_stopped = True

    def fail(self, why: str) -> None:
        """End the test, because it cannot be what it should."""
        self.failure = self.failure or why

    def finish(self) -> None:
        """Write the report, once, and say how it ended."""
        if self._is_reported:
            return
        self._is_reported = True
        self.conductor.close()
        if not self._is_stopped and self._environment.runner is not None:
            self._environment.runner.quit()  # A SIGTERM quits Locust before it stops the test.
        self.sampler.stop()
        try:
            written = report.write(
                self.session, self.conductor, self.sampler, [*self.session.lesson.notes, *self.events]
            )
        except OSError as error:
            self._end(EXIT_FAILED, f"cannot write the report: {error}")
            return
        progress.print_end(written)
        if self.failure is not None:
            self._end(EXIT_FAILED, self.failure)
        elif not self.conductor.is_done:
            self._end(EXIT_INTERRUPTED, "interrupted; the report has what was measured until then")
        elif not written.document["totals"]["good"]:
            self._end(EXIT_FAILED, "no request was answered as expected")
        elif broken := [one["name"] for one in written.document["thresholds"] if not one["holds"]]:
            self._end(EXIT_BROKEN, f"broken: {', '.join(broken)}")
        else:
            self._environment.process_exit_code = 0

    def _end(self, code: int, message: str) -> None:
        self._environment.process_exit_code = code
        progress.say(message)

    def _in_flight(self) -> int:
        if not self._is_master:
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
        progress.print_level(span, summary, held, options)
        return held
