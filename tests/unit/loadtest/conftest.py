"""A run made up in one process: what a server with a known capacity would answer, second by second."""

import argparse
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from fer_loadtest import report
from fer_loadtest.checks import Expected
from fer_loadtest.course import Conductor, course_of, users_of
from fer_loadtest.options import add_options, read_options
from fer_loadtest.pictures import ONE_FACE, Mix, Picture
from fer_loadtest.recorder import Recorder, summarise
from fer_loadtest.verdict import holds_objective


def _options_of(*words, environment=None):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser)
    return read_options(parser.parse_args(words), environment or {})


class PretendedRun:
    """Plays a test without a server: a clock that jumps, and answers as a queue with `capacity` per s would give them.

    Latency is 20 ms while arrivals are few, and grows as 1 / (1 - load / capacity) does; beyond it, a third fails.
    """

    def __init__(self, *words, capacity=100.0, slow=1.0):
        self.options = _options_of(*words)
        self.recorder = Recorder("this process")
        self.now_s = 1_000_000.0
        self._random = random.Random(1)
        self._capacity, self._slow = capacity, slow
        picture = Picture("one", ONE_FACE, b"content", 1)
        self.session = SimpleNamespace(
            options=self.options,
            recorder=self.recorder,
            mix=Mix([picture], {ONE_FACE: 1.0}, random.Random(0)),
            baseline=SimpleNamespace(
                pictures=[picture],
                expected={"one": Expected(1, 64, 48)},
                server={
                    "url": "http://test:8000",
                    "software": "triton 2.51.0",
                    "model_version": "test-1",
                    "outputs": ["BOXES", "PROBABILITIES"],
                },
            ),
        )
        self.sampler = SimpleNamespace(server=[], machine=[], problem="nobody asked")
        self.conductor = Conductor(
            course=course_of(self.options),
            settle_s=self.options.settle_s,
            clock=lambda: self.now_s,
            users_of=lambda level: users_of(level, self.options),
            in_flight=lambda: 0,
            evaluate=self._evaluate,
            patience_s=self.options.timeout_s,
        )
        self.ticks = []

    def play(self, seconds=10_000):
        """Up to so many seconds of it."""
        for _ in range(seconds):
            users = self.conductor.tick()
            self.ticks.append(users)
            if users is None:
                break
            if users:
                self._one_second(self.conductor.spans[-1].level)
            self.now_s += 1.0
        return self

    def document(self):
        """The report."""
        self.conductor.close()
        return report.make(self.session, self.conductor, self.sampler, [])

    def write(self):
        """The report, on disk; returns the page's path."""
        self.conductor.close()
        report.prepare_folder(Path(self.options.out))
        return report.write(self.session, self.conductor, self.sampler, [])[1]

    def _one_second(self, level):
        arrivals = level.rate or self._capacity * level.users / (level.users + 1)
        load = min(arrivals / self._capacity, 0.99)
        for number in range(round(arrivals)):
            at_s = self.now_s + number / arrivals * 0.9
            latency_s = self._slow * 0.02 * self._random.uniform(0.8, 1.2) / (1 - load)
            self.recorder.sent(at_s, "http", ONE_FACE, 0.1)
            if arrivals > self._capacity and number % 3 == 0:
                self.recorder.failed(at_s, at_s + 0.001, "http", ONE_FACE, "overloaded (503)", "no <room> & more")
            else:
                self.recorder.answered(at_s, at_s + min(latency_s, 0.09), "http", ONE_FACE, 1)
        self.recorder.generator_second(self.now_s).cpu_s += 0.1

    def _evaluate(self, span):
        summary = summarise(self.recorder, [(span.settled_s, span.end_s)])
        return holds_objective(summary, self.options.objective_p99_ms, 1.0, span.level.rate)


@pytest.fixture(scope="session")
def pretend():
    """Makes a `PretendedRun` of command-line words."""
    return PretendedRun


@pytest.fixture(scope="session")
def options_of():
    """Makes options of command-line words, and of an environment."""
    return _options_of
