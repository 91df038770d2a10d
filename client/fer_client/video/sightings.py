"""What was seen in one frame of a video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fer_client._errors import FerClientError
from fer_client._results import Face, ImageSize


@dataclass(frozen=True)
class TrackedFace:
    """A face in one frame, as part of its track.

    Attributes:
        track: Number of the track, from 1.
        face: As the server saw it, in this frame alone.
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
        image_size: Of the frame, in pixels, where it is not that of the video's first frame; else None. Boxes and
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
        """Plain values for JSON, rounded as in `Face.to_dict`, times to 0.0001 s."""
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
