"""Makes a process of Locust's what it is in a test: alone, a master that leads, or a worker that sends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

import gevent
import locust.runners
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from fer_loadtest import progress, report, shape, users
from fer_loadtest.conductor import REPORT_EVERY_S
from fer_loadtest.errors import LoadTestError
from fer_loadtest.lead import EXIT_FAILED, Lead
from fer_loadtest.learning import Lesson, learn
from fer_loadtest.options import Options, read_options
from fer_loadtest.session import Session
from fer_loadtest.transports import make_grpc_cooperative

_PLAIN_LESSON: Final = "fer_lesson"
"""Among the options that Locust's master sends to its workers."""


def register() -> None:
    """Listen to Locust's events. Called once, by the locustfile."""
    locust.runners.WORKER_REPORT_INTERVAL = REPORT_EVERY_S
    _listen(events.init, _on_init)


def _listen(hook: Any, handler: Callable[..., None]) -> None:
    hook.add_listener(handler)


def _on_init(environment: Environment, **_: Any) -> None:
    for name in ("locust", "locust.stats_logger"):
        logging.getLogger(name).setLevel(logging.ERROR)  # Our own words say it better.
    make_grpc_cooperative()
    hub = gevent.get_hub()
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)  # It prints all others.
    sys.excepthook = _show_no_traceback_of_ctrl_c
    if isinstance(environment.runner, WorkerRunner):
        _Worker(environment)
        return
    try:
        options = read_options(_parsed(environment))
        report.prepare_folder(Path(options.out))
        progress.print_start(options)
        lesson = learn(options)
        session = Session(options, lesson, "this process")
    except LoadTestError as error:
        _refuse(str(error))
    # Locust installs its own handler only after a test that has a shape: until then SIGTERM would lose the report.
    gevent.signal_handler(signal.SIGTERM, _interrupt)
    lead = Lead(environment, session)
    environment.user_classes = users.classes_of(options)
    environment.stop_timeout = options.timeout_s + 1
    users.attach(session)
    shape.attach(lead.tick)
    _tell_workers(_parsed(environment), options, lesson)
    if isinstance(environment.runner, MasterRunner):
        _listen(environment.events.worker_report, lead.take_over)
        workers = _Workers(environment.runner, lead)
        _listen(environment.events.test_stop, workers.look)
        gevent.spawn(workers.watch)
        if not _parsed(environment).processes:
            count = _parsed(environment).expect_workers
            progress.say(f"waiting for {count} worker{'s' * (count != 1)}")
    else:
        session.open()
    _listen(environment.events.test_start, lambda **_: progress.print_columns())
    _listen(environment.events.test_start, lambda **_: lead.sampler.start())
    _listen(environment.events.test_stop, lambda **_: session.wait_for_answers())
    _listen(environment.events.test_stop, lambda **_: lead.note_stop())
    _listen(environment.events.quitting, lambda **_: lead.finish())


def _tell_workers(given: Any, options: Options, lesson: Lesson) -> None:
    """Put what workers need to know among the options that Locust sends them; no secret is in it."""
    setattr(given, _PLAIN_LESSON, lesson.to_plain())
    for name in ("url", "grpc_url"):
        if (url := getattr(options, name)) is not None:
            setattr(given, name, url)


class _Worker:
    """A process that sends what a master tells it to."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._session: Session | None = None
        self._failure: str | None = None
        _listen(environment.events.test_start, self.prepare)
        _listen(environment.events.report_to_master, self.report)

    def prepare(self, **_: Any) -> None:
        """Take over what the master has learnt."""
        given = _parsed(self._environment)
        try:
            options = read_options(given)
            lesson = Lesson.from_plain(getattr(given, _PLAIN_LESSON), options)
        except LoadTestError as error:
            self._failure = str(error)
            self._leave()
            return
        index = getattr(self._environment.runner, "worker_index", 0)
        session = self._session = Session(options, lesson, f"{socket.gethostname()}:{os.getpid()}", index)
        users.attach(session)
        session.open()
        _listen(self._environment.events.test_stop, lambda **_: session.wait_for_answers())

    def _leave(self) -> None:
        """Tell the master why this worker cannot work, and end, as Locust does at the master's word."""
        runner = self._environment.runner
        if isinstance(runner, WorkerRunner):
            runner._send_stats()
            runner.greenlet.kill(block=True)

    def report(self, data: dict[str, Any], **_: Any) -> None:
        """Hand over what was counted."""
        if self._session is not None:
            data["fer"] = self._session.recorder.hand_over()
        if self._failure is not None:
            data["fer_failure"] = self._failure


class _Workers:
    """Those of a master: notes which are lost."""

    def __init__(self, runner: MasterRunner, lead: Lead) -> None:
        self._runner = runner
        self._lead = lead
        self._had: set[str] = set()

    def watch(self) -> NoReturn:
        """Look twice a second, while the load runs."""
        while True:
            gevent.sleep(0.5)
            if self._runner.state in (locust.runners.STATE_SPAWNING, locust.runners.STATE_RUNNING):
                self.look()

    def look(self, **_: Any) -> None:
        """Note what is missing. Locust stops the test itself when all are, and marks none when it stops them."""
        lead = self._lead
        has = {one.id for one in self._runner.clients.all if one.state != locust.runners.STATE_MISSING}
        for lost in sorted(self._had - has):
            second = lead.session.clock() - lead.conductor.spans[0].begin_s if lead.conductor.spans else 0.0
            note = f"worker {lost} was lost in second {second:.0f}; its last second may be missing"
            lead.events.append(note)
            progress.say(note)
        if self._had and not has:
            lead.fail("all workers were lost")
        self._had = has


def _interrupt() -> None:
    """As Ctrl-C does, also where a shell has started this in the background, which makes Ctrl-C do nothing."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _show_no_traceback_of_ctrl_c(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Locust does not expect it while it waits for workers."""
    if issubclass(kind, KeyboardInterrupt):
        progress.say("interrupted before the load began")
    else:
        sys.__excepthook__(kind, error, traceback)


def _parsed(environment: Environment) -> Any:
    if environment.parsed_options is None:
        raise LoadTestError("start Locust by its command, or by python -m fer_loadtest")
    return environment.parsed_options


def _refuse(message: str) -> NoReturn:
    progress.say(message)
    sys.exit(EXIT_FAILED)
