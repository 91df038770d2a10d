"""What was seen in a video, in the end: a table for people, a JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_client.video.clock import format_time
from fer_client.video.sightings import Episode
from fer_commands.messages import align, one_line

if TYPE_CHECKING:
    from fer_client.video.recording import Recording

_HEADER: Final = ("track", "apparent expression", "from", "for", "confidence")
_LEFT_ALIGNED: Final = {1}


def format_episodes(episodes: Sequence[Episode], minimum_s: float) -> str:
    """Lay out a row for each episode, in the order of time.

    Args:
        episodes: What was seen.
        minimum_s: Shorter ones were left out, which is said where none is left.

    Returns:
        Lines without a final newline.
    """
    if not episodes:
        return f"no apparent expression lasted for {minimum_s:g} s"
    span_s = max(episode.end_s for episode in episodes)
    rows = [
        (
            str(episode.track),
            f"{one_line(episode.label)}{'?' if episode.is_uncertain else ''}",
            format_time(episode.start_s, span_s),
            f"{episode.duration_s:.1f} s",
            f"{episode.confidence:.0%}",
        )
        for episode in episodes
    ]
    note = ["", "? = below the server's threshold for being certain"] if any(e.is_uncertain for e in episodes) else []
    return "\n".join([align([_HEADER, *rows], _LEFT_ALIGNED), *note])


def format_figures(recording: Recording, seconds: float) -> str:
    """Say in one line how much was analysed, how much was found, and how fast.

    Args:
        recording: What was seen.
        seconds: How long it took.
    """
    failed = f", {recording.frames_failed} without an answer" if recording.frames_failed else ""
    if recording.frames_crowded:
        failed += f", {recording.frames_crowded} with more faces than are answered"
    changes = f"label changes: {recording.episodes.label_changes}, {recording.episodes.raw_changes} without smoothing"
    video = f"{_count(recording.frames, 'frame')} in {recording.duration_s:.1f} s of video"
    found = f"{recording.frames_with_face} with a face{failed}, {_count(recording.tracks, 'track')}"
    return f"{video}, {found}; {changes}; {recording.frames / max(seconds, 1e-9):.1f} frames/s"


def to_json(recording: Recording, about: dict[str, Any], files: Sequence[tuple[str, Path]]) -> str:
    """Return one JSON document.

    Args:
        recording: What was seen.
        about: What the document begins with.
        files: Kind and path of each file written.
    """
    episodes = recording.episodes
    document = {
        **about,
        "frames": {
            "analysed": recording.frames,
            "with_face": recording.frames_with_face,
            "failed": recording.frames_failed,
            "crowded": recording.frames_crowded,
        },
        "duration_s": round(recording.duration_s, 3),
        "tracks": recording.tracks,
        "label_changes": {"smoothed": episodes.label_changes, "raw": episodes.raw_changes},
        "episodes": [episode.to_dict() for episode in episodes.episodes()],
        "files": {kind: str(path) for kind, path in files},
    }
    return json.dumps(document, indent=2)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
