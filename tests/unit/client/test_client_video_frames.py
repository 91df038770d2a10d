"""Reading videos: frames, their times, and all that can be wrong with a file or a camera."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import index_first, moving, scenery, set_durations, turn_by_quarter, write_clip

from fer_client.video.errors import VideoError
from fer_client.video.frames import VideoSource, is_camera


@pytest.fixture
def clip(tmp_path):
    """Two seconds of a slowly moving picture, 30 frames/s."""
    return write_clip(tmp_path / "clip.mp4", moving(scenery(), [(index, 0) for index in range(60)]))


def read(path, **options):
    with VideoSource(str(path)) as source:
        return source, list(source.frames(**options))


def test_all_frames_come_in_order_with_their_times(clip):
    source, frames = read(clip)
    assert (source.size, source.frame_rate, source.expected_frames) == ((320, 240), 30, 60)
    assert [frame.number for frame in frames] == list(range(60))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in range(60)], abs=1e-3)
    assert source.problem is None


def test_a_frame_is_a_jpeg_of_the_picture(tmp_path):
    picture = moving(scenery(), [(0, 0)])[0]
    _, frames = read(write_clip(tmp_path / "clip.mp4", [picture] * 3))
    decoded = cv2.imdecode(np.frombuffer(frames[0].jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert frames[0].jpeg.startswith(b"\xff\xd8")
    assert np.abs(decoded.astype(int) - picture).mean() < 5


@pytest.mark.parametrize(("every", "numbers"), [(7, [0, 7, 14, 21, 28, 35, 42, 49, 56]), (59, [0, 59]), (60, [0])])
def test_every_nth_frame_keeps_its_number_and_time(clip, every, numbers):
    _, frames = read(clip, every=every)
    assert [frame.number for frame in frames] == numbers
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in numbers], abs=1e-3)


def test_reading_can_stop_before_the_end_and_that_is_no_problem(clip):
    source, frames = read(clip, until_s=1.0)
    assert [frame.number for frame in frames] == list(range(30))
    assert source.problem is None


def test_times_are_the_containers_where_the_frame_rate_varies(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", moving(scenery(), [(index, 0) for index in range(30)]))
    set_durations(clip, [0.5, 0.5, 2] * 10)
    source, frames = read(clip)
    assert len(frames) == 30
    steps = np.diff([frame.time_s for frame in frames]) * 30
    assert steps == pytest.approx(([0.5, 0.5, 2] * 10)[:-1], abs=0.01)
    assert source.problem is None


@pytest.mark.parametrize(("codec", "extension"), [("mp4v", "mov"), ("mp4v", "mkv"), ("XVID", "avi"), ("MJPG", "avi")])
def test_usual_containers_are_read(tmp_path, codec, extension):
    clip = write_clip(tmp_path / f"clip.{extension}", moving(scenery(), [(0, 0)] * 12), codec=codec)
    source, frames = read(clip)
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in range(12)], abs=2e-3)
    assert source.problem is None


def test_a_video_held_upright_is_turned_upright(tmp_path):
    picture = moving(scenery(), [(0, 0)])[0]
    clip = write_clip(tmp_path / "clip.mp4", [picture] * 3)
    turn_by_quarter(clip)
    source, frames = read(clip)
    decoded = cv2.imdecode(np.frombuffer(frames[-1].jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert source.size == (240, 320)
    assert np.abs(decoded.astype(int) - cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE)).mean() < 8


def test_a_file_whose_name_holds_digits_and_signs_is_no_series_of_pictures(tmp_path):
    clip = write_clip(tmp_path / "take.mp4", moving(scenery(), [(0, 0)] * 3))
    odd = clip.rename(tmp_path / "take 100% ünï #1 001.mp4")
    assert len(read(odd)[1]) == 3


def test_a_cut_starts_a_scene(tmp_path):
    frames = [picture for seed in (1, 2, 3) for picture in moving(scenery(seed), [(i, 0) for i in range(10)])]
    _, frames = read(write_clip(tmp_path / "clip.mp4", frames))
    assert [frame.number for frame in frames if frame.starts_scene] == [10, 20]


@pytest.mark.parametrize("change", ["pan", "lights"])
def test_a_pan_and_a_change_of_light_are_no_cuts(tmp_path, change):
    dimmed = [(picture * share).astype(np.uint8) for picture in moving(scenery(), [(0, 0)]) for share in (1, 0.4, 0.9)]
    frames = {"pan": moving(scenery(), [(-16 * index, 0) for index in range(6)]), "lights": dimmed}[change]
    _, frames = read(write_clip(tmp_path / "clip.mp4", frames))
    assert not any(frame.starts_scene for frame in frames)


def test_a_video_that_breaks_off_gives_what_is_there_and_says_so(clip):
    index_first(clip)
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    source, frames = read(clip)
    assert 5 < len(frames) < 55
    assert source.problem == (
        f"{clip} ends early, after {len(frames)} of 60 frames: the rest is missing or damaged; "
        "copy or download it again"
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VideoError, match=r"cannot read \S+none\.mp4: No such file or directory$"):
        VideoSource(str(tmp_path / "none.mp4"))


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(VideoError, match=r"cannot read \S+: Is a directory$"):
        VideoSource(str(tmp_path))


def test_an_empty_file_is_no_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match=r"cannot read \S+empty\.mp4: it is empty, expected a video"):
        VideoSource(str(tmp_path / "empty.mp4"))


@pytest.mark.parametrize("kind", ["text", "index cut off", "no pictures"])
def test_what_cannot_be_decoded_is_no_video_and_the_remedy_is_said(clip, kind):
    content = clip.read_bytes()
    whole = {"text": b"<html>not found</html>" * 99, "index cut off": content[:-900]}
    clip.write_bytes(whole.get(kind) or content.replace(b"vide", b"soun"))
    with pytest.raises(
        VideoError, match=r"cannot decode \S+clip\.mp4: expected a whole video file, .* convert it: ffmpeg"
    ):
        VideoSource(str(clip))


def test_a_camera_that_is_not_there_is_said_not_to_be():
    with pytest.raises(VideoError, match=r"cannot open camera 987: expected one that is connected.*\(devices here: "):
        VideoSource("987")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0", True),
        ("12", True),
        ("/dev/video0", True),
        ("./0", False),
        ("0.mp4", False),
        ("video0", False),
        ("", False),
    ],
)
def test_a_number_or_a_device_is_a_camera(source, expected):
    assert is_camera(source) is expected


@pytest.mark.parametrize("source", ["987", "broken.mp4", "half.mp4"])
def test_opencv_says_nothing_by_itself(tmp_path, source):
    clip = write_clip(tmp_path / "half.mp4", moving(scenery(), [(index, 0) for index in range(60)]))
    index_first(clip)
    clip.write_bytes(clip.read_bytes()[:9000])
    (tmp_path / "broken.mp4").write_bytes(b"nonsense" * 99)
    code = (
        "import sys; from fer_client.video.opencv import silence_opencv; silence_opencv()\n"
        "from fer_client.video.frames import VideoSource\n"
        "try: print(len(list(VideoSource(sys.argv[1]).frames())))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    command = [sys.executable, "-c", code, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stderr == ""
    assert Path(source).suffix or done.stdout == "VideoError\n"
