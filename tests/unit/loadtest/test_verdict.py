"""What a reader is told: knee, thresholds that hold or are broken, and notes that are true of the run."""

import pytest

from fer_loadtest.checks import WRONG_ANSWER
from fer_loadtest.options import Thresholds
from fer_loadtest.pictures import ONE_FACE
from fer_loadtest.recorder import Recorder, Summary, summarise
from fer_loadtest.server_metrics import Sample
from fer_loadtest.verdict import find_knee, judge

ARRIVALS = ("--shape", "arrivals", "--rates", "50", "--level-s", "20")


def findings_of(run):
    return run.document()["findings"]


def counted(run, share):
    """Samples of a server that counted this share of all answers, besides one failure, which Triton counts twice."""
    good = sum(cell.good for cell in run.recorder.cells.values())
    names = ("nv_inference_request_success", "nv_inference_request_failure")
    success, failure = ((name, "fer", reason) for name, reason in zip(names, ("", "OTHER"), strict=True))
    run.sampler.server = [Sample(0.0, {success: 7, failure: 0}), Sample(9.0, {success: 7 + good * share, failure: 2})]
    run.sampler.problem = None
    return run


@pytest.mark.parametrize(("share", "is_another"), [(1.0, False), (1.3, False), (0.4, True), (0.0, True)])
def test_counters_of_another_server_are_called_out(pretend, share, is_another):
    findings = findings_of(counted(pretend(*ARRIVALS).play(), share))
    assert any("it is another server, or one of several" in one for one in findings) == is_another


def test_many_failures_are_said_beside_latencies_that_look_good(pretend):
    findings = findings_of(pretend(*ARRIVALS, "--rates", "150").play())
    assert any("33.3 % of the requests failed, most of them as 'overloaded (503)'" in one for one in findings)
    assert not any("failed" in one for one in findings_of(pretend(*ARRIVALS).play()))


def test_recovery_is_not_denied_where_too_few_answers_came_before_the_spike(pretend):
    run = pretend("--shape", "spike", "--rates", "2,300", "--level-s", "8").play()
    assert any("Too few answers came before the spike" in one for one in findings_of(run))
    assert not any("no second was as good" in one for one in findings_of(run))


def level(name, images_per_s, mean_ms):
    latency = {"mean": mean_ms, "p99": 3 * mean_ms}
    return {"name": name, "images_per_s": images_per_s, "faces_per_s": 0.0, "latency_ms": latency}


def test_the_knee_is_where_a_closed_load_fills_the_server():
    """Two servers of 20 ms each: throughput grows up to two users, then only latency does."""
    users = (1, 2, 4, 8, 16)
    levels = [level(f"{n} users", min(n, 2) / 0.02, 20.0 * max(1, n / 2)) for n in users]
    assert find_knee(levels)["name"] == "2 users"
    assert find_knee(levels)["is_reached"]


def test_a_curve_that_still_grows_has_no_knee_yet():
    levels = [level(f"{n} users", n / 0.02, 20.0) for n in (1, 2, 4)]
    assert find_knee(levels)["is_reached"] is False
    assert find_knee(levels[:2]) is None


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
    assert p99.measured == "99 answers are too few: it takes 100"


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
