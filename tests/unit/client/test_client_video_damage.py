"""What is left of damaged videos, and that it is told from headers that are merely wrong."""

import cv2
import numpy as np
import pytest
from clips import moving, rewrite, scenery, write_clip

from fer_client.video.errors import VideoError
from fer_client.video.frames import VideoSource

PICTURES = moving(scenery(), [(3 * index, 0) for index in range(60)])

KINDS = [
    ("mpeg4", "clip.mp4"),
    ("mpeg4", "clip.mkv"),
    ("mpeg4", "clip.avi"),
    ("mpeg2video", "clip.mpg"),
    ("mpeg2video", "clip.ts"),
    ("libvpx-vp9", "clip.webm"),
    ("libx265", "clip.mp4"),
    ("mjpeg", "clip.mov"),
]


@pytest.fixture(params=KINDS, ids=lambda kind: " in ".join(kind))
def clip(request, tmp_path):
    """Two seconds, 30 frames/s, a key frame every 12, the index in front where there is one."""
    codec, name = request.param
    options = {
        "libvpx-vp9": {"b": "2M", "g": "12", "deadline": "realtime"},
        "libx265": {"g": "12", "x265-params": "log-level=none"},
    }
    return write_clip(
        tmp_path / name,
        PICTURES,
        codec=codec,
        pixel_format="yuvj420p" if codec == "mjpeg" else "yuv420p",
        options=options.get(codec),
        muxing={"movflags": "+faststart"} if name.endswith(("mp4", "mov")) else {},
    )


def read(path, **options):
    with VideoSource(str(path)) as source:
        return source, list(source.frames(**options))


def test_a_whole_clip_is_not_damaged(clip):
    source, frames = read(clip)
    assert (len(frames), source.damaged, source.problem, source.notes()) == (60, 0, None, [])


def test_a_file_cut_in_the_middle_of_a_packet_gives_what_is_there_and_says_so(clip):
    content = clip.read_bytes()
    clip.write_bytes(content[: 2 * len(content) // 3])
    source, frames = read(clip)
    assert 20 < len(frames) < 55
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert source.damaged or "ends early" in source.problem


def test_damage_in_the_middle_is_passed_counted_and_said(clip, request):
    content = bytearray(clip.read_bytes())
    share = 0.2 if "libx265" in str(request.node.name) else 0.08  # Its frames are small, and none may be hit.
    start, end = len(content) // 2, round((0.5 + share) * len(content))
    content[start:end] = np.random.default_rng(0).integers(0, 256, end - start, np.uint8).tobytes()
    clip.write_bytes(content)
    source, frames = read(clip)
    assert len(frames) > 30
    assert frames[-1].time_s == pytest.approx(59 / 30, abs=0.2)  # AVI counts frames.
    assert source.damaged
    assert source.problem is None
    assert source.notes()[0].startswith(f"{clip} is damaged in ")
    assert source.notes()[0].endswith("what could not be decoded is left out; copy or download it again")


def test_missing_pictures_of_an_index_prove_that_the_file_was_cut(tmp_path):
    """Between two packets, so that every one that is there can be decoded."""
    clip = write_clip(tmp_path / "clip.mp4", PICTURES, muxing={"movflags": "+faststart"})
    with VideoSource(str(clip)) as source:
        entries = [(entry.pos, entry.size) for entry in source._decoder.input.stream.index_entries]
    clip.write_bytes(clip.read_bytes()[: entries[40][0]])
    source, frames = read(clip)
    assert len(frames) == 40
    assert source.problem == (
        f"{clip} ends early, after 40 frames: its index has 20 more, which are missing; copy or download it again"
    )
    source, frames = read(clip, until_s=1.0)
    assert (len(frames), source.problem) == (30, None)


@pytest.mark.parametrize(
    ("codec", "name"),
    [("mpeg4", "clip.mkv"), ("mpeg2video", "clip.ts"), ("mpeg2video", "clip.mpg"), ("libx265", "clip.mkv")],
)
def test_a_recording_that_starts_between_key_frames_is_read_from_the_next_one(tmp_path, codec, name):
    """Before that, decoders make up gray pictures with moving patches. Nothing is damaged: so recordings are."""
    options = {"libx265": {"g": "12", "x265-params": "log-level=none:keyint=12"}}
    whole = write_clip(tmp_path / f"whole.{name}", PICTURES, codec=codec, options=options.get(codec))
    left_out = {"count": 0}

    def without_the_first(packet):
        left_out["count"] += 1
        return (packet.pts, packet.dts) if left_out["count"] > 5 else None

    source, frames = read(rewrite(tmp_path / name, whole, without_the_first))
    assert len(frames) == pytest.approx(48, abs=2)
    assert frames[0].time_s == 0
    for frame, picture in zip(reversed(frames), reversed(PICTURES), strict=False):
        assert np.abs(picture_of(frame).astype(int) - picture).mean() < 8
    assert (source.damaged, source.problem) == (0, None)


def picture_of(frame):
    """BGR."""
    return cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_a_clip_without_any_key_frame_is_no_video(tmp_path):
    whole = write_clip(tmp_path / "whole.mkv", PICTURES[:10])
    clip = rewrite(
        tmp_path / "clip.mkv", whole, lambda packet: None if packet.is_keyframe else (packet.pts, packet.dts)
    )
    with pytest.raises(VideoError, match="cannot decode"):
        read(clip)


def test_frames_that_cannot_be_decoded_at_all_are_no_video(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", PICTURES[:10])
    content = bytearray(clip.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    clip.write_bytes(content)
    with pytest.raises(VideoError, match="cannot decode"):
        read(clip)
