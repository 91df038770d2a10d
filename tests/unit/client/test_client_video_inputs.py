"""What is opened and what is not: stills, sound, playlists, huge frames, several videos in one file, cameras."""

import io
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from clips import moving, scenery, write_clip
from PIL import Image

from fer_client.video.errors import VideoError
from fer_client.video.frames import VideoSource
from fer_client.video.inputs import is_address, is_camera, name_of

PICTURES = moving(scenery(), [(index, 0) for index in range(10)])


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", PICTURES)


def refusal(path):
    with pytest.raises(VideoError) as raised:
        VideoSource(str(path))
    return str(raised.value)


def photo():
    return Image.fromarray(np.ascontiguousarray(PICTURES[0][..., ::-1]))


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp", "photo.bmp", "photo", "clip.mp4", "clip.avi"])
def test_a_picture_is_refused_with_the_command_for_pictures(tmp_path, name):
    """Whatever its name says it is."""
    kind = {".png": "PNG", ".webp": "WebP", ".bmp": "BMP"}.get(Path(name).suffix, "JPEG")
    photo().save(tmp_path / name, kind)
    assert refusal(tmp_path / name) == (
        f"cannot read {tmp_path / name}: it is a picture ({kind}), expected a video; "
        f"use: fer-client predict {tmp_path / name}"
    )


def test_a_picture_that_the_server_does_not_take_is_to_be_converted(tmp_path):
    photo().save(tmp_path / "photo.tif")
    assert refusal(tmp_path / "photo.tif").endswith("save it as JPEG or PNG and use: fer-client predict FILE")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    assert "it is a picture (HEIC), expected a video" in refusal(tmp_path / "photo.heic")


def test_an_animated_webp_is_not_called_a_picture(tmp_path):
    frames = [Image.fromarray(np.ascontiguousarray(picture[..., ::-1])) for picture in PICTURES]
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:])
    assert refusal(tmp_path / "clip.webp").endswith("animated WebP, which FFmpeg does not read; save it as MP4 or GIF")


def test_an_animation_is_a_video(tmp_path):
    frames = [Image.fromarray(np.ascontiguousarray(picture[..., ::-1])) for picture in PICTURES]
    for name in ("clip.gif", "clip.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100)
        with VideoSource(str(tmp_path / name)) as source:
            read = list(source.frames())
        assert [frame.time_s for frame in read] == pytest.approx([index / 10 for index in range(10)], abs=0.01)


@pytest.mark.parametrize("name", ["song.mp3", "song.m4a", "song.mka"])
def test_sound_with_a_cover_is_refused_as_that(tmp_path, name):
    write_sound(tmp_path / name, cover=True)
    text = refusal(tmp_path / name)
    assert text.startswith(f"cannot read {tmp_path / name}: it is sound with a cover picture, expected a video")
    assert "fer-client predict cover.png" in text


def test_sound_alone_is_refused_as_that(tmp_path):
    write_sound(tmp_path / "song.mp3", cover=False)
    assert refusal(tmp_path / "song.mp3").endswith("it is sound without pictures, expected a video")
    with wave.open(str(tmp_path / "song.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    assert refusal(tmp_path / "song.wav").endswith("it is sound without pictures, expected a video")


def write_sound(path, cover):
    """Half a second of silence, and a picture that is marked as its cover."""
    jpeg = io.BytesIO()
    photo().save(jpeg, "JPEG")
    with av.open(str(path), "w", format="mp4" if path.suffix == ".m4a" else None) as file:
        sound = file.add_stream("aac" if path.suffix == ".m4a" else "libmp3lame", rate=44100)
        if cover and path.suffix == ".mka":
            file.add_attachment("cover.jpg", "image/jpeg", jpeg.getvalue())
        elif cover:
            picture = file.add_stream("mjpeg", rate=1, width=320, height=240, pix_fmt="yuvj420p")
            picture.disposition = av.stream.Disposition.attached_pic
            for packet in [*picture.encode(av.VideoFrame.from_ndarray(PICTURES[0], format="bgr24")), *picture.encode()]:
                file.mux(packet)
        for index in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 44100, 1152 * index
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))


def test_of_several_videos_the_largest_is_read_and_no_cover(tmp_path):
    """A thumbnail track first, then the video, then a poster that is larger than all."""
    sizes = ((80, 60, 10), (320, 240, 10), (640, 480, 1))
    with av.open(str(tmp_path / "clip.mp4"), "w") as file:
        streams = [
            file.add_stream("mpeg4", rate=30, width=width, height=height, pix_fmt="yuv420p")
            for width, height, _ in sizes
        ]
        for stream, (_, _, count) in zip(streams, sizes, strict=True):
            for picture in PICTURES[:count]:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            file.mux(stream.encode(None))
    with VideoSource(str(tmp_path / "clip.mp4")) as source:
        assert (source.size, len(list(source.frames()))) == ((320, 240), 10)


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path):
    assert refusal(tmp_path / "none.mp4") == f"cannot read {tmp_path / 'none.mp4'}: No such file or directory"
    assert refusal(tmp_path) == f"cannot read {tmp_path}: Is a directory"
    (tmp_path / "empty.mp4").touch()
    assert refusal(tmp_path / "empty.mp4") == f"cannot read {tmp_path / 'empty.mp4'}: it is empty, expected a video"


@pytest.mark.parametrize("kind", ["text", "index cut off", "noise"])
def test_what_cannot_be_decoded_is_no_video_and_the_remedy_is_said(clip, kind):
    content = clip.read_bytes()
    contents = {
        "text": b"<html>not found</html>" * 99,
        "index cut off": content[:-600],
        "noise": bytes(range(256)) * 99,
    }
    clip.write_bytes(contents[kind])
    assert refusal(clip) == (
        f"cannot decode {clip}: expected a whole video file, as MP4, MOV, MKV, WebM or AVI; "
        "if others play it, convert it: ffmpeg -i FILE converted.mp4"
    )


@pytest.mark.parametrize(("codec", "name"), [("rawvideo", "clip.mov"), ("png", "clip.mov"), ("png", "clip.avi")])
def test_frames_too_large_are_refused_before_they_are_decoded(tmp_path, codec, name):
    """A small file that claims 30,000 x 30,000 px: decoded, a frame would take 2.7 GB."""
    clip = write_clip(tmp_path / name, PICTURES, codec=codec, pixel_format="rgb24")
    content = clip.read_bytes()
    for order in (">u2", "<u4", ">u4"):  # In the container and in each PNG.
        content = content.replace(*(np.array(size, order).tobytes() for size in ((320, 240), (30_000, 30_000))))
    clip.write_bytes(content)
    code = (
        "import resource, sys; from fer_client.video.frames import VideoSource\n"
        "from fer_client.video.errors import VideoError\n"
        "try: VideoSource(sys.argv[1])\n"
        "except VideoError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, clip], capture_output=True, text=True, timeout=60)
    text, megabytes = done.stdout.splitlines()
    assert text.startswith(f"cannot decode {clip}: its frames are damaged, or larger than the 50,000,000 pixels that")
    assert int(megabytes) < 500
    assert done.stderr == ""


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", PLAYLIST),
        ("list.mp4", PLAYLIST),
        ("list.ffconcat", "ffconcat version 1.0\nfile {}\n"),
        ("list.mp4", "ffconcat version 1.0\nfile {}\n"),
        ("list.mpd", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>'),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n"),
    ],
)
def test_a_file_that_lists_others_opens_none_of_them(clip, name, text):
    """Nor does it listen on a port. The listed one is there and would play."""
    segment = write_clip(clip.with_name("segment.ts"), PICTURES, codec="mpeg2video")
    path = clip.with_name(name)
    path.write_text(text.format(segment.name))
    audited = (
        "import sys; opened = []\n"
        "from fer_client.video.frames import VideoSource\n"
        "try: VideoSource(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    command = ["strace", "-f", "-e", "trace=openat,socket,bind,connect", "-o", str(clip.with_name("trace"))]
    command = command if _has_strace() else []
    done = subprocess.run([*command, sys.executable, "-c", audited, path], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("VideoError cannot ")
    if command:
        trace = clip.with_name("trace").read_text()
        assert path.name in trace
        assert segment.name not in trace
        assert "AF_INET" not in trace


def _has_strace():
    """Whether there is one, and it may look at processes here."""
    return (
        shutil.which("strace") is not None and subprocess.run(["strace", "true"], capture_output=True).returncode == 0
    )


def test_a_title_need_not_be_text(clip):
    """As in files whose tags are in another encoding than they say."""
    copy = clip.with_name("titled.mkv")
    with av.open(str(clip)) as old, av.open(str(copy), "w") as new:
        new.metadata["title"] = "quite a title"
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    content = copy.read_bytes()
    assert b"quite a title" in content
    copy.write_bytes(content.replace(b"quite a title", b"\xff\xfe\xe9 a title\xc3"))
    with VideoSource(str(copy)) as source:
        assert len(list(source.frames())) == 10


def test_a_list_is_said_to_be_one(tmp_path):
    (tmp_path / "list.m3u8").write_text(PLAYLIST)
    assert "it is a list of other files, which are not opened; expected the video itself" in refusal(
        tmp_path / "list.m3u8"
    )


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


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("rtsp://camera/live", "rtsp://camera/live"),
        ("rtsp://me:secret@camera:554/live", "rtsp://camera:554/live"),
        ("RTSPS://me:se/cr@et?@camera/live", "rtsps://camera/live"),
        ("https://me@host/a.m3u8?token=secret#secret", "https://host/a.m3u8"),
        ("http://host/a.m3u8?mail=secret@secret.example", "http://secret.example"),
        ("./rtsp://x", None),
        ("file:///etc/passwd", None),
        ("ftp://host/x.mp4", None),
        ("concat:a|b", None),
        ("clip.mp4", None),
    ],
)
def test_an_address_is_shown_without_what_is_secret(source, name):
    assert is_address(source) == (name is not None)
    assert name is None or name_of(source) == name


@pytest.mark.parametrize("source", ["987", "broken.mp4", "half.mp4"])
def test_ffmpeg_says_nothing_by_itself(tmp_path, source):
    clip = write_clip(tmp_path / "half.mp4", PICTURES, muxing={"movflags": "+faststart"})
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (tmp_path / "broken.mp4").write_bytes(b"nonsense" * 99)
    code = (
        "import sys; from fer_client.video.frames import VideoSource\n"
        "try: print(len(list(VideoSource(sys.argv[1]).frames())))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    command = [sys.executable, "-c", code, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stderr == ""
    assert Path(source).stem == "half" or done.stdout == "VideoError\n"
