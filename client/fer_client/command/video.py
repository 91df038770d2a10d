"""`fer-client video FILE|ADDRESS|CAMERA`: faces and their apparent expressions over time, by `fer_client.video`.

PyAV, Pillow and matplotlib are loaded when the command runs: `--help` answers at once.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_client._errors import FerClientError
from fer_client.command.connection import add_settings, read_connection
from fer_client.command.options import LONGEST_S, Subcommands, add_command, positive_int, say, seconds
from fer_client.command.output import check_output_file
from fer_client.video.errors import require
from fer_client.video.settings import (
    CONCURRENCY,
    MARGIN,
    MINIMUM_EPISODE_S,
    PATIENCE_S,
    TIME_CONSTANT_S,
    AnalysisSettings,
    SmoothingSettings,
)
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import one_line, printable
from fer_commands.running import CommandError

if TYPE_CHECKING:
    from fer_client import FerClient
    from fer_client.video.frames import VideoSource
    from fer_client.video.recording import Recording

_DESCRIPTION: Final = """\
Follow the faces in a video and their apparent expressions, as an annotator would label the
pictures. It is not what a person feels. Faces are followed from frame to frame by where they
are: nobody is recognised, and a face that comes back later is a new track.

Frames are sent to the server named, as JPEG, and nowhere else; over gRPC unless the URL or
--protocol says otherwise. Needs PyAV and Pillow, and matplotlib for --plot:
  pip install 'fer-triton[video]'

No file opens another one: a playlist on disk is refused. An address starts with rtsp://,
rtsps://, http:// or https://, and a password in it is never shown. A live stream that is lost
is opened again, up to 5 times in a row.

Ctrl-C ends the analysis. The table and the files then hold what was seen until then, as they do
when the server goes away or the video breaks off.
"""

_EXAMPLES: Final = """\
  fer-client video clip.mp4                            a table: which expression, from when, for how long
  fer-client video clip.mp4 --annotate faces.mp4       and the video with its faces drawn
  fer-client video clip.mp4 --plot clip.png            and the probabilities over time
  fer-client video long.mp4 --every 5 --timeline long.jsonl
  fer-client video 0 --seconds 60 --timeline me.jsonl  a minute from the first camera
  fer-client video rtsp://camera.example/live          a stream, until it ends or Ctrl-C
  fer-client video clip.mp4 --json | jq '.episodes[] | select(.label == "surprise")'
"""


def add_video_command(commands: Subcommands) -> argparse.ArgumentParser:
    """Add `video` to the commands.

    Returns:
        The command's own parser.
    """
    parser = add_command(
        commands,
        "video",
        summary="follow faces and their apparent expressions through a video",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        run=connect_and_run,
    )
    parser.add_argument(
        "source",
        metavar="FILE|ADDRESS|CAMERA",
        help="a video file, the address of a stream, or a camera: 0 is the first (./0 is a file)",
    )
    parser.add_argument(
        "--every", metavar="N", type=positive_int, default=1, help="analyse only every Nth frame (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", metavar="S", type=seconds, help="stop after this much of the video (default: at its end)"
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=positive_int,
        default=CONCURRENCY,
        help="send this many frames at once (default: %(default)s)",
    )
    _add_smoothing_options(parser)
    output = parser.add_argument_group("output", "in addition to the table")
    output.add_argument(
        "--timeline", metavar="FILE", type=Path, help="a JSON document for each frame on a line (.jsonl)"
    )
    output.add_argument(
        "--annotate", metavar="FILE", type=Path, help="the frames analysed with their faces drawn (.mp4)"
    )
    output.add_argument(
        "--no-panel", action="store_true", help="leave out the panel of probabilities beside the annotated frames"
    )
    output.add_argument("--plot", metavar="FILE", type=Path, help="the probabilities of each track over time (.png)")
    output.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    output.add_argument("--quiet", "-q", action="store_true", help="no progress and no summary, errors only")
    add_settings(parser)
    return parser


def connect_and_run(options: argparse.Namespace) -> int:
    """Run the command with a client of its own, and return the exit code. Raises what `run` raises."""
    connection = read_connection(options, preferred="grpc")
    with connection.open() as client:
        return run(options, client)


def run(options: argparse.Namespace, client: FerClient) -> int:
    """Analyse the video that the options name and write what they ask for.

    Whatever ends the analysis, what was seen until then has been written when this returns or raises.

    Args:
        options: Parsed by the parser of `add_video_command`.
        client: Where frames are sent, once everything that can fail without a server has been tried.

    Returns:
        The exit code; that of Ctrl-C too.

    Raises:
        CommandError: The video cannot be read, or an output cannot be written.
        FerClientError: The server did not answer a single frame.
    """
    _check(options)
    from fer_client.video.frames import VideoSource  # Not at the top: PyAV is heavy.

    with VideoSource(options.source) as source:
        return _Run(options, client, source).work()


class _Run:
    """One pass through a video."""

    def __init__(self, options: argparse.Namespace, client: FerClient, source: VideoSource) -> None:
        self._options = options
        self._client = client
        self._source = source
        self._interval_s = options.every / source.frame_rate
        # Where few frames are analysed, a face has to be missed more than once before it is gone.
        self._patience_s = max(PATIENCE_S, 2.5 * self._interval_s)
        self._end_s = math.inf if options.seconds is None else options.seconds
        self._stop: str | None = None
        self._exit_code: int = ExitCode.OK

    def work(self) -> int:
        """Analyse the video, or as much of it as can be, and return the exit code."""
        from fer_client.video.recording import Outputs, Recording
        from fer_client.video.sightings import EpisodeCollector

        options = self._options
        labels = self._client.labels  # Before a file is written: a server that does not answer leaves them as they are.
        episodes = EpisodeCollector(options.min_episode, self._interval_s, self._patience_s)
        outputs = Outputs(options.timeline, options.annotate, options.plot, panel=not options.no_panel)
        start_s = time.perf_counter()
        with Recording(self._source, labels, outputs, episodes, options.every) as recording:
            self._record(recording)
            elapsed_s = time.perf_counter() - start_s
        if self._stop is None and recording.first_error is not None:
            is_partial = recording.frames_failed < recording.frames
            self._exit_code = ExitCode.PARTIAL if is_partial else recording.first_error.exit_code
        elif self._stop is None and self._source.damaged:
            self._exit_code = ExitCode.PARTIAL
        self._conclude(recording, elapsed_s)
        return self._exit_code

    def _record(self, recording: Recording) -> None:
        """Fill the recording, and note why it ended unless the video did."""
        from fer_client.command.progress import VideoProgress
        from fer_client.video.analysis import analyse

        progress = VideoProgress(*self._expected(), quiet=self._options.quiet)
        smoothing = SmoothingSettings(self._options.smoothing, self._options.margin)
        settings = AnalysisSettings(self._interval_s, self._options.concurrency, self._patience_s, smoothing)
        frames = self._source.frames(self._options.every, self._end_s)
        try:
            with closing(analyse(frames, self._client, settings)) as sightings:
                for frame, sighting in sightings:
                    recording.add(frame, sighting)
                    progress.advance(sighting.time_s, recording.frames, recording.frames_failed)
        except KeyboardInterrupt:
            self._stop, self._exit_code = "interrupted", ExitCode.INTERRUPTED
        except FerClientError as error:
            if recording.frames_answered == 0:
                raise
            self._stop, self._exit_code = str(error), error.exit_code
        else:
            if self._source.problem:
                self._stop, self._exit_code = self._source.problem, ExitCode.PARTIAL
        finally:
            progress.clear()

    def _expected(self) -> tuple[int | None, float | None]:
        """Return how many frames will be analysed and how many seconds they last, where that is known."""
        frames = self._source.expected_frames
        length_s = min(self._end_s, math.inf if frames is None else frames / self._source.frame_rate)
        return (None, None) if math.isinf(length_s) else (math.ceil(length_s / self._interval_s), length_s)

    def _conclude(self, recording: Recording, elapsed_s: float) -> None:
        """Print the table or the document, then what went wrong and how it went."""
        from fer_client.video.report import format_episodes, format_figures, to_json

        options, source = self._options, self._source
        written = [(kind, path) for kind, path in _files(options) if path.is_file()]
        if options.json:
            sys.stdout.write(to_json(recording, self._about(), written) + "\n")
        else:
            size, version = source.size, one_line(self._client.model_version)
            heading = (
                f"{printable(source.name)}: {size.width} x {size.height} px, {source.frame_rate:.4g} frames/s, model "
            )
            table = format_episodes(recording.episodes.episodes(), options.min_episode)
            sys.stdout.write(f"{heading}{version} at {self._client.url}\n\n{table}\n")
        sys.stdout.flush()
        if self._stop:
            say(f"{self._stop}; what was seen in {recording.frames_answered} frames until then is kept")
        elif recording.first_error is not None:
            say(f"{recording.frames_failed} of {recording.frames} frames have no answer: {recording.first_error}")
        for note in source.notes():
            say(note)
        if not options.quiet:
            say(format_figures(recording, elapsed_s))
            for kind, path in written:
                say(f"{kind}: {printable(path)}")

    def _about(self) -> dict[str, Any]:
        """Return what the JSON document begins with."""
        options, source = self._options, self._source
        return {
            "source": source.name,
            "image_size": source.size._asdict(),
            "frame_rate": round(source.frame_rate, 4),
            "model_version": self._client.model_version,
            "every": options.every,
            "smoothing_s": options.smoothing,
            "margin": options.margin,
            "min_episode_s": options.min_episode,
            "stopped": self._stop,
            "damaged": source.damaged,
            "notes": source.notes(),
        }


def _files(options: argparse.Namespace) -> list[tuple[str, Path]]:
    """Return the kind and path of each file that the options ask for."""
    wanted = (("timeline", options.timeline), ("annotated video", options.annotate), ("plot", options.plot))
    return [(kind, path) for kind, path in wanted if path]


def _check(options: argparse.Namespace) -> None:
    """Find out before any work what would keep the outputs from being written.

    Raises:
        CommandError: An output cannot be written, or a package that is needed is not installed.
    """
    if options.no_panel and not options.annotate:
        raise CommandError("--no-panel is about the annotated video: name one with --annotate FILE")
    extensions = {"annotated video": ".mp4", "plot": ".png"}
    files = _files(options)
    for index, (kind, path) in enumerate(files):
        if path.suffix.lower() != extensions.get(kind, path.suffix.lower()):
            raise CommandError(
                f"cannot write {printable(path)}: the name of a{_n(kind)} {kind} ends in {extensions[kind]}"
            )
        check_output_file(path)
        for other in [Path(options.source), *(earlier for _, earlier in files[:index])]:
            if path.resolve() == other.resolve():
                raise CommandError(
                    f"cannot write {printable(path)}: it would overwrite {printable(other)}; choose another name"
                )
    for package in ("av", "PIL", *(["matplotlib"] if options.plot else [])):
        require(package)


def _n(noun: str) -> str:
    return "n" if noun[0] in "aeiou" else ""


def _add_smoothing_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("smoothing over time")
    group.add_argument(
        "--smoothing",
        metavar="S",
        type=_seconds_or_none,
        default=TIME_CONSTANT_S,
        help="time constant over which probabilities are averaged, 0 for none; labels lag by about this long "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--margin",
        metavar="P",
        type=_probability,
        default=MARGIN,
        help="by how much a new label's probability must lead to take over, 0 to 1 (default: %(default)s)",
    )
    group.add_argument(
        "--min-episode",
        metavar="S",
        type=_seconds_or_none,
        default=MINIMUM_EPISODE_S,
        help="omit episodes shorter than this (default: %(default)s)",
    )


def _seconds_or_none(text: str) -> float:
    """Parse a time in seconds from 0 on, for argparse."""
    return _number(text, LONGEST_S, "a number of seconds")


def _probability(text: str) -> float:
    """Parse a number from 0 to 1, for argparse."""
    return _number(text, 1.0, "a probability")


def _number(text: str, most: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} from 0 to {most:g}")
    return value
