"""Decodes an opened video, past what is damaged in it and, where it is live, past lost connections.

Importing this module needs PyAV.
"""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import av

from fer_client.video.errors import VideoError
from fer_client.video.inputs import MOST_PIXELS, Input, open_input, reason_of

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_PEEKED_PACKETS: Final = 48
_PEEKED_BYTES: Final = 8_000_000
_PEEKED_S: Final = 2.0
"""How much of a video tells its usual rate: whichever of the three is reached first."""
_LONGEST_START_FRAMES: Final = 600
"""For so many frames a key frame is waited for. Until there is one, pictures are gray with moving patches."""
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
"""Between two tries to connect again; the first waits are shorter."""


class Decoder:
    """Decodes the chosen stream in one thread, in the order in which frames are shown.

    Attributes:
        input: What is read now; another one after a lost connection.
        damaged: How many places could not be decoded so far. What was there is left out.
        reconnections: How often a lost connection was made again.
        problem: Why reading ended although there should be more, or None.
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
        """The stream's packets; where reading fails they end, and why is kept."""
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
        """The frames of this connection, without those before the first key frame and without damaged ones."""
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
    """Whether a packet or frame is not before this time stamp, as far as is known."""
    return item is None or item.pts is None or start_pts is None or item.pts >= start_pts
