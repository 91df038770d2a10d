"""Opens the file, camera or address that the user named, and nothing that a file or a playlist names besides.

Importing this module needs PyAV.
"""

from __future__ import annotations

import re
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
from av.device import enumerate_input_devices
from av.stream import Discard, Disposition

from fer_client.video.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CONTAINERS: Final = (
    "3dostr,aiff,amv,apng,asf,av1,avi,dhav,dv,flac,flv,gif,gxf,h261,h263,h264,hevc,ivf,live_flv,m4v,matroska,mjpeg,"
    "mov,mp3,mpeg,mpegts,mpegvideo,mpjpeg,mxf,nut,obu,ogg,rm,vc1,vvc,wav,wtv,yuv4mpegpipe"
)
"""FFmpeg's names of the formats that are read. They hold their pictures themselves. Those that open further files or
hosts are not among them (concat, dash, hls, imf, sdp, series of pictures), whatever a file's name says it is."""
_FILE_OPTIONS: Final = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
_WEB_OPTIONS: Final = {
    # A playlist's segments come over the same protocols. `file` is not among them, nor is what reads other files.
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,crypto",
    "format_whitelist": f"{_CONTAINERS},hls,aac,webvtt",
    "seg_max_retry": "2",
    "reconnect": "1",
    "reconnect_on_network_error": "1",
    "reconnect_delay_max": "4",
}
_RTSP_OPTIONS: Final = {
    "protocol_whitelist": "rtp,srtp,tcp,tls,udp",
    "format_whitelist": f"rtsp,rtp,{_CONTAINERS}",
    "rtsp_flags": "prefer_tcp",
}
_CONNECT_TIMEOUT_S: Final = 15.0
_READ_TIMEOUT_S: Final = 30.0
"""A live playlist has something new every few seconds."""

MOST_PIXELS: Final = 50_000_000
"""Largest frame that is read. The server takes no larger picture, and a header may claim anything."""

_PICTURES: Final = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n",
    "BMP": rb"BM.{4}\0{4}",
    "WebP": rb"RIFF.{4}WEBP",
    "TIFF": rb"II\*\0|MM\0\*",
    "HEIC": rb".{4}ftyp(heic|heix|mif1)",
    "AVIF": rb".{4}ftypavif",
}
"""First bytes of files that are one picture, by format."""
_PREDICTABLE: Final = ("JPEG", "PNG", "BMP", "WebP")
"""Those that the server takes."""
_LENIENT: Final[dict[str, Any]] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Titles need not be text. PyAV 19 takes them as they are."""
_UNUSABLE: Final = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True)
class Input:
    """An opened file, camera or address.

    Attributes:
        source: What the user typed. It may hold a password: show `name` instead.
        name: Name for people, without secrets.
        container: Container that packets are read from.
        stream: Its video stream.
    """

    source: str
    name: str
    container: InputContainer
    stream: VideoStream

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera of this machine."""
        return is_camera(self.source)

    @property
    def is_live(self) -> bool:
        """Whether it comes over the network with no end known."""
        return is_address(self.source) and self.container.duration is None

    @property
    def ends_when_lost(self) -> bool:
        """Whether its end looks the same as a lost connection. A playlist says when it is over; RTSP does not."""
        return self.source.lower().startswith("rtsp")

    def entries_beyond_the_end(self) -> int:
        """Count the pictures of the index that would lie behind the file's end: proof that the file was cut."""
        if self.is_camera or is_address(self.source):
            return 0
        return sum(
            entry.pos + entry.size > self.container.size for entry in self.stream.index_entries if not entry.is_discard
        )


def is_camera(source: str) -> bool:
    """Return whether a source is a camera's number or device rather than a file."""
    return re.fullmatch(r"[0-9]{1,3}", source) is not None or re.fullmatch(r"/dev/video[0-9]+", source) is not None


def is_address(source: str) -> bool:
    """Return whether a source is the address of a stream rather than a file."""
    return re.match(r"(?i)(rtsps?|https?)://", source) is not None


def name_of(source: str) -> str:
    """Name a source for people: without what an address may hold of passwords and tokens."""
    if is_address(source):
        scheme, _, rest = source.partition("://")
        # Up to the last @, since a password may hold anything. Query strings hold tokens.
        return f"{scheme.lower()}://{re.split('[?#]', rest.rpartition('@')[2])[0]}"
    return f"camera {source}" if is_camera(source) else source


def open_input(source: str) -> Input:
    """Open a source and choose its video.

    Args:
        source: Path of a video file, number of a camera or its device such as `/dev/video0`, or an address that starts
            with `rtsp://`, `rtsps://`, `http://` or `https://`.

    Raises:
        VideoError: There is no such file, camera or stream, or it is none with a video.
    """
    opened = _open_camera if is_camera(source) else _open_address if is_address(source) else _open_file
    container = opened(source)
    try:
        stream = _video_of(container, source)
    except VideoError:
        container.close()
        raise
    for other in container.streams:
        other.discard = Discard.default if other.index == stream.index else Discard.all
    return Input(source, name_of(source), container, stream)


def _open_file(source: str) -> InputContainer:
    path = Path(source)
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise VideoError(f"cannot read {source}: {error.strerror}") from error
    if not start:
        raise VideoError(f"cannot read {source}: it is empty, expected a video")
    kind = next((kind for kind, pattern in _PICTURES.items() if re.match(pattern, start, re.DOTALL)), None)
    if kind in ("HEIC", "AVIF"):  # They share their container with videos.
        raise _is_a_picture(source, kind)
    try:
        # With the protocol's name in front, a name with a colon is no address.
        return _open(f"file:{path.absolute()}", _FILE_OPTIONS)
    except av.FFmpegError as error:
        if kind == "WebP" and b"ANIM" in start[:64]:
            raise VideoError(
                f"cannot read {source}: it is an animated WebP, which FFmpeg does not read; save it as MP4 or GIF"
            ) from error
        if kind:
            raise _is_a_picture(source, kind) from error
        if start.startswith((b"#EXTM3U", b"ffconcat")):
            raise VideoError(
                f"cannot read {source}: it is a list of other files, which are not opened; expected the video itself, "
                "or the list's own http:// address"
            ) from error
        raise undecodable(source) from error


def _open_address(source: str) -> InputContainer:
    certificates = ssl.get_default_verify_paths().cafile
    options = {**(_RTSP_OPTIONS if source.lower().startswith("rtsp") else _WEB_OPTIONS), "tls_verify": "1"}
    if certificates:
        options["ca_file"] = certificates
    started_s = time.monotonic()
    scheme, _, rest = source.partition("://")  # FFmpeg knows protocols in lower case only.
    try:
        return _open(f"{scheme.lower()}://{rest}", options, timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S))
    except av.FFmpegError as error:
        # FFmpeg takes an answer that was cut off for a wrong one.
        is_late = time.monotonic() - started_s >= _CONNECT_TIMEOUT_S
        reason = "no answer in time" if is_late else reason_of(error)
        raise VideoError(
            f"cannot open {name_of(source)}: {reason}; expected a stream that plays at this address, as "
            "rtsp://HOST/PATH or https://HOST/PATH.m3u8"
        ) from error


def _open_camera(source: str) -> InputContainer:
    try:
        if sys.platform == "darwin":
            return _open(f"{source}:none", {"framerate": "30"}, demuxer="avfoundation")
        if sys.platform == "win32":
            names = [device.name for device in enumerate_input_devices("dshow") if "video" in device.media_types]
            return _open(f"video={names[int(source)]}", {}, demuxer="dshow")
        return _open(f"/dev/video{source}" if source.isdecimal() else source, {}, demuxer="v4l2")
    except (av.FFmpegError, IndexError, ValueError) as error:
        found = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        raise VideoError(
            f"cannot open {name_of(source)}: expected one that is connected, that this user may use and nobody else is "
            f"using (devices here: {found})"
        ) from error


def _open(
    url: str, options: dict[str, str], demuxer: str | None = None, timeout: tuple[float, float] | None = None
) -> InputContainer:
    options = {**options, "max_pixels": str(MOST_PIXELS)}
    opened: InputContainer = av.open(url, "r", format=demuxer, options=options, timeout=timeout, **_LENIENT)
    return opened


def reason_of(error: av.FFmpegError) -> str:
    """Say why FFmpeg failed. Its own text would name the address with the password in it."""
    if isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        return "no answer in time"
    return error.strerror or "unknown error"


def _video_of(container: InputContainer, source: str) -> VideoStream:
    """Choose the stream with the most pixels that is no cover, thumbnail or still."""
    name = name_of(source)
    videos = [stream for stream in container.streams.video if not stream.disposition & _UNUSABLE]
    if not videos and container.streams.video and container.streams.audio:
        raise VideoError(
            f"cannot read {name}: it is sound with a cover picture, expected a video; for the picture alone: "
            "ffmpeg -i FILE -an cover.png, then fer-client predict cover.png"
        )
    if not videos and container.streams.audio:
        raise VideoError(f"cannot read {name}: it is sound without pictures, expected a video")
    decodable = [stream for stream in videos or container.streams.video if stream.codec_context is not None]
    if not decodable:
        raise undecodable(name)
    best = max(decodable, key=lambda stream: (stream.frames != 1, stream.width * stream.height, -stream.index))
    if not 0 < best.width * best.height <= MOST_PIXELS:  # 0: FFmpeg was told the limit and did not look further.
        raise VideoError(
            f"cannot decode {name}: its frames are damaged, or larger than the {MOST_PIXELS:,} pixels that are read; "
            "make it smaller: ffmpeg -i FILE -vf scale=1920:-2 smaller.mp4"
        )
    return best


def _is_a_picture(source: str, kind: str) -> VideoError:
    way = f"use: fer-client predict {source}"
    if kind not in _PREDICTABLE:
        way = "save it as JPEG or PNG and use: fer-client predict FILE"
    return VideoError(f"cannot read {source}: it is a picture ({kind}), expected a video; {way}")


def undecodable(name: str) -> VideoError:
    """Make the error of a video of which nothing can be decoded."""
    return VideoError(
        f"cannot decode {name}: expected a whole video file, as MP4, MOV, MKV, WebM or AVI; "
        "if others play it, convert it: ffmpeg -i FILE converted.mp4"
    )
