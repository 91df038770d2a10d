"""Reading videos: each frame as a viewer sees it, and its time."""

import io
import itertools
import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from clips import moving, rewrite, scenery, write_changing_clip, write_clip
from PIL import Image

from fer_client.video.frames import VideoSource

PICTURE = moving(scenery(), [(0, 0)])[0]
"""320x240 px."""


@pytest.fixture
def clip(tmp_path):
    """Two seconds of a slowly moving picture, 30 frames/s."""
    return write_clip(tmp_path / "clip.mp4", moving(scenery(), [(index, 0) for index in range(60)]))


def read(path, **options):
    with VideoSource(str(path)) as source:
        return source, list(source.frames(**options))


def picture_of(frame):
    """BGR."""
    return cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)


def difference(frame, picture):
    """Mean over pixels and channels, in gray levels of 255."""
    seen = picture_of(frame)
    assert seen.shape == picture.shape
    return np.abs(seen.astype(int) - picture).mean()


def is_well(source):
    return (source.problem, source.damaged, source.notes()) == (None, 0, [])


def test_all_frames_come_in_order_with_their_times(clip):
    source, frames = read(clip)
    assert (source.size, source.frame_rate, source.expected_frames) == ((320, 240), 30, 60)
    assert [frame.number for frame in frames] == list(range(60))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in range(60)], abs=1e-3)
    assert is_well(source)


def test_a_frame_is_a_jpeg_of_the_picture(tmp_path):
    _, frames = read(write_clip(tmp_path / "clip.mp4", [PICTURE] * 3))
    assert frames[0].jpeg.startswith(b"\xff\xd8\xff")
    assert difference(frames[0], PICTURE) < 5


@pytest.mark.parametrize(("every", "numbers"), [(7, [0, 7, 14, 21, 28, 35, 42, 49, 56]), (59, [0, 59]), (60, [0])])
def test_every_nth_frame_keeps_its_number_and_time(clip, every, numbers):
    _, frames = read(clip, every=every)
    assert [frame.number for frame in frames] == numbers
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in numbers], abs=1e-3)


def test_reading_can_stop_before_the_end_and_that_is_no_problem(clip):
    source, frames = read(clip, until_s=1.0)
    assert [frame.number for frame in frames] == list(range(30))
    assert is_well(source)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_times_are_the_containers_where_the_frame_rate_varies(tmp_path, name):
    times_s = list(itertools.accumulate([0, 0.02, 0.02, 0.1, 0.02, 0.02, 0.1, 3, 0.02, 0.02, 0.1]))
    clip = write_clip(tmp_path / name, moving(scenery(), [(i, 0) for i in range(11)]), times_s=times_s)
    source, frames = read(clip)
    assert [frame.time_s for frame in frames] == pytest.approx(times_s, abs=2e-3)
    assert is_well(source)


@pytest.mark.parametrize("step_s", [20.0, 900.0])
def test_a_time_lapse_has_its_own_rate(tmp_path, step_s):
    clip = write_clip(tmp_path / "clip.mp4", [PICTURE] * 5, times_s=[index * step_s for index in range(5)])
    source, frames = read(clip)
    assert source.frame_rate == pytest.approx(1 / step_s)
    assert [frame.time_s for frame in frames] == pytest.approx([index * step_s for index in range(5)])
    assert is_well(source)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.nut"])
def test_a_jump_of_an_hour_is_closed_and_said_once(tmp_path, name):
    times_s = [index / 30 + (3600 if index >= 20 else 0) for index in range(40)]
    source, frames = read(write_clip(tmp_path / name, [PICTURE] * 40, times_s=times_s))
    assert frames[-1].time_s == pytest.approx(39 / 30, abs=0.01)
    (note,) = source.notes()
    assert note.startswith(f"the time stamps of {tmp_path / name} jump once at 0:00.6, by 3600.03")
    assert (source.problem, source.damaged) == (None, 0)


def test_recordings_joined_to_one_file_go_on(tmp_path):
    """Time stamps start again in the middle, as where MPEG recordings are simply appended to each other."""
    first = write_clip(tmp_path / "first.ts", [PICTURE] * 30, codec="mpeg2video").read_bytes()
    (tmp_path / "both.ts").write_bytes(first + first)
    source, frames = read(tmp_path / "both.ts")
    assert len(frames) == 60
    assert [frame.time_s for frame in frames] == pytest.approx([index / 30 for index in range(60)], abs=0.01)
    assert len(source.notes()) <= 1


def test_a_rate_that_cannot_be_true_is_not_believed(tmp_path):
    """A million frames a second: the header's rate and the time stamps made of it."""
    clip = write_clip(tmp_path / "clip.avi", [PICTURE] * 30, codec="mjpeg", pixel_format="yuvj420p", rate=25)
    content = clip.read_bytes()
    header = content.index(b"strh") + 8 + 20  # Its dwScale and dwRate: so many ticks a frame, so many a second.
    clip.write_bytes(content[:header] + b"\1\0\0\0\x40\x42\x0f\0" + content[header + 8 :])
    source, frames = read(clip)
    assert source.frame_rate == 30
    assert frames[-1].time_s == pytest.approx(29 / 30, rel=0.1)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name"),
    [
        ("mpeg4", "yuv420p", "clip.mov"),
        ("mpeg4", "yuv420p", "clip.mkv"),
        ("mpeg4", "yuv420p", "clip.avi"),
        ("mpeg4", "yuv420p", "clip.flv"),
        ("mpeg2video", "yuv420p", "clip.mpg"),
        ("mpeg2video", "yuv420p", "clip.ts"),
        ("libvpx-vp9", "yuv420p", "clip.webm"),
        ("libvpx-vp9", "yuv444p", "clip.mkv"),
        ("mjpeg", "yuvj420p", "clip.avi"),
        ("mjpeg", "yuvj444p", "clip.mkv"),
        ("prores_ks", "yuv422p10le", "clip.mov"),
        ("ffv1", "yuv420p10le", "clip.mkv"),
        ("ffv1", "yuv444p16le", "clip.mkv"),
        ("ffv1", "bgr0", "clip.nut"),
        ("rawvideo", "nv12", "clip.nut"),
        ("rawvideo", "bgr24", "clip.avi"),
        ("rawvideo", "yuyv422", "clip.nut"),
        ("png", "rgba", "clip.mov"),
        ("apng", "rgb24", "clip.apng"),
        ("gif", "bgr8", "clip.gif"),
    ],
)
def test_usual_containers_and_pixel_formats_are_read(tmp_path, codec, pixel_format, name):
    codec_of = {"clip.flv": "flv"}.get(name, codec)
    clip = write_clip(tmp_path / name, [PICTURE] * 12, codec=codec_of, pixel_format=pixel_format, rate=25)
    source, frames = read(clip)
    assert [frame.time_s for frame in frames] == pytest.approx([number / 25 for number in range(12)], abs=2e-3)
    assert difference(frames[-1], PICTURE) < (25 if name == "clip.gif" else 6)  # A GIF has few colours.
    assert is_well(source)


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "gray16le"])
def test_gray_is_gray(tmp_path, pixel_format):
    clip = write_clip(tmp_path / "clip.mkv", [PICTURE] * 3, codec="ffv1", pixel_format=pixel_format)
    gray = cv2.cvtColor(PICTURE, cv2.COLOR_BGR2GRAY)
    assert difference(read(clip)[1][0], cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)) < 4


def test_raw_sensor_pixels_become_colours(tmp_path):
    """Each pixel has one colour only, red, green, green, blue, as industrial cameras give them."""
    bayer = np.empty(PICTURE.shape[:2], np.uint8)
    for row, column, channel in ((0, 0, 2), (0, 1, 1), (1, 0, 1), (1, 1, 0)):
        bayer[row::2, column::2] = PICTURE[row::2, column::2, channel]
    with av.open(str(tmp_path / "clip.nut"), "w") as file:
        stream = file.add_stream("rawvideo", rate=30, width=320, height=240, pix_fmt="bayer_rggb8")
        frame = av.VideoFrame.from_ndarray(bayer, format="bayer_rggb8")
        file.mux(stream.encode(frame))
    assert difference(read(tmp_path / "clip.nut")[1][0], PICTURE) < 6


def test_what_is_transparent_is_on_white(tmp_path):
    """A picture whose left half is fully transparent, over a colour that is not to be seen."""
    seen = np.dstack([PICTURE[..., ::-1], np.full((240, 320), 255, np.uint8)])
    seen[:, :160, 3] = 0
    with av.open(str(tmp_path / "clip.mov"), "w") as file:
        stream = file.add_stream("png", rate=30, width=320, height=240, pix_fmt="rgba")
        file.mux(stream.encode(av.VideoFrame.from_ndarray(seen, format="rgba")))
    decoded = picture_of(read(tmp_path / "clip.mov")[1][0])
    assert decoded[:, :150].min() > 245
    assert np.abs(decoded[:, 170:].astype(int) - PICTURE[:, 170:]).mean() < 5


@pytest.mark.parametrize(("color_range", "matrix"), [(1, 1), (2, 1), (1, 5), (2, 5)])
def test_colours_are_right_for_each_range_and_matrix(tmp_path, color_range, matrix):
    """Limited and full range, ITU-R BT.709 and BT.601, as the frame says."""
    with av.open(str(tmp_path / "clip.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=30, width=320, height=240, pix_fmt="yuv444p")
        stream.codec_context.color_range, stream.codec_context.colorspace = color_range, matrix
        frame = av.VideoFrame.from_ndarray(PICTURE, format="bgr24").reformat(
            format="yuv444p", dst_colorspace=matrix, dst_color_range=color_range
        )
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert difference(read(tmp_path / "clip.mkv")[1][0], PICTURE) < 4


@pytest.mark.parametrize("curve", ["PQ", "HLG"])
def test_high_dynamic_range_is_mapped_to_the_usual_one(tmp_path, curve):
    """White at 203 cd/m2. Source: ITU-R BT.2100 and BT.2408. Taken as it is, it is 30 to 50 levels off."""
    signal = PICTURE[..., ::-1] / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    wide = linear @ np.array([[0.6274, 0.0691, 0.0164], [0.3293, 0.9195, 0.0880], [0.0433, 0.0114, 0.8956]])
    if curve == "PQ":
        power = (203 / 10_000 * wide) ** 0.1593017578125
        encoded = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        light = 0.26 * wide
        encoded = np.where(
            light <= 1 / 12,
            np.sqrt(3 * light),
            0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073,
        )
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16 if curve == "PQ" else 18, "color_range": 1}
    pixels = (np.clip(encoded, 0, 1) * 65535).round().astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le").reformat(
        format="yuv420p10le", dst_colorspace=9, dst_color_range=1
    )
    with av.open(str(tmp_path / "clip.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=30, width=320, height=240, pix_fmt="yuv420p10le")
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
            setattr(frame, name, value)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert difference(read(tmp_path / "clip.mkv")[1][0], PICTURE) < 16


@pytest.mark.parametrize(
    ("turned", "expected"),
    [
        ((0, False, False), lambda picture: picture),
        ((90, False, False), np.rot90),
        ((180, False, False), lambda picture: np.rot90(picture, 2)),
        ((-90, False, False), lambda picture: np.rot90(picture, -1)),
        ((0, True, False), np.fliplr),
        ((0, False, True), np.flipud),
        ((90, True, False), lambda picture: np.fliplr(np.rot90(picture))),
        ((-90, True, False), lambda picture: np.fliplr(np.rot90(picture, -1))),
    ],
    ids=["upright", "left", "upside down", "right", "mirrored", "flipped", "left, mirrored", "right, mirrored"],
)
def test_a_video_is_turned_and_mirrored_as_players_do(tmp_path, turned, expected):
    clip = write_clip(tmp_path / "clip.mp4", [PICTURE] * 3, turned=turned)
    source, frames = read(clip)
    upright = expected(PICTURE)
    assert source.size == frames[0].size == (upright.shape[1], upright.shape[0])
    assert difference(frames[-1], upright) < 6


@pytest.mark.parametrize("name", ["clip.mpg", "clip.ts", "clip.mp4", "clip.mkv"])
@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(8, 9)])
def test_pixels_that_are_not_square_are_made_so(tmp_path, name, aspect):
    """A picture stored narrow or wide, as on a DVD: the aspect is the video's, the container's, or both."""
    stored = cv2.resize(PICTURE, (round(320 / aspect), 240), interpolation=cv2.INTER_AREA)
    codec = "mpeg4" if name in ("clip.mp4", "clip.mkv") else "mpeg2video"
    # MPEG-2 knows aspects of the whole picture only: 4:3 and 16:9. This one is 4:3.
    source, frames = read(write_clip(tmp_path / name, [stored] * 3, codec=codec, aspect=aspect))
    assert source.size.height == 240
    assert source.size.width == pytest.approx(320, abs=1)
    assert difference(frames[-1], cv2.resize(PICTURE, source.size)) < 9


def test_the_containers_aspect_overrides_that_of_the_video(tmp_path):
    stored = cv2.resize(PICTURE, (160, 240), interpolation=cv2.INTER_AREA)
    clip = write_clip(tmp_path / "clip.mp4", [stored] * 3, aspect=Fraction(2))
    content = clip.read_bytes()
    aspect = content.index(b"pasp") + 4
    assert content[aspect : aspect + 8] == b"\0\0\0\2\0\0\0\1"
    clip.write_bytes(content[:aspect] + b"\0\0\0\3\0\0\0\1" + content[aspect + 8 :])
    assert read(clip)[0].size == (480, 240)


def test_an_aspect_that_cannot_be_true_is_not_believed(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", [PICTURE] * 3, aspect=Fraction(200))
    assert read(clip)[0].size == (320, 240)


def test_the_aspect_may_change_midway(tmp_path):
    """As where a broadcast goes from a film to the news: each part is shown in its own."""
    parts = [
        write_clip(
            tmp_path / "part.ts", [cv2.resize(PICTURE, (width, 240))] * 12, codec="mpeg2video", aspect=aspect
        ).read_bytes()
        for width, aspect in ((320, Fraction(1)), (320, Fraction(4, 3)))
    ]
    (tmp_path / "clip.ts").write_bytes(b"".join(parts))
    _, frames = read(tmp_path / "clip.ts")
    assert [frame.size for frame in frames] == [(320, 240)] * 12 + [(427, 240)] * 12


def test_interlaced_frames_have_no_combs(tmp_path):
    """Two fields of a moving edge: woven together, neighbouring lines are 40 px apart."""
    fields = [moving(scenery(), [(shift, 0)])[0] for shift in (0, -40)]
    woven = fields[0].copy()
    woven[1::2] = fields[1][1::2]
    options = {"flags": "+qscale+ildct+ilme"}
    clip = write_clip(tmp_path / "clip.mpg", [woven] * 6, codec="mpeg2video", options=options)
    frame = read(clip)[1][-1]
    # In gray: colours of both fields share a line here, which a real encoder keeps apart.
    seen, expected = (cv2.cvtColor(each, cv2.COLOR_BGR2GRAY).astype(int) for each in (picture_of(frame), fields[0]))
    assert np.abs(seen - expected).mean() < 5


def test_the_resolution_may_change_midway(tmp_path):
    """As a video call does when the line is bad."""
    parts = [([cv2.resize(PICTURE, size)] * 12, "yuv420p") for size in ((320, 240), (640, 480), (160, 240))]
    options = {"crf": "10", "b": "0", "deadline": "realtime", "lag-in-frames": "0"}
    source, frames = read(write_changing_clip(tmp_path / "clip.mkv", parts, "libvpx-vp9", options))
    assert [frame.size for frame in frames] == [(320, 240)] * 12 + [(640, 480)] * 12 + [(160, 240)] * 12
    assert source.size == (320, 240)
    assert max(difference(frame, cv2.resize(PICTURE, frame.size)) for frame in frames) < 9
    assert not any(frame.starts_scene for frame in frames)
    assert is_well(source)


def test_the_pixel_format_may_change_midway(tmp_path):
    """JPEGs of a webcam that goes from 4:2:2 to 4:2:0 and 4:4:4: the header says nothing of it."""
    parts = [([PICTURE] * 5, pixel_format) for pixel_format in ("yuvj422p", "yuvj420p", "yuvj444p")]
    options = {"flags": "+qscale", "global_quality": "236"}
    source, frames = read(write_changing_clip(tmp_path / "clip.avi", parts, "mjpeg", options))
    assert len(frames) == 15
    assert max(difference(frame, PICTURE) for frame in frames) < 6
    assert is_well(source)


def test_frames_before_the_start_of_an_edit_list_are_left_out(tmp_path):
    """As players cut without encoding anew: the file holds frames from the last key frame on, and says what to skip."""
    whole = write_clip(tmp_path / "whole.mp4", moving(scenery(), [(4 * index, 0) for index in range(36)]))
    skipped = Fraction(5, 30)

    def earlier(packet):
        return tuple(stamp - round(skipped / packet.time_base) for stamp in (packet.pts, packet.dts))

    clip = rewrite(tmp_path / "cut.mp4", whole, earlier, avoid_negative_ts="disabled")
    source, frames = read(clip)
    assert len(frames) == 31
    assert difference(frames[0], moving(scenery(), [(20, 0)])[0]) < 6
    assert frames[0].time_s == 0
    assert is_well(source)


def test_a_clip_that_is_shorter_than_its_container_says_is_whole(tmp_path):
    """As where sound goes on after the pictures, or a program wrote an estimate: no frame is missing."""
    clip = write_clip(tmp_path / "clip.mkv", [PICTURE] * 30)
    content = clip.read_bytes()
    duration = content.index(b"\x44\x89\x88") + 3
    clip.write_bytes(content[:duration] + np.array(60_000.0, ">f8").tobytes() + content[duration + 8 :])
    source, frames = read(clip)
    assert source.expected_frames == 1800
    assert len(frames) == 30
    assert is_well(source)


def test_a_file_whose_name_holds_digits_and_signs_is_no_series_of_pictures(tmp_path):
    clip = write_clip(tmp_path / "take.mp4", [PICTURE] * 3)
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


def test_a_video_of_one_pixel_is_one(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", [PICTURE[:1, :1]] * 3, codec="ffv1", pixel_format="bgr0")
    source, frames = read(clip)
    assert (source.size, len(frames)) == ((1, 1), 3)
    assert Image.open(io.BytesIO(frames[0].jpeg)).size == (1, 1)


def test_a_video_of_one_frame_is_one(tmp_path):
    source, frames = read(write_clip(tmp_path / "clip.mp4", [PICTURE]))
    assert [(frame.number, frame.time_s) for frame in frames] == [(0, 0.0)]
    assert is_well(source)


def test_memory_does_not_grow_while_a_video_is_read(tmp_path):
    """PyAV keeps frames whose side data was asked for: 86 MB for these, if that is done for each."""
    clip = write_clip(tmp_path / "clip.mp4", [cv2.resize(PICTURE, (640, 480))] * 900)
    code = (
        "import sys; from fer_client.video.frames import VideoSource\n"
        "pages = [int(open('/proc/self/statm').read().split()[1])\n"
        "         for frame in VideoSource(sys.argv[1]).frames() if frame.number in (0, 899)]\n"
        "print((pages[1] - pages[0]) * 4096 / 1e6)"
    )
    done = subprocess.run([sys.executable, "-c", code, clip], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 20
