"""The course of a load: levels in their order, what is measured of them, and the end."""

import random
import statistics
from collections import Counter
from itertools import takewhile

import pytest

from fer_loadtest.course import arrivals, course_of, slot_s, stream_rate, users_of
from fer_loadtest.pictures import ONE_FACE


def test_steps_follow_each_other_and_do_not_count_while_they_settle(pretend):
    run = pretend("--levels", "1,3", "--level-s", "10", "--settle-s", "2").play()
    assert run.ticks == [1] * 10 + [3] * 10 + [None]
    assert run.conductor.is_done
    levels = run.document()["levels"]
    assert [(level["users"], level["seconds"], level["begin_s"]) for level in levels] == [(1, 8, 0.0), (3, 8, 10.0)]
    assert [level["images_per_s"] for level in levels] == [50.0, 75.0]


def test_a_spike_has_a_before_and_an_after_and_only_these_count(pretend):
    run = pretend("--shape", "spike", "--rates", "20,300", "--level-s", "10", "--max-error-percent", "0").play()
    document = run.document()
    assert [(level["name"], level["counts"]) for level in document["levels"]] == [
        ("before", True),
        ("spike", False),
        ("after", True),
    ]
    assert document["levels"][1]["error_percent"] > 30
    assert document["totals"]["error_percent"] == 0
    assert all(one["holds"] for one in document["thresholds"])
    assert document["recovery_s"] <= 2


def test_the_search_finds_the_capacity_of_a_pretended_server(pretend):
    run = pretend("--shape", "capacity", "--objective-p99-ms", "85").play()
    found = run.document()["search"]
    # 20 ms x 1.2 / (1 - load) = 85 ms at 72 % of 100/s.
    assert found["rate"] == pytest.approx(72, rel=0.08)
    assert found["held"] == found["tried"] == 3
    assert found["p99_interval_ms"][0] - 0.1 <= found["p99_ms"] <= found["p99_interval_ms"][1] + 0.1


def test_thresholds_of_a_search_judge_what_it_found_and_not_its_failed_trials(pretend):
    run = pretend("--shape", "capacity", "--objective-p99-ms", "85", "--max-error-percent", "0").play()
    document = run.document()
    assert any(level["errors"] for level in document["levels"])
    assert {one["name"]: one["holds"] for one in document["thresholds"]} == {
        "capacity": True,
        "max-error-percent": True,
        "wrong answers": True,
    }
    assert document["totals"]["images_per_s"] == pytest.approx(document["search"]["rate"], rel=0.05)


def test_a_search_that_finds_nothing_breaks_its_threshold(pretend):
    document = pretend("--shape", "capacity", "--objective-p99-ms", "1").play().document()
    assert [one["name"] for one in document["thresholds"] if not one["holds"]] == ["capacity"]
    assert document["search"]["rate"] is None


def test_a_search_lets_everything_be_answered_between_its_trials(pretend):
    run = pretend("--shape", "capacity", "--rates", "50", "--level-s", "4")
    waiting = iter([3, 1, 0] + [0] * 1000)
    run.conductor.in_flight = lambda: next(waiting)
    run.play(9)
    first = run.conductor.spans[0].level.seconds
    assert run.ticks[: int(first)] == [users_of(run.conductor.spans[0].level, run.options)] * int(first)
    run.play(20)
    assert run.ticks[int(first) : int(first) + 2] == [0, 0]


def test_an_answer_that_never_comes_does_not_hold_the_end_for_ever(pretend):
    run = pretend("--levels", "1", "--level-s", "5", "--timeout-s", "3")
    run.conductor.in_flight = lambda: 1
    run.play(60)
    assert run.ticks[-1] is None
    assert len(run.ticks) < 15


def test_a_broken_off_level_ends_when_it_was_broken_off(pretend):
    document = pretend("--levels", "1,2", "--level-s", "20").play(7).document()
    assert [level["seconds"] for level in document["levels"]] == [5]
    assert document["is_complete"] is False
    assert any("broken off" in finding for finding in document["findings"])


@pytest.mark.parametrize(("rate", "seconds"), [(0.08, 12.5), (0.1, 10.0), (0.4, 10.0), (3.0, 10.0)])
def test_a_stream_has_the_rate_that_was_asked_for_in_each_slot(rate, seconds):
    stream = arrivals(rate, 1000.0, random.Random(0))
    for slot in range(40):
        moments = [next(stream) for _ in range(round(rate * seconds))]
        assert moments == sorted(moments)
        assert 1000 + seconds * slot <= moments[0] <= moments[-1] <= 1000 + seconds * (slot + 1)


@pytest.mark.parametrize("rate", [0.05, 0.25, 1, 8, 37.5, 1000])
def test_a_single_rate_is_exact_within_seconds_and_not_minutes(rate):
    assert 10 <= slot_s("arrivals", [rate]) <= 20


def counts_of(options, seed, begin_s, end_s):
    """Arrivals of all streams of the first level, second by second."""
    choice, rate = random.Random(seed), stream_rate(options.shape, options.rates)
    streams = [arrivals(rate, 0.0, choice) for _ in range(users_of(next(course_of(options)), options))]
    moments = Counter(int(at_s) for one in streams for at_s in takewhile(lambda at_s: at_s < end_s, one))
    return [moments[second] for second in range(begin_s, end_s)]


def test_what_is_sent_is_what_was_asked_for(options_of):
    """A Poisson process of 400 arrivals strays by 5 %, and with the default seed it sent 9.2 where 8 were asked for."""
    options = options_of("--preset", "ci")
    sent = [sum(counts_of(options, seed, 5, 55)) / 50 for seed in ("0/0", *range(200))]
    assert sent[0] == pytest.approx(8, rel=0.03)
    assert statistics.mean(sent) == pytest.approx(8, rel=0.01)
    assert statistics.stdev(sent) < 0.025 * 8


def test_arrivals_come_at_random_within_seconds(options_of):
    """As of a Poisson process, the variance of the counts of seconds is their mean, but for a tenth: the slots'."""
    options = options_of("--shape", "arrivals", "--rates", "50")
    counts = [count for seed in range(20) for count in counts_of(options, seed, 0, 50)]
    assert statistics.variance(counts) / statistics.mean(counts) == pytest.approx(0.9, abs=0.12)


@pytest.mark.parametrize(
    "words", ["--rates 1,10,100", "--rates 0.5,1", "--shape arrivals --rates 37.5", "--shape soak --rates 0.25"]
)
def test_streams_of_arrivals_add_up_to_the_rate(options_of, words):
    options = options_of(*words.split())
    for level in course_of(options):
        streams = users_of(level, options)
        assert streams * stream_rate(options.shape, options.rates) == pytest.approx(level.rate, rel=0.01)


def test_a_generator_that_cannot_keep_up_is_called_out(pretend):
    run = pretend("--shape", "arrivals", "--rates", "50", "--level-s", "20")
    run.play()
    assert not run.document()["generator"]["is_saturated"]
    for one in run.recorder.generator.values():
        one.cpu_s = 0.97
    document = run.document()
    assert document["generator"]["is_saturated"]
    assert "The load generator is saturated" in document["findings"][0]


def test_requests_that_are_sent_late_are_called_out(pretend):
    run = pretend("--shape", "arrivals", "--rates", "50", "--level-s", "20").play()
    for second in range(20):
        for _ in range(5):
            run.recorder.sent(1_000_000.0 + second, "http", ONE_FACE, 80.0)
    assert run.document()["generator"]["is_saturated"]
