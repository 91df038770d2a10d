"""What a video's sightings go into: files and figures, filled frame by frame and completed at the end."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fer_client.video.annotated import AnnotatedVideo
from fer_client.video.errors import VideoError
from fer_client.video.plot import History, plot
from fer_client.video.sightings import EpisodeCollector

if TYPE_CHECKING:
    from fer_client._errors import FerClientError
    from fer_client.video.frames import Frame, VideoSource
    from fer_client.video.sightings import Sighting


@dataclass(frozen=True)
class Outputs:
    """Files to write; None where one is not wanted.

    Attributes:
        timeline: JSON Lines.
        annotated: MP4.
        plot: PNG.
        panel: Whether the annotated video has the probabilities on a panel beside its frames.
    """

    timeline: Path | None = None
    annotated: Path | None = None
    plot: Path | None = None
    panel: bool = True


class TimelineFile:
    """A file with one JSON document a line for each frame. Whatever ends the process, the lines before are whole."""

    def __init__(self, path: Path) -> None:
        """Create the file, or empty it.

        Raises:
            VideoError: It cannot be written.
        """
        self._path = path
        try:
            self._file: TextIO = path.open("w", encoding="utf-8", buffering=1)  # Each line leaves at once.
        except OSError as error:
            raise self._failed(error) from error

    def add(self, sighting: Sighting) -> None:
        """Write the next line.

        Raises:
            VideoError: It cannot be written, as on a full disk.
        """
        try:
            self._file.write(json.dumps(sighting.to_dict()) + "\n")
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file. Closing twice is fine.

        Raises:
            VideoError: The last line cannot be written.
        """
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> VideoError:
        return VideoError(f"cannot write {self._path}: {error.strerror}")


class Recording:
    """What was seen so far. Use it in a `with` statement: when that is left, for whatever reason, the files are whole.

    Attributes:
        frames: Number of frames analysed, with an answer or without.
        frames_with_face: Number of frames that show one face or more.
        frames_failed: Number of frames without an answer.
        frames_crowded: Number of frames in which the server found more faces than it answers.
        first_error: Error of the first frame without an answer, or None.
        start_s: Time of the first frame.
        end_s: Time when the last frame ends.
        episodes: How long which expression was seen.
    """

    def __init__(
        self, source: VideoSource, labels: tuple[str, ...], outputs: Outputs, episodes: EpisodeCollector, every: int
    ) -> None:
        """Start the files.

        Args:
            source: The video.
            labels: The model's, in order.
            outputs: What to write.
            episodes: Collector of episodes, still empty.
            every: 1 if each frame is analysed, 2 if every second one is, and so on.

        Raises:
            VideoError: One of the files cannot be written.
        """
        self.frames = self.frames_with_face = self.frames_failed = self.frames_crowded = 0
        self.first_error: FerClientError | None = None
        self.start_s = self.end_s = 0.0
        self.episodes = episodes
        self._name = Path(source.name).name
        self._plot_path = outputs.plot
        self._interval_s = every / source.frame_rate
        self._history = History(labels, self._interval_s)
        self._files = contextlib.ExitStack()
        self._timeline: TimelineFile | None = None
        self._annotated: AnnotatedVideo | None = None
        with contextlib.ExitStack() as opened:
            if outputs.timeline:
                self._timeline = opened.enter_context(contextlib.closing(TimelineFile(outputs.timeline)))
            if outputs.annotated:
                annotated = AnnotatedVideo(outputs.annotated, source.size, labels, panel=outputs.panel)
                self._annotated = opened.enter_context(contextlib.closing(annotated))
            self._files = opened.pop_all()

    @property
    def tracks(self) -> int:
        """How many there were."""
        return self._history.tracks_seen

    @property
    def frames_answered(self) -> int:
        """How many have an answer, with a face or without."""
        return self.frames - self.frames_failed

    @property
    def duration_s(self) -> float:
        """Of the part that was analysed, in seconds."""
        return self.end_s - self.start_s

    def add(self, frame: Frame, sighting: Sighting) -> None:
        """Add the next frame.

        Raises:
            VideoError: A file cannot be written any more.
        """
        if self._timeline:
            self._timeline.add(sighting)
        # Counted as soon as its line is written: Ctrl-C may come at any point.
        if not self.frames:
            self.start_s = sighting.time_s
        self.frames += 1
        self.frames_with_face += bool(sighting.faces)
        self.frames_failed += sighting.error is not None
        self.frames_crowded += sighting.faces_left_out > 0
        self.first_error = self.first_error or sighting.error
        self.end_s = sighting.time_s + self._interval_s
        self.episodes.add(sighting)
        self._history.add(sighting)
        if self._annotated:
            self._annotated.add(frame.jpeg, sighting, self._interval_s)

    def __enter__(self) -> Recording:
        """Return the recording."""
        return self

    def __exit__(self, *_: object) -> None:
        """Complete the files: those that were written all along first, for the plot takes a second.

        Raises:
            VideoError: One of them cannot be completed; the others are.
        """
        with contextlib.ExitStack() as steps:
            if self._plot_path and self.frames:
                steps.callback(plot, self._history, self._name, self.start_s, self.end_s, self._plot_path)
            steps.callback(self._files.close)
