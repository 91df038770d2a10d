"""Decodes an opened video to what viewers see, past what is damaged in it and past lost connections of live streams.

Importing this module needs PyAV and Pillow.
"""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorTrc
from PIL import Image

from fer_client.video.errors import VideoError
from fer_client.video.inputs import MOST_PIXELS, Input, open_input, reason_of

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

_PEEKED_PACKETS: Final = 48
_PEEKED_BYTES: Final = 8_000_000
_PEEKED_S: Final = 2.0
"""How much of a video is read to measure its usual rate: up to whichever of the three is reached first."""
_LONGEST_START_FRAMES: Final = 600
"""Frames to wait for a key frame. Before the first one, pictures are gray with moving patches."""
_TOLD_IN_THE_LOG: Final = re.compile(
    rf"{av.logging.ERROR} (matroska,webm|hevc|mjpeg error) |{av.logging.WARNING} hls Segment .* skipping"
)
"""What FFmpeg says where it goes on past damage without a flag or an error code: level, demuxer or decoder, message.
Others log errors of whole videos too, which an odd program or webcam made."""
_FLAGS_A_GUESS: Final = ("mpegts", "hls", "rtsp")
"""Demuxers that call a packet corrupt where a counter jumps, as it does where recordings are joined. The decoder sees
whether anything is missing."""
_CAMERA_WAIT_S: Final = 0.005
_MOST_TRIES: Final = 5
_LONGEST_WAIT_S: Final = 8.0
"""Longest pause between two attempts to connect again; the first pauses are shorter."""


class Decoder:
    """Decodes the chosen stream in one thread, in the order in which frames are shown.

    Attributes:
        input: What is read now; another one after a lost connection.
        damaged: Number of places that could not be decoded so far. What was there is left out.
        reconnections: How often a lost connection was made again.
        problem: Why reading ended too early, or None.
    """

    def __init__(self, opened: Input, on_reconnected: Callable[[float], None]) -> None:
        """Start before the first frame.

        Args:
            opened: What to read. It is closed by `close`.
            on_reconnected: Called when a lost connection was made again, with the seconds since the last picture. Time
                stamps start anew there.
        """
        self.damaged = 0
        self.reconnections = 0
        self.problem: str | None = None
        self._on_reconnected = on_reconnected
        self._tries = 0
        self._seen_s = time.monotonic()
        self._is_closed = False
        # PyAV logs with Python's lock held. With one decoding thread there is no other that could wait for it.
        self._capture = av.logging.Capture(local=False)
        self._log = self._capture.__enter__()
        av.logging.set_level(av.logging.WARNING)
        self._start(opened)

    def usual_step_s(self) -> float | None:
        """Measure the usual time between two frames by their stamps, in seconds; None where there are too few.

        Packets are read for that, and kept for `frames`.
        """
        since_s, size = time.monotonic(), 0
        for packet in self._packets:
            self._peeked.append(packet)
            size += packet.size
            if len(self._peeked) == _PEEKED_PACKETS or size > _PEEKED_BYTES or time.monotonic() - since_s > _PEEKED_S:
                break
        stamps = sorted({packet.pts for packet in self._peeked if packet.pts is not None and packet.size})
        if len(stamps) < 2:
            return None
        steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
        return float(statistics.median(steps) * self._peeked[0].time_base)

    def frames(self) -> Iterator[VideoFrame]:
        """Decode on from where it is, once. It never raises for what is read; see `problem` and `damaged`."""
        while True:
            for frame in self._whole_frames():
                self._tries, self._seen_s = 0, time.monotonic()
                yield frame
            is_lost = self._broken_by is not None or self.input.ends_when_lost
            if not (self.input.is_live and is_lost):
                break
            if not self._reconnect():
                return
        if self._broken_by is not None:
            self.problem = f"{self.input.name} breaks off: {self._broken_by}"

    def close(self) -> None:
        """Let go of the file, the connection or the camera. Closing twice is fine."""
        if not self._is_closed:
            self._is_closed = True
            av.logging.set_level(None)
            self._capture.__exit__(None, None, None)
            self.input.container.close()

    def _start(self, opened: Input) -> None:
        """Begin with a new connection."""
        self.input = opened
        self._broken_by: str | None = None
        self._peeked: deque[Packet[VideoStream]] = deque()
        self._packets = self._demuxed()
        context = opened.stream.codec_context
        context.thread_count = 1
        context.options = {"max_pixels": str(MOST_PIXELS)}

    def _demuxed(self) -> Iterator[Packet[VideoStream]]:
        """Yield the stream's packets. Where reading fails they end, and the reason is kept."""
        while True:
            try:
                yield from self.input.container.demux(self.input.stream)
                return
            except av.BlockingIOError:  # A camera has no picture yet.
                time.sleep(_CAMERA_WAIT_S)
            except av.FFmpegError as error:
                self._broken_by = reason_of(error)
                return

    def _whole_frames(self) -> Iterator[VideoFrame]:
        """Yield the frames of this connection, except damaged ones and those before the first key frame."""
        is_started, is_shown, start_pts, waited = False, False, None, 0
        while True:
            packet = self._peeked.popleft() if self._peeked else next(self._packets, None)
            if packet is not None and packet.is_keyframe and not is_started:
                is_started, start_pts = True, packet.pts
            # Pictures before the key frame in time may follow it, and refer to others that are not there.
            is_due = is_shown or (is_started and _is_from(packet, start_pts))
            for frame in self._decode(packet, is_counted=is_due):
                if not is_shown:
                    is_shown = (
                        frame.key_frame
                        or waited == _LONGEST_START_FRAMES
                        or (is_started and _is_from(frame, start_pts))
                    )
                    waited += 1
                if is_shown:
                    yield frame
            if packet is None:
                return

    def _decode(self, packet: Packet[VideoStream] | None, is_counted: bool) -> list[VideoFrame]:
        """Decode a packet, or what is left where there is none. Damage is counted unless it lies before the start."""
        frames: list[VideoFrame] = []
        if packet is not None and self.input.container.format.name in _FLAGS_A_GUESS:
            packet.is_corrupt = False
        is_damaged = packet is not None and packet.is_corrupt
        try:
            frames = self.input.stream.decode(packet)
        except EOFError:  # It was flushed before.
            pass
        except av.FFmpegError:
            is_damaged = True
        if self.input.stream.codec_context.codec.intra_only and packet is not None and packet.size:
            # Each of its packets is a picture, so it is clear which one is damaged or missing.
            frames = [] if packet.is_corrupt else frames
            is_damaged = is_damaged or not (frames or packet.is_discard)
        whole = [frame for frame in frames if not frame.is_corrupt]
        is_told = any(_TOLD_IN_THE_LOG.match(f"{level} {name} {text}") for level, name, text in self._log)
        self._log.clear()
        if is_counted and (is_damaged or is_told or len(whole) < len(frames)):
            self.damaged += 1
        return whole

    def _reconnect(self) -> bool:
        """Open a live source again, a few times; returns whether it could be."""
        while self._tries < _MOST_TRIES:
            time.sleep(min(0.5 * 2**self._tries, _LONGEST_WAIT_S))
            self._tries += 1
            self.input.container.close()
            try:
                self._start(open_input(self.input.source))
            except VideoError:
                continue
            self.reconnections += 1
            self._on_reconnected(time.monotonic() - self._seen_s)
            return True
        reason = f" ({self._broken_by})" if self._broken_by else ""
        self.problem = f"{self.input.name} ended or was lost{reason}, and {_MOST_TRIES} tries to connect again failed"
        return False


def _is_from(item: Packet[VideoStream] | VideoFrame | None, start_pts: int | None) -> bool:
    """Return whether a packet or frame is not before this time stamp, as far as is known."""
    return item is None or item.pts is None or start_pts is None or item.pts >= start_pts


_LARGEST_PIXEL_ASPECT: Final = 4
"""Width by height, or the other way round. Nothing that is shown has more; a damaged header may say anything."""
_HDR: Final = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
"""Curves of high dynamic range: PQ and HLG."""
_MATRIX_BYTES: Final = 36


class PictureConverter:
    """Converts the frames of one stream. What a frame says of itself counts, so that all of it may change midway.

    Pixels are made square by changing the width. Of interlaced frames one field is shown, its lines interpolated: that
    needs no other frame. High dynamic range is mapped to the usual one. What is transparent is put on white.
    """

    def __init__(self, stream: VideoStream) -> None:
        """Start before the first frame.

        Args:
            stream: Where the frames come from. It may be closed before the last of them is converted.
        """
        # A container's aspect overrides that of its frames, as in FFmpeg. Where they agree, it is left to the frames,
        # whose aspect may change midway.
        stated, coded = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
        self._stated_aspect = stated if stated and stated != coded else None
        self._graph: Graph | None = None
        self._layout: tuple[Any, ...] | None = None
        self._rotation: int | None = None
        self._matrix: NDArray[np.int32] | None = None

    def convert(self, frame: VideoFrame) -> Image.Image:
        """Convert one frame.

        Args:
            frame: A decoded frame of any size, pixel format, colour space, aspect and orientation.

        Returns:
            RGB, upright.

        Raises:
            av.FFmpegError: The frame is in a format that FFmpeg does not convert.
        """
        transparent = any(component.is_alpha for component in frame.format.components)
        layout = (
            *(frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, frame.color_trc),
            frame.interlaced_frame,
        )
        if self._graph is None or layout != self._layout:
            self._graph, self._layout = self._build(frame, "rgba" if transparent else "rgb24"), layout
        # PyAV ties a frame to its side data in a circle, and so keeps both: it is asked for when it may be another.
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _display_matrix(frame)
        self._graph.vpush(frame)
        pixels: NDArray[np.uint8] = np.asarray(self._graph.vpull().to_ndarray(), np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(_upright(pixels, self._matrix)))
        if not transparent:
            return picture
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")

    def _build(self, frame: VideoFrame, pixel_format: str) -> Graph:
        """Make the filters for frames like this one."""
        graph = Graph()
        graph.threads = 1
        time_base = frame.time_base or Fraction(1, 1000)
        nodes = [graph.add_buffer(None, frame.width, frame.height, frame.format, time_base=time_base)]
        if frame.interlaced_frame:
            nodes.append(graph.add("field", "top"))
        scale = f"w='{_width(self._stated_aspect)}':h={frame.height}:eval=frame"
        if frame.color_trc in _HDR:
            scale += ":out_primaries=bt709:out_transfer=bt709"
        nodes += [graph.add("scale", scale), graph.add("format", pixel_format), graph.add("buffersink")]
        graph.link_nodes(*nodes)
        graph.configure()
        return graph


def _width(stated_aspect: Fraction | None) -> str:
    """Express the width of a frame whose pixels are square, for FFmpeg's `scale`; `sar` is what the frame says."""
    aspect = "sar" if stated_aspect is None else f"{float(stated_aspect):.6f}"
    most = _LARGEST_PIXEL_ASPECT
    return f"max(1,round(iw*if(between({aspect},{1 / most},{most}),{aspect},1)))"


def _display_matrix(frame: VideoFrame) -> NDArray[np.int32] | None:
    """Return how the frame is to be turned and mirrored: (3, 3), or None where it stands as it is to be shown."""
    side_data: Mapping[Any, Any] = frame.side_data  # Its type names motion vectors only.
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None or len(bytes(matrix)) != _MATRIX_BYTES:
        return None
    return np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)


def _upright(pixels: NDArray[np.uint8], matrix: NDArray[np.int32] | None) -> NDArray[np.uint8]:
    """Turn and mirror a picture by quarters of a turn, whichever is nearest to what the matrix says.

    Args:
        pixels: (height, width, channels).
        matrix: Rows a b u, c d v, x y w, by which a point (p, q) goes to (a p + c q, b p + d q).
            Source: ISO/IEC 14496-12, matrix of the track header.
    """
    if matrix is None:
        return pixels
    (a, b), (c, d) = matrix[0, :2].tolist(), matrix[1, :2].tolist()
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
