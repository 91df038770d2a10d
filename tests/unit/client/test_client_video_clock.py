"""Times of frames from their stamps, and what is made of stamps that cannot be true."""

import itertools

import numpy as np
import pytest

from fer_client.video.clock import FrameClock, StampChoice

STEP_S = 1 / 30


def times(stamps, interval_s=STEP_S):
    clock = FrameClock(interval_s)
    return clock, [clock.time_s(stamp) for stamp in stamps]


def steady(count, start_s=0.0, step_s=STEP_S):
    return [start_s + index * step_s for index in range(count)]


@pytest.mark.parametrize("start_s", [0.0, -0.5, 95443.7])
def test_the_first_frame_is_at_0_wherever_stamps_start(start_s):
    clock, result = times(steady(10, start_s))
    assert result == pytest.approx(steady(10))
    assert clock.jumps == 0


def test_variable_steps_are_believed():
    stamps = list(itertools.accumulate([0, 0.01, 0.04, 2, 0.03, 30, 0.5, 59]))
    clock, result = times(stamps)
    assert result == pytest.approx(stamps)
    assert clock.jumps == 0


@pytest.mark.parametrize("interval_s", [20.0, 600.0])
def test_frames_far_apart_are_no_jumps_where_that_is_usual(interval_s):
    stamps = [0, interval_s, 2 * interval_s, 8 * interval_s]
    clock, result = times(stamps, interval_s)
    assert (result, clock.jumps) == (pytest.approx(stamps), 0)


@pytest.mark.parametrize("jump_s", [61.0, 600.0, 3600.0, 95443.7, 1e12, -0.1, -3.0, -3600.0, -1e12])
def test_a_jump_counts_as_one_step_and_what_follows_is_believed_again(jump_s):
    later = [40 * STEP_S + jump_s + offset for offset in itertools.accumulate([0, *[0.03, 0.05, 0.02] * 10])]
    clock, result = times([*steady(40), *later])
    assert result[:41] == pytest.approx(steady(41))
    assert np.diff(result[40:]) == pytest.approx(np.diff(later), abs=1e-3)
    assert clock.jumps == 1
    assert clock.first_jump.at_s == pytest.approx(39 * STEP_S)
    assert clock.first_jump.step_s == pytest.approx(jump_s + STEP_S)


@pytest.mark.parametrize("wrong_s", [3600.0, -3600.0, 2.0**33 / 90000])
def test_one_wrong_stamp_moves_no_other_frame(wrong_s):
    stamps = steady(40)
    stamps[20] = wrong_s
    _, result = times(stamps)
    assert result[:20] + result[21:] == pytest.approx(steady(20) + steady(19, 21 * STEP_S))
    assert result[19] < result[20] < result[21]


def test_stamps_that_are_missing_are_filled_in():
    stamps = [0, None, None, 3 * STEP_S, None, 5 * STEP_S]
    assert times(stamps)[1] == pytest.approx(steady(6))
    assert times([None] * 6)[1] == pytest.approx(steady(6))
    assert times([None, 7.0, 7.0 + STEP_S])[1] == pytest.approx(steady(3))


def test_two_frames_with_one_stamp_delay_no_other():
    clock, result = times([0, STEP_S, STEP_S, 2 * STEP_S, 3 * STEP_S])
    assert result == pytest.approx([0, STEP_S, 1.5 * STEP_S, 2 * STEP_S, 3 * STEP_S])
    assert clock.jumps == 0


@pytest.mark.parametrize("stamps", [[5.0] * 40, steady(40, step_s=1e-6), steady(40, step_s=-STEP_S)])
def test_a_clock_that_stands_still_or_runs_wrongly_gives_frames_at_the_usual_rate(stamps):
    _, result = times(stamps)
    assert result[-1] == pytest.approx(39 * STEP_S, rel=0.1)


def test_times_grow_whatever_the_stamps_are():
    """Also where they are drawn at random from the whole range of what a file can say."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        stamps = [None if rng.random() < 0.2 else float(rng.normal() * 10.0 ** rng.integers(-7, 13)) for _ in range(50)]
        _, result = times(stamps)
        assert all(0 < later - earlier <= 60 for earlier, later in itertools.pairwise(result))


def test_another_clock_goes_on_after_the_pause():
    clock, before = times(steady(30, start_s=700))
    clock.restart(4.0)
    after = [clock.time_s(stamp) for stamp in steady(30, start_s=12)]
    assert after == pytest.approx(steady(30, start_s=before[-1] + 4))
    assert clock.jumps == 0


@pytest.mark.parametrize(
    ("shown", "decoded", "expected"),
    [
        ([0, 2, 4, 6], [0, 1, 2, 3], [0, 2, 4, 6]),
        ([2, 6, 4, 12, 10, 14, 8], [4, 6, 8, 10, 12, 14, 16], [2, 6, 8, 10, 12, 14, 16]),
        ([0, 2, 1, 3, 8], [0, 0, 0, 0, 0], [0, 2, 1, 3, 8]),
        ([0, 4, 2, 6], [2, 4, 6, None], [0, 4, 6, None]),
        ([5, 1, 2], [None, None, None], [5, 1, 2]),
        ([None, None, 5], [1, 2, 3], [1, 2, 5]),
        ([None, None], [None, None], [None, None]),
    ],
    ids=[
        "shown",
        "shown goes back",
        "decoded stands still",
        "decoded ends",
        "only shown",
        "shown is missing",
        "neither",
    ],
)
def test_the_stamp_that_goes_back_less_often_is_chosen(shown, decoded, expected):
    choice = StampChoice()
    assert [choice.choose(*stamps) for stamps in zip(shown, decoded, strict=True)] == expected
