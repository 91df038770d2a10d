"""Steady probabilities and labels: what flickers before does not after, and what changes still does."""

import numpy as np
import pytest

from fer_client.video.settings import SmoothingSettings
from fer_client.video.smoothing import Smoother

LABELS = 7
SWITCH_S = 3.0


def smooth(times_s, rows, settings=None, interval_s=1 / 30):
    """Smoothed probabilities (frames, labels) and labels (frames,)."""
    smoother = Smoother(settings or SmoothingSettings(), interval_s)
    results = [smoother.update(time_s, row) for time_s, row in zip(times_s, rows, strict=True)]
    return np.array([row for row, _ in results]), np.array([label for _, label in results])


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def noisy_minutes(minutes, correlation=0.0, rate=30):
    """Times, true labels that change every three seconds, and probabilities with noise on the logits."""
    rng = np.random.default_rng(7)
    frames = int(60 * minutes * rate)
    times_s = np.arange(frames) / rate
    truth = (times_s // SWITCH_S).astype(int) % 4
    noise = rng.normal(0, 1, (frames, LABELS))
    for frame in range(1, frames):
        noise[frame] = correlation * noise[frame - 1] + np.sqrt(1 - correlation**2) * noise[frame]
    return times_s, truth, softmax(2 * np.eye(LABELS)[truth] + noise)


def changes_per_minute(labels, minutes):
    return np.count_nonzero(np.diff(labels)) / minutes


def test_labels_that_flicker_change_as_often_as_the_truth():
    """816 changes a minute, where there are 20 in truth, become 20, and more of the frames are right."""
    times_s, truth, raw = noisy_minutes(3)
    _, labels = smooth(times_s, raw)
    assert changes_per_minute(raw.argmax(axis=1), 3) > 700
    assert changes_per_minute(truth, 3) - 1 <= changes_per_minute(labels, 3) <= changes_per_minute(truth, 3) + 1
    assert (labels == truth).mean() > 0.9 > 0.8 > (raw.argmax(axis=1) == truth).mean()


def test_the_margin_steadies_labels_where_the_noise_lasts():
    times_s, _, raw = noisy_minutes(3, correlation=0.8)
    changes = [
        changes_per_minute(smooth(times_s, raw, SmoothingSettings(0.3, margin))[1], 3) for margin in (0, 0.1, 0.2)
    ]
    assert changes_per_minute(raw.argmax(axis=1), 3) > 300
    assert changes[0] > 1.3 * changes[1] > 1.3 * changes[2]


def test_what_is_smoothed_are_probabilities():
    times_s, _, raw = noisy_minutes(0.1)
    smoothed, _ = smooth(times_s, raw)
    assert smoothed.sum(axis=1) == pytest.approx(1)
    assert smoothed.min() > 0


def test_what_does_not_change_stays_as_it_is():
    row = np.array([0.1, 0.05, 0.05, 0.5, 0.1, 0.1, 0.1])
    smoothed, labels = smooth(np.arange(50) / 30, [row] * 50)
    assert smoothed == pytest.approx(np.tile(row, (50, 1)))
    assert set(labels) == {3}


@pytest.mark.parametrize("rate", [5, 15, 60])
def test_the_curve_follows_time_and_not_frames(rate):
    """After a change, a label's share of the logits has grown to 1 - 1/e within the time constant, at any rate."""
    before, after = np.array([0.8, 0.1, 0.1]), np.array([0.1, 0.8, 0.1])
    times_s = np.arange(10 * rate + 1) / rate
    rows = [before if time_s < 5 else after for time_s in times_s]
    smoothed, _ = smooth(times_s, rows, SmoothingSettings(1.0, 0), 1 / rate)
    (at,) = np.flatnonzero(np.isclose(times_s, 6 - 1 / rate))  # The frame at 5 s stands for the time before it.
    logit = np.log(smoothed[at, 1] / smoothed[at, 0]) / np.log(8)  # from -1 to 1
    assert (logit + 1) / 2 == pytest.approx(1 - np.exp(-1), abs=0.01)


def test_one_frame_that_is_sure_of_something_else_changes_nothing():
    rows = [softmax(np.array([2.0, 0, 0]))] * 30
    rows[15] = np.array([0.0, 1.0, 0.0])
    _, labels = smooth(np.arange(30) / 30, rows)
    assert set(labels) == {0}


def test_one_frame_does_not_outweigh_all_before_a_gap():
    """The face was out of sight for most of a second; its first frame after that is blurred."""
    times_s = [*np.arange(30) / 30, 1.4, 1.4 + 1 / 30]
    happy, blurred = np.array([0.9, 0.05, 0.05]), np.array([0.2, 0.7, 0.1])
    _, labels = smooth(times_s, [happy] * 30 + [blurred, happy])
    assert set(labels) == {0}


def test_the_first_frame_has_no_head_start():
    """The second frame counts as much as the first, not a tenth of it."""
    first, second = np.array([0.6, 0.4]), np.array([0.2, 0.8])
    smoothed, _ = smooth([0, 0.001], [first, second], SmoothingSettings(0.3, 0), 0.001)
    average = np.exp((np.log(first) + np.log(second)) / 2)
    assert smoothed[1] == pytest.approx(average / average.sum(), abs=2e-3)


def test_without_smoothing_nothing_is_changed():
    times_s, _, raw = noisy_minutes(0.1)
    smoothed, labels = smooth(times_s, raw, SmoothingSettings(0, 0))
    assert (smoothed == raw).all()
    assert (labels == raw.argmax(axis=1)).all()


def test_a_label_stays_until_another_leads_by_more_than_the_margin():
    rows = [[0.6, 0.4], [0.47, 0.53], [0.46, 0.54], [0.44, 0.56], [0.46, 0.54], [0.54, 0.46], [0.56, 0.44]]
    _, labels = smooth(range(7), np.array(rows), SmoothingSettings(0, 0.1))
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 0]
