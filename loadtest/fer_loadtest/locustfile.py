"""What Locust loads: makes its process what it is in a test, alone, a master that leads, or a worker that sends.

`fer-loadtest` runs `locust -f` with this file.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import gevent
import locust.runners
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from fer_commands.running import CommandError
from fer_loadtest import report
from fer_loadtest.baseline import Baseline, measure_baseline
from fer_loadtest.course import REPORT_EVERY_S
from fer_loadtest.master import FerShape, Master, print_columns, print_start, say
from fer_loadtest.options import Options, add_options, read_options
from fer_loadtest.transports import make_grpc_cooperative
from fer_loadtest.users import GrpcLoadUser, HttpLoadUser, Session, attach_users, classes_of

__all__ = ["FerShape", "GrpcLoadUser", "HttpLoadUser"]

_PLAIN_BASELINE: Final = "fer_baseline"
"""Name of the baseline among the options that Locust's master sends to its workers."""


def _listen(hook: Any, handler: Callable[..., None]) -> None:
    hook.add_listener(handler)


def _on_init(environment: Environment, **_: Any) -> None:
    for name in ("locust", "locust.stats_logger"):
        logging.getLogger(name).setLevel(logging.ERROR)  # Our own lines say the same in fewer words.
    make_grpc_cooperative()
    hub = gevent.get_hub()
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)  # It prints the traceback of all others.
    sys.excepthook = _show_no_traceback_of_ctrl_c
    if isinstance(environment.runner, WorkerRunner):
        _Worker(environment)
        return
    try:
        options = read_options(_parsed(environment))
        report.prepare_folder(Path(options.out))
        print_start(options)
        baseline = measure_baseline(options)
        session = Session(options, baseline, "this process")
    except CommandError as error:
        say(str(error))
        sys.exit(error.exit_code)
    # Locust installs its own handler only after a test that has a shape: until then SIGTERM would lose the report.
    gevent.signal_handler(signal.SIGTERM, _interrupt)
    _lead(environment, session)


def _lead(environment: Environment, session: Session) -> None:
    """Let this process lead the test of a session."""
    options, master = session.options, Master(environment, session)
    environment.user_classes = classes_of(options)
    environment.stop_timeout = options.timeout_s + 1
    attach_users(session)
    _tell_workers(_parsed(environment), options, session.baseline)
    if isinstance(environment.runner, MasterRunner):
        _listen(environment.events.worker_report, master.take_over)
        _listen(environment.events.test_stop, master.look_for_workers)
        gevent.spawn(master.watch_workers)
        if not _parsed(environment).processes:
            count = _parsed(environment).expect_workers
            say(f"waiting for {count} worker{'s' * (count != 1)}")
    else:
        session.open()
    _listen(environment.events.test_start, lambda **_: print_columns())
    _listen(environment.events.test_start, lambda **_: master.sampler.start())
    _listen(environment.events.test_stop, lambda **_: session.wait_for_answers())
    _listen(environment.events.test_stop, lambda **_: master.note_stop())
    _listen(environment.events.quitting, lambda **_: master.finish())


def _tell_workers(given: Any, options: Options, baseline: Baseline) -> None:
    """Put what workers need to know among the options that Locust sends them. It holds no secret."""
    setattr(given, _PLAIN_BASELINE, baseline.to_plain())
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
        """Take over options and baseline of the master."""
        given = _parsed(self._environment)
        try:
            options = read_options(given)
            plain = getattr(given, _PLAIN_BASELINE)
            # It makes pictures, for a second or more, in which a worker without a heartbeat would be taken for lost.
            baseline = gevent.get_hub().threadpool.apply(Baseline.from_plain, (plain, options))
        except CommandError as error:
            self._failure = str(error)
            self._leave()
            return
        index = getattr(self._environment.runner, "worker_index", 0)
        session = self._session = Session(options, baseline, f"{socket.gethostname()}:{os.getpid()}", index)
        attach_users(session)
        session.open()
        _listen(self._environment.events.test_stop, lambda **_: session.wait_for_answers())

    def report(self, data: dict[str, Any], **_: Any) -> None:
        """Hand over what was counted."""
        if self._session is not None:
            data["fer"] = self._session.recorder.hand_over()
        if self._failure is not None:
            data["fer_failure"] = self._failure

    def _leave(self) -> None:
        """Tell the master why this worker cannot work, and end as Locust does at the master's word."""
        runner = self._environment.runner
        if isinstance(runner, WorkerRunner):
            runner._send_stats()
            runner.greenlet.kill(block=True)


def _interrupt() -> None:
    """Do what Ctrl-C does, also where a shell has started this in the background and made Ctrl-C do nothing."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _show_no_traceback_of_ctrl_c(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Say that Ctrl-C ended the test. Locust does not expect it while it waits for workers."""
    if issubclass(kind, KeyboardInterrupt):
        say("interrupted before the load began")
    else:
        sys.__excepthook__(kind, error, traceback)


def _parsed(environment: Environment) -> Any:
    if environment.parsed_options is None:
        raise RuntimeError("Locust has no options: start it by fer-loadtest")
    return environment.parsed_options


locust.runners.WORKER_REPORT_INTERVAL = REPORT_EVERY_S
_listen(events.init_command_line_parser, add_options)
_listen(events.init, _on_init)
