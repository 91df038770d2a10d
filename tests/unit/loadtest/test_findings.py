"""What a reader is told before the figures: only what is true of the run."""

import pytest

from fer_loadtest.triton_metrics import Sample

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
    assert any("Too few answers before the spike" in one for one in findings_of(run))
    assert not any("no second was as good" in one for one in findings_of(run))
