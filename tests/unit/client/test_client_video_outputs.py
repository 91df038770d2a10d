"""The files that an analysis writes: timeline, annotated video, plot; and the bar meanwhile."""

import http.server
import io
import json
import queue
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import LABELS, face_at, read_clip, scenery, times_of
from PIL import Image

from fer_client import FerClientError, ImageSize
from fer_client.command.progress import VideoProgress
from fer_client.video.annotated import AnnotatedVideo, FrameDrawing
from fer_client.video.clock import format_time
from fer_client.video.errors import VideoError
from fer_client.video.plot import MOST_PANELS, History, plot
from fer_client.video.recording import TimelineFile
from fer_client.video.sightings import Sighting, TrackedFace

SIZE = ImageSize(320, 240)


def jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


def tracked(track=1, x=60, y=70, label="happy", uncertain=False, confidence=0.7):
    probabilities = {name: confidence if name == label else (1 - confidence) / 6 for name in LABELS}
    return TrackedFace(track, face_at(x, y), probabilities, label, uncertain)


def write_annotated(path, times_s, duration_s=1 / 30):
    """Annotate frames, each plain in a gray of its own."""
    video = AnnotatedVideo(path, SIZE, LABELS)
    for index, time_s in enumerate(times_s):
        video.add(jpeg(np.full((240, 320, 3), 40 + 20 * index, np.uint8)), Sighting(index, time_s), duration_s)
    video.close()
    return path


def grays(path):
    """Which of the pictures of `write_annotated` each frame is."""
    return [round((float(frame[200:220, 20:40].mean()) - 40) / 20) for frame in read_clip(path)]


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


@pytest.mark.parametrize(
    ("times_s", "duration_s"),
    [
        ([index / 30 for index in range(8)], 1 / 30),
        ([0, 1 / 30, 4 / 30, 4.2 / 30, 4.4 / 30, 6 / 30], 1 / 30),
        ([0, 20, 40], 20),
        ([100, 100 + 1 / 144, 100 + 2 / 144], 1 / 144),
    ],
    ids=["steady", "variable", "time lapse", "slow motion"],
)
def test_the_annotated_video_has_each_frame_once_and_at_its_time(tmp_path, times_s, duration_s):
    path = write_annotated(tmp_path / "a.mp4", times_s, duration_s)
    assert grays(path) == list(range(len(times_s)))
    assert times_of(path) == pytest.approx([time_s - times_s[0] for time_s in times_s], abs=1e-4)
    with av.open(str(path)) as video:
        assert video.duration / 1e6 == pytest.approx(times_s[-1] - times_s[0] + duration_s, abs=2e-3)


def test_the_annotated_video_is_what_browsers_play(tmp_path):
    path = write_annotated(tmp_path / "a.mp4", [0, 1 / 30])
    with av.open(str(path)) as video:
        (stream,) = video.streams
        context = stream.codec_context
        assert (context.codec.canonical_name, context.pix_fmt, context.profile) == ("vp9", "yuv420p", "Profile 0")
        assert (context.colorspace, context.color_primaries, context.color_range) == (1, 1, 1)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_colours_of_the_annotated_video_are_those_of_the_frame(tmp_path):
    colours = [(20, 30, 220), (200, 120, 10), (40, 180, 60), (255, 255, 255), (0, 0, 0)]
    video = AnnotatedVideo(tmp_path / "a.mp4", SIZE, LABELS)
    for index, colour in enumerate(colours):
        video.add(jpeg(np.full((240, 320, 3), colour, np.uint8)), Sighting(index, index / 2), 0.5)
    video.close()
    for frame, colour in zip(read_clip(tmp_path / "a.mp4"), colours, strict=True):
        assert np.abs(frame[150:200, 100:300].mean(axis=(0, 1)) - colour).max() < 8


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_chromium_plays_the_annotated_video(tmp_path):
    """It says size and length, and shows the pictures: the page's script reads the pixels of one."""
    write_annotated(tmp_path / "a.mp4", [0, 1, 3], duration_s=2)
    seen = look_at(tmp_path, "a.mp4", at_s=2)
    assert (seen["width"], seen["height"]) == FrameDrawing(SIZE, LABELS).canvas_size
    assert seen["duration"] == pytest.approx(5, abs=1e-3)
    assert seen["gray"] == pytest.approx(60, abs=5)


def look_at(folder, name, at_s):
    """What a <video> of Chromium says of a file."""
    page = f"""<link rel="icon" href="data:,"><video muted></video><script>
    const video = document.querySelector('video'), canvas = document.createElement('canvas');
    const tell = (seen) => fetch('/', {{method: 'POST', body: JSON.stringify(seen)}});
    // A blob can be searched without a server that sends parts of files.
    fetch('{name}').then(answer => answer.blob()).then(blob => {{ video.src = URL.createObjectURL(blob); }});
    video.onloadeddata = () => {{ video.currentTime = {at_s}; }};
    video.onerror = () => tell({{error: video.error.message}});
    video.onseeked = () => {{
        const painter = canvas.getContext('2d');
        painter.drawImage(video, 0, 0);
        const gray = painter.getImageData(60, 60, 1, 1).data[0];
        tell({{width: video.videoWidth, height: video.videoHeight, duration: video.duration, gray}});
    }};</script>"""
    (folder / "page.html").write_text(page)
    told = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_POST(self):
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--disable-sync",
                   f"--user-data-dir={folder / 'profile'}",
                   f"http://127.0.0.1:{server.server_port}/page.html"]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                return told.get(timeout=60)
            finally:
                browser.terminate()
                server.shutdown()


def test_the_annotated_video_appears_whole_or_not_at_all(tmp_path):
    video = AnnotatedVideo(tmp_path / "a.mp4", SIZE, LABELS)
    video.add(jpeg(scenery()[:240, :320]), Sighting(0, 0.0), 1 / 30)
    assert not (tmp_path / "a.mp4").exists()
    video.close()
    video.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_annotated_video_without_frames_leaves_no_file(tmp_path):
    AnnotatedVideo(tmp_path / "a.mp4", SIZE, LABELS).close()
    assert list(tmp_path.iterdir()) == []


def test_an_annotated_video_that_does_not_fit_on_the_disk_is_said_not_to(tmp_path):
    """In a process whose files cannot grow beyond 30 kB."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import cv2, numpy as np
from pathlib import Path
from clips import LABELS
from fer_client import ImageSize
from fer_client.video.annotated import AnnotatedVideo
from fer_client.video.sightings import Sighting
video = AnnotatedVideo(Path("a.mp4"), ImageSize(320, 240), LABELS)
rng = np.random.default_rng(0)
for index in range(90):
    noise = rng.integers(0, 256, (240, 320, 3), np.uint8)
    try: video.add(cv2.imencode(".jpg", noise)[1].tobytes(), Sighting(index, index / 30), 1 / 30)
    except Exception as error: print(type(error).__name__, error); break
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
    drawn = np.asarray(drawing.draw(jpeg(picture), Sighting(0, 0.0, (tracked(x=200, y=150),))))
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
    assert (drawn.mode, drawn.size) == ("RGB", drawing.canvas_size)
    assert all(length % 2 == 0 and length < 3000 for length in drawing.canvas_size)


def test_without_the_panel_frames_keep_their_size_and_have_boxes(tmp_path):
    drawing = FrameDrawing(ImageSize(640, 480), LABELS, panel=False)
    picture = np.full((480, 640, 3), 200, np.uint8)
    sighting = Sighting(0, 0.0, (tracked(x=200, y=150),))
    without = np.asarray(drawing.draw(jpeg(picture), sighting))
    with_panel = np.asarray(FrameDrawing(ImageSize(640, 480), LABELS).draw(jpeg(picture), sighting))
    assert drawing.canvas_size == (640, 480)
    assert (without == with_panel[:, :640]).all()
    AnnotatedVideo(tmp_path / "a.mp4", SIZE, LABELS, panel=False).close()


@pytest.mark.parametrize(("size", "room"), [((640, 480), (0, 0, 480, 360)), ((100, 100), (60, 0, 420, 360)),
                                            ((800, 100), (0, 150, 480, 210))])  # fmt: skip
def test_a_frame_of_another_size_is_fitted_in_with_its_boxes_in_place(size, room):
    """Into the room of the first one, 480x360 px, with its own aspect and bars around it."""
    drawing = FrameDrawing(SIZE, LABELS)
    face = tracked(x=0.3 * size[0], y=0.3 * size[1])
    drawn = np.asarray(drawing.draw(jpeg(np.full((size[1], size[0], 3), 200, np.uint8)), Sighting(0, 0.0, (face,))))
    assert drawn.shape == (drawing.canvas_size[1], drawing.canvas_size[0], 3)
    shown = (drawn[:, :480] == 200).all(axis=2)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == pytest.approx(room, abs=2)
    scale = (room[2] - room[0]) / size[0]
    left = room[0] + 0.3 * size[0] * scale
    middle = min(round(room[1] + (0.3 * size[1] + 40) * scale), room[3] - 5)
    assert not shown[middle, round(left) - 1 : round(left) + 2].any()


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
    assert "60.0 frames/s  ETA 0:04, 2 failed" in bar(Terminal(), 300, 10.0)
    assert bar(Terminal(), 300, 10.0).endswith("\r\x1b[K")


def test_the_bar_of_a_camera_has_no_end(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert "\r0:01  60.0 frames/s, 2 failed\x1b" in bar(Terminal(), None, None)


def test_there_is_no_bar_where_nobody_sees_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert bar(io.StringIO(), 300, 10.0) == bar(Terminal(), 300, 10.0, quiet=True) == ""
