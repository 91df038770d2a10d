"""Following faces: which is which from frame to frame."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from clips import face_at

from fer_client import Box, ImageSize, Landmarks, Point
from fer_client.video.tracking import Tracker, assign

STEP_S = 1 / 30
SIZE = ImageSize(1280, 720)


def follow(frames, tracker=None, step_s=STEP_S):
    """Tracks of the faces of each frame; frames are lists of faces."""
    tracker = tracker or Tracker(patience_s=1.0)
    return [tracker.update(index * step_s, faces, SIZE) for index, faces in enumerate(frames)]


def test_a_face_that_moves_stays_one_track():
    frames = [[face_at(100 + 8 * index, 50 + 3 * index, 100 + index)] for index in range(60)]
    assert follow(frames) == [[1]] * 60


def test_jitter_of_the_detector_starts_no_track():
    rng = np.random.default_rng(0)
    frames = [[face_at(*(100 + rng.normal(0, 3, 2)), 100 + rng.normal(0, 4))] for _ in range(300)]
    assert follow(frames) == [[1]] * 300


def test_tracks_do_not_depend_on_the_order_of_faces():
    left, right = face_at(50, 50, 100), face_at(300, 50, 101)
    assert follow([[left, right], [right, left], [left, right]]) == [[1, 2], [2, 1], [1, 2]]


def test_a_new_face_gets_a_new_number_and_the_old_ones_keep_theirs():
    old, new = face_at(50, 50), face_at(300, 50)
    assert follow([[old], [old, new], [new, old]]) == [[1], [1, 2], [2, 1]]


def test_faces_that_pass_each_other_keep_their_tracks():
    """Closer than a quarter of a face, one lower than the other, each going its own way."""
    frames = [[face_at(50 + 6 * index, 100), face_at(350 - 6 * index, 125)] for index in range(50)]
    assert follow(frames) == [[1, 2]] * 50


def test_a_face_hidden_while_it_passes_behind_another_keeps_its_track():
    shown = [[face_at(50 + 6 * index, 100), face_at(350 - 6 * index, 100)] for index in range(50)]
    frames = [faces if abs(faces[0].box.x_min - faces[1].box.x_min) > 70 else faces[:1] for faces in shown]
    tracks = follow(frames)
    assert [1] in tracks  # One was hidden indeed.
    assert tracks[0] == tracks[-1] == [1, 2]


@pytest.mark.parametrize(("missed", "after"), [(1, 1), (10, 1), (28, 1), (32, 2), (200, 2)])
def test_a_track_survives_when_its_face_is_out_of_sight_for_less_than_a_second(missed, after):
    frames = [[face_at(100, 100)]] * 5 + [[]] * missed + [[face_at(108, 96)]] * 5
    assert follow(frames)[-1] == [after]


def test_a_face_out_of_sight_is_expected_where_it_was_going():
    moving = [[face_at(50 + 12 * index, 100)] for index in range(40)]
    tracks = follow(moving[:15] + [[]] * 8 + moving[23:])
    assert tracks[-1] == [1]


def test_a_face_that_appears_elsewhere_is_another():
    assert follow([[face_at(50, 50)], [face_at(250, 50)]]) == [[1], [2]]


def test_a_face_of_another_size_in_the_same_place_is_another():
    assert follow([[face_at(50, 50, 200)], [face_at(110, 130, 80)]]) == [[1], [2]]


def test_a_cut_ends_all_tracks():
    tracker = Tracker()
    before = tracker.update(0, [face_at(50, 50), face_at(300, 50)], SIZE)
    tracker.end_all()
    assert (before, tracker.update(STEP_S, [face_at(50, 50)], SIZE)) == ([1, 2], [3])


def test_open_tracks_are_those_that_can_go_on():
    tracker = Tracker(patience_s=1.0)
    tracker.update(0.0, [face_at(50, 50), face_at(300, 50)], SIZE)
    tracker.update(0.9, [face_at(50, 50)], SIZE)
    assert set(tracker.open_tracks) == {1, 2}
    tracker.update(1.1, [face_at(50, 50)], SIZE)
    assert set(tracker.open_tracks) == {1}


def test_faces_keep_their_tracks_when_the_video_changes_its_size():
    """A quarter of the pixels in each direction, twice as wide as before, and back, while both faces walk on."""
    tracker = Tracker()
    tracks = []
    for index in range(30):
        across, down = {0: (1, 1), 1: (0.25, 0.25), 2: (0.5, 0.25)}[index // 5 % 3]
        faces = [face_at(100 + 5 * index, 200, 150), face_at(900 - 5 * index, 100, 130)]
        size = ImageSize(round(1280 * across), round(720 * down))
        tracks.append(tracker.update(index * STEP_S, [scaled(face, across, down) for face in faces], size))
    assert tracks == [[1, 2]] * 30


def scaled(face, across, down):
    """The same face in a picture of another size."""
    x_min, y_min, x_max, y_max = face.box
    box = Box(x_min * across, y_min * down, x_max * across, y_max * down)
    return replace(face, box=box, landmarks=Landmarks(*(Point(x * across, y * down) for x, y in face.landmarks)))


def test_a_face_that_is_seen_every_20_s_is_one_track():
    """As in a time lapse: it has not moved far, but its detection has."""
    rng = np.random.default_rng(0)
    frames = [[face_at(*(300 + rng.normal(0, 30, 2)), 200)] for _ in range(30)]
    assert follow(frames, Tracker(patience_s=50), step_s=20) == [[1]] * 30


def test_frames_far_apart_in_time_are_followed_too():
    """As with `--every 10`: a third of a second, in which a face moves by a third of itself."""
    assert follow([[face_at(50 + 33 * index, 100)] for index in range(10)], step_s=1 / 3) == [[1]] * 10


@pytest.mark.parametrize("seed", range(5))
def test_pairs_cost_the_least_that_is_possible(seed):
    rng = np.random.default_rng(seed)
    for rows, columns in itertools.product(range(5), range(5)):
        costs = np.where(rng.random((rows, columns)) < 0.2, np.inf, np.round(rng.random((rows, columns)), seed % 3))
        pairs = assign(costs, most=0.8)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
        assert sum(costs[pair] for pair in pairs) + 0.8 * (rows - len(pairs)) == pytest.approx(least(costs, 0.8))


def least(costs, most):
    """The least total cost, by trying everything."""
    rows, columns = costs.shape
    choices = itertools.permutations([*range(columns), *[None] * rows], rows)
    return min(
        sum(most if column is None or costs[row, column] >= most else costs[row, column]
            for row, column in enumerate(choice))
        for choice in choices
    )  # fmt: skip
