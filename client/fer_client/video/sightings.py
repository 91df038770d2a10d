"""What was seen in one frame of a video, and for how long: sightings in a row with one label make an episode."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fer_client._errors import FerClientError
from fer_client._results import Face, ImageSize


@dataclass(frozen=True)
class TrackedFace:
    """A face in one frame, as part of its track.

    Attributes:
        track: Number of the track, from 1.
        face: The face as the server saw it, in this frame alone.
        probabilities: The smoothed probabilities: label to 0..1, in the model's label order; they sum to 1.
        label: The apparent expression that holds now. It may stay a little longer than its probability leads.
        is_uncertain: Whether the label's smoothed probability is below the server's threshold, or the face in this
            frame beyond one of the server's bounds: too small, too dark, turned away.
    """

    track: int
    face: Face
    probabilities: Mapping[str, float]
    label: str
    is_uncertain: bool

    @property
    def confidence(self) -> float:
        """The smoothed probability of `label`, 0..1."""
        return self.probabilities[self.label]


@dataclass(frozen=True)
class Sighting:
    """One frame and the faces in it.

    Attributes:
        frame: The frame's position in the video, from 0.
        time_s: Seconds from the video's start.
        faces: Largest first; empty where there is none or the frame has no result.
        starts_scene: Whether a cut lies before it; tracks end there.
        error: Why the frame has no result, or None.
        image_size: Size of the frame in pixels if it is not that of the video's first frame, else None. Boxes and
            landmarks are in these pixels.
        faces_left_out: How many more faces the server found in it than it answers, which is the largest 32.
    """

    frame: int
    time_s: float
    faces: tuple[TrackedFace, ...] = ()
    starts_scene: bool = False
    error: FerClientError | None = None
    image_size: ImageSize | None = None
    faces_left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, rounded as in `Face.to_dict`, times to 0.0001 s."""
        document: dict[str, Any] = {"frame": self.frame, "time_s": round(self.time_s, 4)}
        if self.starts_scene:
            document["starts_scene"] = True
        if self.image_size is not None:
            document["image_size"] = self.image_size._asdict()
        if self.faces_left_out:
            document["faces_left_out"] = self.faces_left_out
        if self.error is not None:
            return {**document, "error": str(self.error)}
        return {**document, "faces": [_face_to_dict(face) for face in self.faces]}


def _face_to_dict(tracked: TrackedFace) -> dict[str, Any]:
    raw = tracked.face.to_dict()
    return {
        "track": tracked.track,
        "label": tracked.label,
        "confidence": round(tracked.confidence, 6),
        "uncertain": tracked.is_uncertain,
        "smoothed": {label: round(value, 6) for label, value in tracked.probabilities.items()},
        **{key: raw[key] for key in ("probabilities", "box", "detection_score", "landmarks")},
    }


@dataclass(frozen=True)
class Episode:
    """One track's face with one label for a while.

    Attributes:
        track: Number of the track.
        label: The apparent expression.
        start_s: Time of the video at which the episode starts, in seconds.
        end_s: Time of the frame that shows another label, or just after the last frame of the track.
        confidence: The mean of the label's smoothed probability, 0..1.
        is_uncertain: Whether more than half of the frames were uncertain.
    """

    track: int
    label: str
    start_s: float
    end_s: float
    confidence: float
    is_uncertain: bool

    @property
    def duration_s(self) -> float:
        """In seconds."""
        return self.end_s - self.start_s

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with times rounded to 0.001 s."""
        return {
            "track": self.track,
            "label": self.label,
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "duration_s": round(self.duration_s, 3),
            "confidence": round(self.confidence, 4),
            "uncertain": self.is_uncertain,
        }


class EpisodeCollector:
    """Collects episodes while sightings come in. It keeps those that lasted long enough, nothing of the others.

    Attributes:
        label_changes: How often a track's label has changed from one frame to the next.
        raw_changes: How often it would have without smoothing.
    """

    def __init__(self, minimum_s: float, interval_s: float, patience_s: float) -> None:
        """Start before the first sighting.

        Args:
            minimum_s: Shorter episodes are left out.
            interval_s: The usual time between two frames: how long a track's last frame counts.
            patience_s: A track that was out of sight for longer has ended.
        """
        self._minimum_s = minimum_s
        self._interval_s = interval_s
        self._patience_s = patience_s
        self._open: dict[int, _Run] = {}
        self._ended: list[Episode] = []
        self.label_changes = 0
        self.raw_changes = 0

    def add(self, sighting: Sighting) -> None:
        """Add what was seen in the next frame."""
        overdue = {track for track, run in self._open.items() if sighting.time_s - run.seen_s > self._patience_s}
        self._end(self._open.keys() if sighting.starts_scene else overdue)
        for face in sighting.faces:
            run = self._open.get(face.track)
            if run is not None:
                self.raw_changes += run.raw_label != face.face.emotion
            if run is not None and run.label != face.label:
                self.label_changes += 1
                self._keep(run.episode(face.track, sighting.time_s))
                run = None
            if run is None:
                run = self._open[face.track] = _Run(face.label, sighting.time_s)
            run.add(sighting.time_s, face)

    def episodes(self) -> list[Episode]:
        """Return all that lasted long enough until now, by the time of their start."""
        still_open = (run.episode(track, run.seen_s + self._interval_s) for track, run in self._open.items())
        found = [*self._ended, *(episode for episode in still_open if self._is_long(episode))]
        return sorted(found, key=lambda episode: (episode.start_s, episode.track))

    def _end(self, tracks: Collection[int]) -> None:
        for track in list(tracks):
            run = self._open.pop(track)
            self._keep(run.episode(track, run.seen_s + self._interval_s))

    def _keep(self, episode: Episode) -> None:
        if self._is_long(episode):
            self._ended.append(episode)

    def _is_long(self, episode: Episode) -> bool:
        return episode.duration_s >= self._minimum_s - 1e-6  # Frame times are rounded.


class _Run:
    """An episode that may still go on."""

    def __init__(self, label: str, start_s: float) -> None:
        self.label = label
        self.raw_label = ""
        self.seen_s = start_s
        self._start_s = start_s
        self._frames = 0
        self._uncertain_frames = 0
        self._confidences = 0.0

    def add(self, time_s: float, face: TrackedFace) -> None:
        self.seen_s = time_s
        self.raw_label = face.face.emotion
        self._frames += 1
        self._uncertain_frames += face.is_uncertain
        self._confidences += face.confidence

    def episode(self, track: int, end_s: float) -> Episode:
        confidence, is_uncertain = self._confidences / self._frames, 2 * self._uncertain_frames > self._frames
        return Episode(track, self.label, self._start_s, end_s, confidence, is_uncertain)
