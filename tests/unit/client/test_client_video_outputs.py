"""The files that an analysis writes: timeline, annotated video, plot; and the bar meanwhile."""

import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import LABELS, face_at, read_clip, scenery
from PIL import Image

from fer_client import FerClientError, ImageSize
from fer_client.video.annotated import AnnotatedVideo
from fer_client.video.clock import format_time
from fer_client.video.drawing import FrameDrawing
from fer_client.video.errors import VideoError
from fer_client.video.history import History
from fer_client.video.plot import MOST_PANELS, plot
from fer_client.video.progress import VideoProgress
from fer_client.video.sightings import Sighting, TrackedFace
from fer_client.video.timeline import TimelineFile

SIZE = ImageSize(320, 240)


def jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


def tracked(track=1, x=60, y=70, label="happy", uncertain=False, confidence=0.7):
    probabilities = {name: confidence if name == label else (1 - confidence) / 6 for name in LABELS}
    return TrackedFace(track, face_at(x, y), probabilities, label, uncertain)


def write_annotated(path, times_s, rate=30.0, sightings=None):
    """Annotate frames, each plain in a gray of its own, and return what players show of it."""
    video = AnnotatedVideo(path, rate, SIZE, LABELS)
    for index, time_s in enumerate(times_s):
        shown = sightings[index] if sightings else Sighting(index, time_s)
        video.add(jpeg(np.full((240, 320, 3), 40 + 20 * index, np.uint8)), shown)
    video.close()
    return read_clip(path)


def grays(frames):
    """Which of the pictures of `write_annotated` each frame is."""
    return [round((float(frame[200:220, 20:40].mean()) - 40) / 20) for frame in frames]


def test_a_line_of_the_timeline_is_there_as_soon_as_its_frame_is(tmp_path):
    timeline = TimelineFile(tmp_path / "t.jsonl")
    for index in range(3):
        timeline.add(Sighting(5 * index, index / 6, (tracked(),)))
        assert len([json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]) == index + 1
    timeline.close()


def test_a_line_of_the_timeline_holds_raw_and_smoothed_probabilities(tmp_path):
    timeline = TimelineFile(tmp_path / "t.jsonl")
    timeline.add(Sighting(15, 0.5, (tracked(3, label="sad", uncertain=True, confidence=0.4),), starts_scene=True))
    timeline.add(Sighting(16, 0.53333, error=FerClientError("grpc://x:1", "broken")))
    timeline.add(Sighting(17, 0.56667))
    timeline.close()
    first, failed, empty = map(json.loads, (tmp_path / "t.jsonl").read_text().splitlines())
    (face,) = first.pop("faces")
    assert first == {"frame": 15, "time_s": 0.5, "starts_scene": True}
    assert (face["track"], face["label"], face["confidence"], face["uncertain"]) == (3, "sad", 0.4, True)
    assert list(face["smoothed"]) == list(face["probabilities"]) == list(LABELS)
    assert (face["smoothed"]["sad"], face["probabilities"]["happy"]) == (0.4, 0.7)
    assert face["box"] == {"x_min": 60, "y_min": 70, "x_max": 160, "y_max": 170}
    assert failed == {"frame": 16, "time_s": 0.5333, "error": "grpc://x:1: broken"}
    assert empty == {"frame": 17, "time_s": 0.5667, "faces": []}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which is always full")
def test_a_full_disk_is_one_line_that_names_the_timeline():
    timeline = TimelineFile(Path("/dev/full"))
    with pytest.raises(VideoError, match="cannot write /dev/full: No space left on device"):
        timeline.add(Sighting(0, 0.0))
    with pytest.raises(VideoError, match="cannot write /dev/full"):
        timeline.close()


def test_the_annotated_video_has_each_frame_at_its_time(tmp_path):
    assert grays(write_annotated(tmp_path / "a.mp4", [index / 30 for index in range(8)])) == list(range(8))


def test_frames_that_last_longer_are_repeated_and_those_too_short_are_left_out(tmp_path):
    times_s = [0, 1 / 30, 4 / 30, 4.2 / 30, 4.4 / 30, 6 / 30]
    assert grays(write_annotated(tmp_path / "a.mp4", times_s)) == [0, 1, 1, 1, 2, 4, 5]


def test_the_annotated_video_starts_with_its_first_frame(tmp_path):
    assert grays(write_annotated(tmp_path / "a.mp4", [100, 100 + 1 / 30])) == [0, 1]


@pytest.mark.parametrize(
    ("rate", "expected"), [(29.97, 29.97), (23.976, 23.98), (60, 60), (1.5, 6), (0.1, 5), (144, 144)]
)
def test_the_annotated_video_keeps_its_rate_and_is_never_too_slow_for_players(tmp_path, rate, expected):
    write_annotated(tmp_path / "a.mp4", [0, 1 / rate], rate)
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(expected)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 1 + round(expected / rate)


def test_the_annotated_video_appears_whole_or_not_at_all(tmp_path):
    video = AnnotatedVideo(tmp_path / "a.mp4", 30, SIZE, LABELS)
    video.add(jpeg(scenery()[:240, :320]), Sighting(0, 0.0))
    assert not (tmp_path / "a.mp4").exists()
    video.close()
    video.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_annotated_video_without_frames_leaves_no_file(tmp_path):
    AnnotatedVideo(tmp_path / "a.mp4", 30, SIZE, LABELS).close()
    assert list(tmp_path.iterdir()) == []


def test_an_annotated_video_that_does_not_fit_on_the_disk_is_said_not_to(tmp_path):
    """In a process whose files can't grow beyond 30 kB; OpenCV itself says nothing."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import cv2, numpy as np
from pathlib import Path
from clips import LABELS
from fer_client import ImageSize
from fer_client.video.annotated import AnnotatedVideo
from fer_client.video.sightings import Sighting
video = AnnotatedVideo(Path("a.mp4"), 30, ImageSize(320, 240), LABELS)
rng = np.random.default_rng(0)
for index in range(30):
    noise = rng.integers(0, 256, (240, 320, 3), np.uint8)
    video.add(cv2.imencode(".jpg", noise)[1].tobytes(), Sighting(index, index / 30))
try: video.close()
except Exception as error: print(type(error).__name__, error)
"""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("VideoError cannot write a.mp4: "), done
    assert list(tmp_path.iterdir()) == []


def test_a_face_is_outlined_in_place_and_the_rest_of_the_frame_is_left_alone():
    drawing = FrameDrawing(ImageSize(640, 480), LABELS)
    picture = np.full((480, 640, 3), 200, np.uint8)
    drawn = drawing.draw(jpeg(picture), Sighting(0, 0.0, (tracked(x=200, y=150),)))
    changed = np.abs(drawn[:, :640].astype(int) - picture).max(axis=2) > 30
    below_caption = changed[155:]
    rows, columns = np.flatnonzero(below_caption.any(axis=1)) + 155, np.flatnonzero(below_caption.any(axis=0))
    outline = (changed[150, 210:290], changed[250, 210:290], changed[160:240, 200], changed[160:240, 300])
    assert all(line.all() for line in outline)
    assert (rows[-1], columns[0], columns[-1]) == pytest.approx((250, 200, 300), abs=3)
    assert not changed[165:235, 215:285].any()


@pytest.mark.parametrize("size", [(64, 48), (321, 241), (480, 640), (3840, 2160), (50, 900)])
def test_frames_of_any_size_are_drawn_at_sizes_that_can_be_encoded(size):
    drawing = FrameDrawing(ImageSize(*size), LABELS)
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    drawn = drawing.draw(jpeg(picture), Sighting(0, 0.0, tuple(tracked(n, x=n, y=n) for n in range(1, 20))))
    assert drawn.shape == (drawing.canvas_size[1], drawing.canvas_size[0], 3)
    assert all(length % 2 == 0 and length < 3000 for length in drawing.canvas_size)


def test_a_frame_of_another_size_is_fitted_in():
    drawing = FrameDrawing(SIZE, LABELS)
    drawn = drawing.draw(jpeg(np.zeros((100, 100, 3), np.uint8)), Sighting(0, 0.0))
    assert drawn.shape == (drawing.canvas_size[1], drawing.canvas_size[0], 3)


def history_of(tracks, seconds=3):
    history = History(LABELS, 1 / 30)
    for frame in range(30 * seconds):
        label = LABELS[frame // 45 % 7]
        history.add(Sighting(frame, frame / 30, tuple(tracked(track, label=label) for track in range(1, tracks + 1))))
    return history


@pytest.mark.parametrize("tracks", [0, 1, 3, 9])
def test_the_plot_has_a_panel_for_each_track_up_to_a_maximum(tmp_path, tracks):
    plot(history_of(tracks), "clip.mp4", 0, 3, tmp_path / "p.png")
    plot(history_of(1), "clip.mp4", 0, 3, tmp_path / "one.png")
    with Image.open(tmp_path / "p.png") as drawn, Image.open(tmp_path / "one.png") as one:
        assert drawn.format == "PNG"
        panels = min(max(tracks, 1), MOST_PANELS)
        assert drawn.height - one.height == pytest.approx((panels - 1) * 252, abs=1)
        assert drawn.width == one.width == 1440


def test_the_plot_shows_labels_in_their_colours(tmp_path):
    """Two labels for half of the time each: about half of the strip is in each colour."""
    plot(history_of(1), "clip.mp4", 0, 3, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB")).reshape(-1, 3)
    angry, disgust, fear = (
        (pixels == color).all(axis=1).sum() for color in ([213, 94, 0], [0, 158, 115], [204, 121, 167])
    )
    assert angry == pytest.approx(disgust, rel=0.2)
    assert angry > 3 * fear > 0


def test_a_name_with_signs_that_mean_something_to_matplotlib_is_a_name(tmp_path):
    plot(history_of(1), r"$\frac$_^{.mp4", 0, 3, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_a_plot_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(VideoError, match=r"cannot write \S+p\.png: No such file or directory"):
        plot(history_of(1), "clip.mp4", 0, 3, tmp_path / "none" / "p.png")


@pytest.mark.parametrize(
    ("time_s", "span_s", "expected"),
    [(0, 10, "0:00.0"), (9.96, 10, "0:10.0"), (65, 70, "1:05"), (7265.4, 8000, "2:01:05"), (59.97, 60, "1:00")],
)
def test_times_are_written_as_players_do(time_s, span_s, expected):
    assert format_time(time_s, span_s) == expected


class Terminal(io.StringIO):
    def isatty(self):
        return True


def bar(stream, frames, length_s, quiet=False):
    """What is drawn after 30 of `frames`, in half a second, of which two failed."""
    seconds = iter([0, 0, *[0.5] * 9])
    progress = VideoProgress(frames, length_s, stream, lambda: next(seconds), quiet=quiet)
    progress.advance(1.0, 30, 2)
    progress.clear()
    return stream.getvalue()


def test_the_bar_tells_place_speed_and_the_time_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    assert "0:01 of 0:10   10%  [###" in bar(Terminal(), 300, 10.0)
    assert "60.0 frames/s  ETA 0:04  2 failed" in bar(Terminal(), 300, 10.0)
    assert bar(Terminal(), 300, 10.0).endswith("\r\x1b[K")


def test_the_bar_of_a_camera_has_no_end(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert "\r0:01  60.0 frames/s  2 failed\x1b" in bar(Terminal(), None, None)


def test_there_is_no_bar_where_nobody_sees_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert bar(io.StringIO(), 300, 10.0) == bar(Terminal(), 300, 10.0, quiet=True) == ""
