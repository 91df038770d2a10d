"""The search for capacity, against servers whose capacity is known."""

import random

import pytest

from fer_loadtest.capacity import search_rate


def run_search(holds, start=8.0, tolerance=0.05, confirmations=3, **more):
    """The result, and all rates that were tried."""
    steps, tried, held = search_rate(start, tolerance, confirmations, **more), [], None
    try:
        while True:
            trial = next(steps) if held is None else steps.send(held)
            tried.append(trial)
            held = holds(trial.rate)
    except StopIteration as end:
        return end.value, tried


@pytest.mark.parametrize("capacity", [0.7, 3.0, 63.0, 1500.0])
def test_a_sharp_limit_is_found_within_the_tolerance(capacity):
    found, tried = run_search(lambda rate: rate <= capacity)
    assert found.rate <= capacity < found.fails_at
    assert (found.fails_at - found.rate) / found.rate <= 0.05
    assert (found.held, found.tried) == (3, 3)
    assert len(tried) < 20


def test_what_held_by_luck_is_lowered():
    rng = random.Random(3)
    lucky = iter([True, True, True, False])

    def holds(rate):
        return next(lucky, rate <= 50 and rng.random() < 0.9)

    found, tried = run_search(holds)
    assert found.rate < 64
    assert found.held >= 2
    assert [trial.purpose for trial in tried].count("confirm") >= 3


def test_a_server_that_holds_nothing_has_no_capacity():
    found, tried = run_search(lambda rate: False)
    assert (found.rate, found.tried) == (None, 0)
    assert min(trial.rate for trial in tried) < 0.3


def test_a_search_ends_where_trials_have_too_few_answers():
    found, tried = run_search(lambda rate: False, start=9.0, smallest=2.5)
    assert [trial.rate for trial in tried] == [9.0, 4.5]
    assert (found.rate, found.fails_at) == (None, 4.5)
    _, tried = run_search(lambda rate: False, start=1.0, smallest=2.5)
    assert [trial.rate for trial in tried] == [2.5]


def test_a_server_without_a_limit_ends_the_search():
    found, _ = run_search(lambda rate: True)
    assert found.rate > 50_000
    assert found.fails_at is None


def test_a_server_that_never_holds_twice_ends_the_search():
    answers = iter([True, False] + [True] * 20)
    seen = set()

    def holds(rate):
        first = rate not in seen
        seen.add(rate)
        return first and next(answers, True)

    found, tried = run_search(holds)
    assert found.rate is None
    assert len(tried) < 60
