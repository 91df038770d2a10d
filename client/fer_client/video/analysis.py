"""From frames to sightings: sends frames ahead, follows faces, smooths their expressions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_client._errors import (
    FerClientError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
)
from fer_client._results import Face, ImageSize, Prediction
from fer_client._server import LOW_CONFIDENCE
from fer_client.video.settings import AnalysisSettings
from fer_client.video.sightings import Sighting, TrackedFace
from fer_client.video.smoothing import Smoother
from fer_client.video.tracking import Tracker

if TYPE_CHECKING:
    from collections.abc import Generator

    from fer_client._client import FerClient
    from fer_client.video.frames import Frame

_PASSING: Final = (RequestTimeoutError, ServerError, ServerOverloadedError)
"""What a server may recover from: one frame less does not matter, many in a row do."""
_MOST_FAILURES_IN_A_ROW: Final = 5


def analyse(
    frames: Iterable[Frame], client: FerClient, settings: AnalysisSettings
) -> Generator[tuple[Frame, Sighting], None, None]:
    """Send frames to the server and follow the faces in them.

    Frames are read only a little ahead of the answers, so memory stays flat however long the video is. A frame that the
    server refuses, or now and then fails at, is a sighting with an error.

    Args:
        frames: Frames in the order of time.
        client: Client of the server that they are sent to.
        settings: How frames are sent and faces are followed.

    Yields:
        Each frame and what was seen in it, in order, as the answers come.

    Raises:
        FerClientError: The server is gone, or fails again and again.
    """
    waiting: deque[Frame] = deque()
    follower = _Follower(client, settings)
    failures = 0
    with closing(client.predict_many(_sent(frames, waiting), concurrency=settings.concurrency)) as answers:
        for answer in answers:
            frame = waiting.popleft()
            if isinstance(answer, FerClientError):
                failures = 0 if isinstance(answer, ImageRefusedError) else failures + 1
                if failures and (not isinstance(answer, _PASSING) or failures == _MOST_FAILURES_IN_A_ROW):
                    raise answer
                yield frame, follower.miss(frame, answer)
            else:
                failures = 0
                yield frame, follower.sight(frame, answer)


def _sent(frames: Iterable[Frame], waiting: deque[Frame]) -> Iterator[bytes]:
    """Yield the pictures of the frames, and keep the frames in `waiting` until their answers are there."""
    for frame in frames:
        waiting.append(frame)
        yield frame.jpeg


class _Follower:
    """Keeps a tracker, and a smoother for each of its tracks."""

    def __init__(self, client: FerClient, settings: AnalysisSettings) -> None:
        self._labels = client.labels
        self._uncertain_below = client.uncertain_below or 0.0
        self._settings = settings
        self._tracker = Tracker(settings.patience_s)
        self._smoothers: dict[int, Smoother] = {}
        self._first_size: ImageSize | None = None

    def miss(self, frame: Frame, error: FerClientError) -> Sighting:
        """Go past a frame without an answer."""
        if frame.starts_scene:
            self._cut()
        return self._sighting(frame, (), error)

    def sight(self, frame: Frame, seen: Prediction) -> Sighting:
        """Put the faces of a frame into their tracks."""
        faces = seen.faces
        if frame.starts_scene:
            self._cut()
        tracks = self._tracker.update(frame.time_s, faces, frame.size)
        tracked = tuple(self._smooth(frame.time_s, track, face) for track, face in zip(tracks, faces, strict=True))
        for ended in self._smoothers.keys() - self._tracker.open_tracks:
            del self._smoothers[ended]
        return self._sighting(frame, tracked, None, seen.faces_left_out)

    def _cut(self) -> None:
        """End all tracks: what comes next has nothing to do with what came before."""
        self._tracker.end_all()
        self._smoothers.clear()

    def _sighting(
        self, frame: Frame, faces: tuple[TrackedFace, ...], error: FerClientError | None, left_out: int = 0
    ) -> Sighting:
        self._first_size = self._first_size or frame.size
        size = None if frame.size == self._first_size else frame.size
        return Sighting(frame.number, frame.time_s, faces, frame.starts_scene, error, size, left_out)

    def _smooth(self, time_s: float, track: int, face: Face) -> TrackedFace:
        if track not in self._smoothers:
            self._smoothers[track] = Smoother(self._settings.smoothing, self._settings.interval_s)
        raw = np.array([face.probabilities[label] for label in self._labels])
        smoothed, label = self._smoothers[track].update(time_s, raw)
        probabilities = dict(zip(self._labels, smoothed.tolist(), strict=True))
        is_unsure = probabilities[self._labels[label]] < self._uncertain_below
        is_badly_seen = any(reason != LOW_CONFIDENCE for reason in face.uncertain_reasons)
        return TrackedFace(
            track=track,
            face=face,
            probabilities=probabilities,
            label=self._labels[label],
            is_uncertain=is_unsure or is_badly_seen,
        )
