"""From frames to sightings, and what becomes of frames without an answer. The client here says what a test tells it."""

import contextlib
import dataclasses

import pytest
from clips import LABELS, face_at

from fer_client import (
    ContractError,
    ImageRefusedError,
    ImageSize,
    Prediction,
    RequestTimeoutError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_client.video.analysis import analyse
from fer_client.video.frames import Frame
from fer_client.video.settings import AnalysisSettings

URL = "grpc://somewhere:8001"
REFUSED = ImageRefusedError(URL, "IMAGE: too large")
LATE = RequestTimeoutError(URL, "30 s")
FULL = ServerOverloadedError(URL, "queue is full")
GONE = ServerUnreachableError(URL, "connection refused")


class ScriptedClient:
    """Answers frame after frame with a script of predictions and errors. It asks for frames as the real one does."""

    labels = LABELS

    def __init__(self, script, uncertain_below=0.0):
        self.script = script
        self.uncertain_below = uncertain_below
        self.taken = 0
        self.is_closed = False

    def predict_many(self, images, *, concurrency):
        images = iter(images)
        ahead = []
        try:
            for answer in self.script:
                while len(ahead) < 2 * concurrency and (image := next(images, None)) is not None:
                    ahead.append(image)
                    self.taken += 1
                if not ahead:
                    return
                ahead.pop(0)
                yield answer
        finally:
            self.is_closed = True


def seen(*faces):
    return Prediction(ImageSize(640, 480), faces, "v1")


def frames(count=1000, cuts=(), sizes=lambda number: ImageSize(640, 480)):
    for number in range(count):
        yield Frame(number, number / 30, b"jpeg", sizes(number), number in cuts)


def sightings(client, **options):
    return [sighting for _, sighting in analyse(frames(**options), client, AnalysisSettings(1 / 30, concurrency=4))]


def test_a_frame_with_more_faces_than_are_answered_says_so():
    crowd = Prediction(ImageSize(640, 480), (face_at(50, 50),), "v1", faces_left_out=8)
    alone, crowded = sightings(ScriptedClient([seen(face_at(50, 50)), crowd]), count=2)
    assert crowded.to_dict()["faces_left_out"] == 8
    assert "faces_left_out" not in alone.to_dict()


def test_each_frame_has_its_own_sighting():
    client = ScriptedClient([seen(face_at(50 + number, 50)) for number in range(20)])
    results = list(analyse(frames(20), client, AnalysisSettings(1 / 30)))
    assert [(frame.number, sighting.frame) for frame, sighting in results] == [(n, n) for n in range(20)]
    assert [sighting.faces[0].face.box.x_min for _, sighting in results] == [50 + n for n in range(20)]
    assert {sighting.faces[0].track for _, sighting in results} == {1}


def test_frames_are_taken_a_few_ahead_only():
    """Or an hour of video would be in memory."""
    client = ScriptedClient([seen()] * 1000)
    with contextlib.closing(analyse(frames(), client, AnalysisSettings(1 / 30, concurrency=4))) as results:
        for _ in range(100):
            next(results)
    assert client.taken <= 100 + 8
    assert client.is_closed


def test_labels_are_smoothed_and_uncertain_below_the_servers_threshold():
    happy, sad = face_at(50, 50, happy=0.8), face_at(50, 50, happy=0.1)
    script = [seen(happy)] * 30 + [seen(sad)] + [seen(happy)] * 10
    results = sightings(ScriptedClient(script, uncertain_below=0.75))
    assert {sighting.faces[0].label for sighting in results} == {"happy"}
    assert results[30].faces[0].face.emotion != "happy"
    assert [sighting.faces[0].is_uncertain for sighting in (results[29], results[30])] == [False, True]


def test_a_server_without_a_threshold_has_no_uncertain_faces():
    (sighting,) = sightings(ScriptedClient([seen(face_at(0, 0, happy=0.15))], uncertain_below=None), count=1)
    assert not sighting.faces[0].is_uncertain


def test_a_frame_of_another_size_says_so_and_keeps_its_tracks():
    sizes = [ImageSize(640, 480)] * 2 + [ImageSize(320, 240)] * 2 + [ImageSize(640, 480)]
    script = [seen(face_at(100, 100))] * 2 + [seen(face_at(50, 50, 50))] * 2 + [seen(face_at(100, 100))]
    results = sightings(ScriptedClient(script), count=5, sizes=lambda number: sizes[number])
    assert [sighting.image_size for sighting in results] == [None, None, (320, 240), (320, 240), None]
    assert [sighting.faces[0].track for sighting in results] == [1] * 5
    assert results[2].to_dict()["image_size"] == {"width": 320, "height": 240}
    assert "image_size" not in results[0].to_dict()


def test_a_frame_in_which_a_face_is_badly_seen_is_uncertain_however_sure_the_label():
    face = face_at(50, 50, happy=0.9)
    dark = dataclasses.replace(face, uncertain=True, uncertain_reasons=("too dark",))
    unsure = dataclasses.replace(face, uncertain=True, uncertain_reasons=("low confidence",))
    results = sightings(ScriptedClient([seen(face), seen(dark), seen(unsure)], uncertain_below=0.5), count=3)
    assert [sighting.faces[0].is_uncertain for sighting in results] == [False, True, False]


def test_a_cut_starts_new_tracks_with_probabilities_of_their_own():
    happy, sad = face_at(50, 50, happy=0.9), face_at(50, 50, happy=0.1)
    results = sightings(ScriptedClient([seen(happy)] * 10 + [seen(sad)] * 10), count=20, cuts={10})
    assert [sighting.faces[0].track for sighting in results] == [1] * 10 + [2] * 10
    assert results[10].faces[0].probabilities["happy"] == pytest.approx(0.1)


def test_a_cut_counts_when_its_frame_has_no_answer_too():
    face = face_at(50, 50)
    results = sightings(ScriptedClient([seen(face), REFUSED, seen(face)]), count=3, cuts={1})
    assert [[each.track for each in sighting.faces] for sighting in results] == [[1], [], [2]]


def test_refused_frames_are_sightings_with_an_error_however_many():
    results = sightings(ScriptedClient([REFUSED] * 50), count=50)
    assert [sighting.error for sighting in results] == [REFUSED] * 50


@pytest.mark.parametrize("passing", [LATE, FULL])
def test_a_failure_now_and_then_costs_a_frame_and_no_track(passing):
    face = face_at(50, 50)
    results = sightings(ScriptedClient([seen(face), passing, passing, seen(face)] * 5), count=20)
    assert sum(sighting.error is passing for sighting in results) == 10
    assert {each.track for sighting in results for each in sighting.faces} == {1}


def test_five_failures_in_a_row_end_it_with_what_was_seen_before():
    client = ScriptedClient([seen()] * 3 + [LATE] * 20)
    results = analyse(frames(), client, AnalysisSettings(1 / 30))
    assert [next(results)[1].error for _ in range(7)] == [None] * 3 + [LATE] * 4
    with pytest.raises(RequestTimeoutError):
        next(results)
    assert client.is_closed


@pytest.mark.parametrize("final", [GONE, ContractError(URL, "no model")])
def test_a_server_that_is_gone_ends_it_at_once(final):
    results = analyse(frames(), ScriptedClient([seen(), final, seen()]), AnalysisSettings(1 / 30))
    assert next(results)[1].error is None
    with pytest.raises(type(final)):
        next(results)
