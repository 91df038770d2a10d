"""Episodes, and the history behind the plot."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from clips import LABELS, face_at

from fer_client.video.plot import MOST_POINTS, MOST_TRACKS, History
from fer_client.video.sightings import EpisodeCollector, Sighting, TrackedFace

RATE = 10


def sighting(frame, labels_by_track, starts_scene=False, confidence=0.6, uncertain=False):
    """A frame in which each track shows a label."""
    faces = []
    for track, label in labels_by_track.items():
        rest = (1 - confidence) / 6
        probabilities = {name: confidence if name == label else rest for name in LABELS}
        faces.append(TrackedFace(track, face_at(100 * track, 100), probabilities, label, uncertain))
    return Sighting(frame, frame / RATE, tuple(faces), starts_scene)


def collect(sightings, minimum_s=0.5, patience_s=1.0):
    collector = EpisodeCollector(minimum_s, 1 / RATE, patience_s)
    for each in sightings:
        collector.add(each)
    return collector


def spans(collector):
    return [(e.track, e.label, round(e.start_s, 3), round(e.end_s, 3)) for e in collector.episodes()]


def test_a_label_makes_an_episode_until_the_next_one():
    frames = [sighting(i, {1: "neutral" if i < 12 else "sad"}) for i in range(36)]
    assert spans(collect(frames)) == [(1, "neutral", 0, 1.2), (1, "sad", 1.2, 3.6)]


def test_what_is_too_short_is_left_out_and_what_is_as_long_as_wanted_is_not():
    frames = [sighting(i, {1: "neutral" if i < 5 else "happy" if i < 9 else "sad"}) for i in range(20)]
    assert spans(collect(frames, minimum_s=0.5)) == [(1, "neutral", 0, 0.5), (1, "sad", 0.9, 2.0)]


def test_each_track_has_its_own():
    frames = [sighting(i, {1: "happy", 2: "fear"} if 5 <= i < 15 else {1: "happy"}) for i in range(30)]
    assert spans(collect(frames)) == [(1, "happy", 0, 3.0), (2, "fear", 0.5, 1.5)]


def test_an_episode_goes_on_while_its_face_is_out_of_sight_for_a_moment():
    frames = [sighting(i, {} if 10 <= i < 18 else {1: "happy"}) for i in range(30)]
    assert spans(collect(frames)) == [(1, "happy", 0, 3.0)]


def test_a_cut_ends_episodes():
    frames = [sighting(i, {1 if i < 10 else 2: "happy"}, starts_scene=i == 10) for i in range(30)]
    assert spans(collect(frames)) == [(1, "happy", 0, 1.0), (2, "happy", 1.0, 3.0)]


def test_the_episodes_of_a_track_that_has_ended_take_no_memory_when_they_were_short():
    frames = [sighting(3 * i, {i: "happy"}, starts_scene=True) for i in range(1, 2000)]
    collector = collect(frames)
    assert spans(collector) == []
    assert len(collector._open) == 1


def test_confidence_is_the_mean_and_uncertainty_the_majority():
    sure = [sighting(i, {1: "sad"}, confidence=0.6) for i in range(10)]
    unsure = [sighting(i, {1: "sad"}, confidence=0.4, uncertain=True) for i in range(10, 16)]
    (episode,) = collect(sure + unsure).episodes()
    assert episode.confidence == pytest.approx((10 * 0.6 + 6 * 0.4) / 16)
    assert not episode.is_uncertain
    (episode,) = collect(sure[:5] + unsure).episodes()
    assert episode.is_uncertain


def test_changes_are_counted_with_and_without_smoothing():
    """The faces of `face_at` are happy if they are more than one seventh so, else angry."""
    frames = []
    for index in range(10):
        face = face_at(0, 0, happy=0.9 if index % 2 else 0.1)
        probabilities = dict.fromkeys(LABELS, 1 / 7)
        label = "happy" if index < 7 else "sad"
        frames.append(Sighting(index, index / RATE, (TrackedFace(1, face, probabilities, label, False),)))
    collector = collect(frames)
    assert (collector.label_changes, collector.raw_changes) == (1, 9)


def test_an_episode_is_plain_values_for_json():
    (episode,) = collect([sighting(i, {1: "sad"}) for i in range(24)]).episodes()
    assert episode.to_dict() == {
        "track": 1,
        "label": "sad",
        "start_s": 0.0,
        "end_s": 2.4,
        "duration_s": 2.4,
        "confidence": 0.6,
        "uncertain": False,
    }


def test_history_has_each_frame_of_a_short_video():
    history = History(LABELS, 1 / RATE)
    for frame in range(50):
        history.add(sighting(frame, {1: "happy" if frame < 25 else "sad"}))
    (curve,) = history.curves()
    assert curve.times_s == pytest.approx(np.arange(50) / RATE + 0.05)
    assert curve.probabilities[:, 3].tolist() == pytest.approx([0.6] * 25 + [0.4 / 6] * 25)
    assert [LABELS[index] for index in curve.labels] == ["happy"] * 25 + ["sad"] * 25


def test_history_of_a_long_video_is_averaged_over_time():
    history = History(LABELS, 1 / RATE)
    frames = 5 * MOST_POINTS
    for frame in range(frames):
        history.add(sighting(frame, {1: "happy"}, confidence=frame / frames))
    (curve,) = history.curves()
    assert MOST_POINTS / 2 <= len(curve.times_s) <= MOST_POINTS
    assert curve.probabilities[:, 3] == pytest.approx(curve.times_s * RATE / frames, abs=2 / MOST_POINTS)
    assert curve.frames == frames


def test_history_keeps_the_longest_tracks():
    history = History(LABELS, 1 / RATE)
    frame = 0
    for track in range(1, 201):
        for _ in range(100 if track in (3, 150, 200) else 2):
            history.add(sighting(frame, {track: "happy"}))
            frame += 1
    assert history.tracks_seen == 200
    assert len(history.curves()) == MOST_TRACKS
    assert [curve.track for curve in history.curves(3)] == [3, 150, 200]


def test_history_has_all_faces_together_too():
    history = History(LABELS, 1 / RATE)
    for frame in range(40):
        history.add(sighting(frame, {frame // 10 + 1: "happy" if frame < 20 else "sad", 99: "happy"}))
    curve = history.everyone()
    assert curve.probabilities[:, 3].tolist() == pytest.approx([0.6] * 20 + [(0.6 + 0.4 / 6) / 2] * 20)
    assert curve.probabilities.sum(axis=1) == pytest.approx(1)
    assert len(curve.labels) == 40


def test_an_hour_takes_no_more_memory_than_its_first_quarter():
    """A face in each frame, one more for a while now and then, no episode long enough to be kept."""
    history, collector = History(LABELS, 0.5), EpisodeCollector(3.0, 0.5, 1.0)
    most = [0, 0]  # in the first quarter, after it
    tracemalloc.start()
    for frame in range(7200):
        seen = {1: "happy" if frame // 2 % 2 else "sad"}
        if frame % 40 < 2:
            seen[2 + frame // 40] = "fear"
        shown = replace(sighting(frame, seen), time_s=frame / 2)
        history.add(shown)
        collector.add(shown)
        most[frame >= 1800] = max(most[frame >= 1800], tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert most[1] < 1.2 * most[0]
