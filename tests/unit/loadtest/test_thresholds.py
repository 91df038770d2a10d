"""Thresholds: what holds, what is broken, and what too few answers say nothing about."""

import pytest

from fer_loadtest.pictures import ONE_FACE
from fer_loadtest.recorder import WRONG_ANSWER, Recorder
from fer_loadtest.summary import Summary, summarise
from fer_loadtest.thresholds import Thresholds, judge


def summary_of(good, errors=(), latency_s=0.05):
    recorder = Recorder("a")
    for _ in range(good):
        recorder.answered(100.0, 100.0 + latency_s, "http", ONE_FACE, 1)
    for error in errors:
        recorder.failed(100.0, 100.5, "http", ONE_FACE, error, "message")
    return summarise(recorder, [(100, 110)])


def verdicts(thresholds, summary):
    return {one.name: one.holds for one in judge(thresholds, summary)}


@pytest.mark.parametrize(("limit_ms", "holds"), [(60.0, True), (40.0, False)])
def test_latencies_are_held_against_their_limits(limit_ms, holds):
    thresholds = Thresholds(p50_ms=limit_ms, p95_ms=limit_ms, p99_ms=limit_ms)
    names = {"p50-ms": holds, "p95-ms": holds, "p99-ms": holds, "wrong answers": True}
    assert verdicts(thresholds, summary_of(200)) == names


def test_a_percentile_of_too_few_answers_is_broken():
    [p99, _] = judge(Thresholds(p99_ms=1000), summary_of(99))
    assert not p99.holds
    assert p99.measured == "99 answers say nothing about it: 100 are needed"


def test_errors_and_throughput():
    thresholds = Thresholds(max_error_percent=1, min_images_per_s=19)
    assert verdicts(thresholds, summary_of(198, ["timeout"] * 2)) == {
        "max-error-percent": True,
        "min-images-per-s": True,
        "wrong answers": True,
    }
    assert verdicts(thresholds, summary_of(180, ["timeout"] * 2))["max-error-percent"] is False
    assert verdicts(thresholds, summary_of(180))["min-images-per-s"] is False


def test_a_wrong_answer_is_never_tolerated():
    assert verdicts(Thresholds(), summary_of(1000, [WRONG_ANSWER])) == {"wrong answers": False}


def test_nothing_at_all_breaks_what_was_asked():
    asked = Thresholds(p99_ms=1, max_error_percent=5, min_images_per_s=1)
    broken = [name for name, holds in verdicts(asked, Summary()).items() if not holds]
    assert broken == ["p99-ms", "max-error-percent", "min-images-per-s"]
