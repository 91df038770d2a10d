"""`fer-client predict PATH...`: pictures to faces and their apparent expressions."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from fer_client._errors import (
    AuthenticationError,
    ContractError,
    FerClientError,
    ImageRefusedError,
    ImageUnreadableError,
    ServerUnreachableError,
)
from fer_client.command.annotate import AnnotationError, annotate, plan_outputs
from fer_client.command.connection import add_settings, read_connection
from fer_client.command.image_paths import Source, Sources, expand, format_left_out, read_stream
from fer_client.command.options import Subcommands, add_command, positive_int, say
from fer_client.command.output import (
    CSV,
    JSON,
    JSON_LINES,
    Previous,
    check_output_file,
    choose_format,
    open_appending,
    open_output,
)
from fer_client.command.progress import Progress
from fer_client.command.records import (
    CsvWriter,
    JsonLinesWriter,
    JsonWriter,
    ManyTableWriter,
    OneTableWriter,
    Outcome,
    Tally,
    Writer,
)
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import printable, utf8_name
from fer_commands.running import CommandError

if TYPE_CHECKING:
    from fer_client import CroppedPrediction, FerClient, Prediction

_DEFAULT_CONCURRENCY: Final = 8
_FATAL: Final = (AuthenticationError, ContractError, ServerUnreachableError)
"""Errors that the next image would run into as well."""
_GIVE_UP_AFTER: Final = 20
"""After this many failures in a row, the server is taken to fail at the rest too."""

_DESCRIPTION: Final = """\
Find the faces in pictures and their apparent expressions, as an annotator would label the
picture. It is not what a person feels. A picture without a face has a result too: no face.

Pictures (JPEG, PNG, WebP or BMP) are sent to the server named, and nowhere else. Nothing is
fetched from the network.
"""

_EXAMPLES: Final = """\
  fer-client predict photo.jpg                         a table
  fer-client predict photo.jpg --annotate faces.png    and the picture with its faces drawn
  fer-client predict photos --annotate drawn           all pictures in a folder and below it
  fer-client predict 'photos/**/*.jpg' --json          quoted, so that the shell leaves it alone
  curl -fsSL URL | fer-client predict -                from standard input
  fer-client predict photos --output faces.csv         a row for each face
  fer-client predict photos --resume faces.jsonl       can be interrupted, and goes on
  fer-client predict crops --cropped --jsonl           pictures that are one face each
  fer-client predict photos --jsonl | jq -r 'select(.faces == []) | .image'
"""


def add_predict_command(commands: Subcommands) -> None:
    """Add `predict` to the commands."""
    parser = add_command(
        commands,
        "predict",
        summary="find faces in pictures and their apparent expressions",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="a picture, a folder (searched with the folders below it, except hidden ones), a quoted pattern, or - for "
        "standard input",
    )
    parser.add_argument(
        "--all", action="store_true", help="try every file in a folder that is not hidden, whatever its name ends in"
    )
    parser.add_argument("--cropped", action="store_true", help="each picture is one face already: skip the detection")
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=positive_int,
        default=_DEFAULT_CONCURRENCY,
        help="how many pictures are sent at once (default: %(default)s)",
    )
    _add_output_options(parser)
    add_settings(parser)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output", "in the order of the pictures; default: a table for people")
    formats = output.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="one JSON document: images, and a summary")
    formats.add_argument("--jsonl", action="store_true", help="a JSON document on each line, one for each picture")
    formats.add_argument("--csv", action="store_true", help="a row for each face, and one for a picture without")
    formats.add_argument(
        "--resume",
        metavar="FILE",
        type=Path,
        help="as --jsonl --output FILE, but append to FILE and skip the pictures that have a result there or were "
        "refused; name the pictures as the first time, from the same folder",
    )
    output.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="write to a file instead of standard output; a name that ends in .csv, .json or .jsonl chooses that "
        "format, any other a table unless an option says otherwise",
    )
    output.add_argument(
        "--annotate",
        metavar="DIR",
        help="also write each picture to this folder, with its faces, expressions and probabilities drawn; for a "
        "single picture also a file: .png, .jpg, .webp or .bmp",
    )
    output.add_argument(
        "--no-panel", action="store_true", help="leave out the panel of probabilities beside the annotated pictures"
    )
    output.add_argument("--quiet", "-q", action="store_true", help="no progress and no summary, errors only")


def run(options: argparse.Namespace) -> int:
    """Try what can fail without the server, then ask it, and return the exit code."""
    if options.resume and options.output:
        raise CommandError("--resume names the file of results already: leave --output out")
    if options.no_panel and (options.cropped or not options.annotate):
        reason = "nothing but the panel is drawn beside a crop" if options.cropped else "it is about --annotate"
        raise CommandError(f"--no-panel has no use here: {reason}; leave it out")
    results = options.output or options.resume
    options.format = choose_format(_format_flag(options), results)
    if results:
        check_output_file(results)
    annotate_to = Path(options.annotate) if options.annotate else None
    if results and annotate_to and results.resolve() == annotate_to.resolve():
        raise CommandError(f"{printable(results)} cannot take both results and pictures: give --annotate another name")
    sources = expand(options.paths, [path for path in (results, annotate_to) if path], take_all=options.all)
    _check_not_a_source(results, sources)
    annotated = _plan(sources, options.annotate)
    previous = _read_previous(options.resume, sources)
    pending = [
        source for source in sources.images if previous is None or utf8_name(source.name) not in previous.settled
    ]
    if not pending:
        done = f"nothing to do: {printable(options.resume)} has all {len(sources.images)} images"
        say("; ".join(filter(None, (done, format_left_out(sources)))))
        return ExitCode.OK
    if all(source.problem for source in pending):
        for source in pending:
            say(ImageUnreadableError(source.name, source.problem))
        return ExitCode.USAGE
    connection = read_connection(options)
    with connection.open() as client:
        # Before anything is written: a server that does not answer leaves files as they are.
        labels, quality_columns = client.labels, client.quality_columns
        importlib.import_module("numpy")  # Else loading it would count as part of the first request.
        if previous:
            previous.check(client.model_version, cropped=options.cropped)
            previous.tidy()
        with _stream(options) as stream:
            writer = _writer(options, stream, sources, client.url)
            writer.begin(labels, quality_columns)
            return _Run(options, client, pending, annotated, sources, writer).work()


class _Run:
    """One pass over the pictures."""

    def __init__(
        self,
        options: argparse.Namespace,
        client: FerClient,
        pending: Sequence[Source],
        annotated: dict[str, Path],
        sources: Sources,
        writer: Writer,
    ) -> None:
        self._options = options
        self._client = client
        self._pending = pending
        self._annotated = annotated
        self._left_out = format_left_out(sources)
        self._is_single = len(sources.images) == 1
        self._writer = writer
        self._progress = Progress(len(pending), quiet=options.quiet)
        self._tally = Tally(left_out=sources.left_out)
        self._streamed: dict[str, bytes] = {}
        self._failures: list[int] = []
        self._in_a_row = 0

    def work(self) -> int:
        """Deal with all pictures, or as many as can be, and return the exit code."""
        start_s = time.perf_counter()
        stop: CommandError | None = None
        try:
            for outcome in self._outcomes():
                self._record(outcome)
        except KeyboardInterrupt:
            stop = CommandError("interrupted" if not self._is_single else "", ExitCode.INTERRUPTED)
        except FerClientError as error:
            stop = CommandError(str(error), error.exit_code)
        finally:
            self._progress.clear()
            self._tally.seconds = time.perf_counter() - start_s
            self._writer.end(self._tally)
        self._conclude(stop)
        if stop:
            return stop.exit_code
        if not self._failures:
            return ExitCode.OK
        return ExitCode.PARTIAL if len(self._failures) < self._tally.images else self._failures[0]

    def _outcomes(self) -> Iterator[Outcome]:
        """Yield what becomes of each picture, in their order.

        Raises:
            FerClientError: There is no use in going on.
        """
        options = self._options
        results = self._client.predict_many(self._images(), concurrency=options.concurrency, cropped=options.cropped)
        with contextlib.closing(results) as answers:
            for source in self._pending:
                start_s = time.perf_counter()
                answer = ImageUnreadableError(source.name, source.problem) if source.problem else next(answers)
                if isinstance(answer, FerClientError):
                    self._raise_if_hopeless(answer)
                    yield Outcome(source.name, error=answer)
                else:
                    request_ms = 1000 * (time.perf_counter() - start_s) if self._is_single else None
                    yield Outcome(source.name, answer, request_ms=request_ms)

    def _images(self) -> Iterator[str | bytes]:
        """Yield the readable pictures: paths, which the client reads when needed, and what came through a pipe."""
        for source in self._pending:
            if source.problem:
                continue
            if source.is_stream:
                content = read_stream(source)
                if self._annotated:
                    self._streamed[source.name] = content
                yield content
            else:
                yield source.name

    def _raise_if_hopeless(self, error: FerClientError) -> None:
        is_of_the_image = isinstance(error, ImageRefusedError | ImageUnreadableError)
        self._in_a_row = 0 if is_of_the_image else self._in_a_row + 1
        if isinstance(error, _FATAL) or self._in_a_row == _GIVE_UP_AFTER:
            raise error

    def _record(self, outcome: Outcome) -> None:
        """Write what became of a picture, the annotated copy first: a line of results says that all is there."""
        self._progress.clear()
        problem = None
        if outcome.prediction is not None:
            self._in_a_row = 0
            problem = self._annotate(outcome.name, outcome.prediction)
        self._writer.write(outcome)
        self._tally.count(outcome)
        if outcome.error is not None:
            say(outcome.error if self._is_plain(outcome.error) else f"{printable(outcome.name)}: {outcome.error}")
            self._failures.append(outcome.error.exit_code)
        elif problem is not None:
            say(problem if self._is_single else f"{printable(outcome.name)}: {problem}")
            self._failures.append(ExitCode.USAGE)
        self._progress.update(self._tally.images, len(self._failures))

    def _is_plain(self, error: FerClientError) -> bool:
        """Return whether an error is clear without the picture's name: it has the name, or is not about a picture."""
        if isinstance(error, ImageUnreadableError):
            return True
        return self._is_single and not isinstance(error, ImageRefusedError)

    def _annotate(self, name: str, prediction: Prediction | CroppedPrediction) -> AnnotationError | None:
        """Draw a picture where that is wanted, and return what kept it from being drawn."""
        output = self._annotated.get(name)
        if output is None:
            return None
        try:
            content = self._streamed.pop(name, None)
            content = Path(name).read_bytes() if content is None else content
            annotate(content, prediction, output, panel=not self._options.no_panel)
        except AnnotationError as error:
            return error
        except OSError as error:
            return AnnotationError(f"cannot draw on the image: it can no longer be read: {error.strerror}")
        return None

    def _conclude(self, stop: CommandError | None) -> None:
        """Say how it went, and how to go on."""
        options, tally = self._options, self._tally
        if stop and str(stop):
            kept = f"; {tally.images} of {len(self._pending)} images are done" if len(self._pending) > 1 else ""
            say(f"{stop}{kept}{self._how_to_go_on() if kept else ''}")
        if options.quiet:
            return
        if self._is_single:
            if self._annotated and not self._failures and isinstance(self._writer, OneTableWriter):
                self._writer.add(f"annotated picture: {printable(*self._annotated.values())}")
            if self._left_out:
                say(self._left_out)
            return
        say("; ".join(filter(None, (str(tally), self._left_out))))
        if options.annotate and tally.answered:
            say(f"annotated pictures: {printable(options.annotate)}")

    def _how_to_go_on(self) -> str:
        if self._options.resume:
            return ": the same command goes on"
        if self._options.format == JSON_LINES and self._options.output:
            return f": go on with --resume {printable(self._options.output)}"
        return ""


def _format_flag(options: argparse.Namespace) -> str | None:
    """Return the option that says how results are written, or None."""
    flags = (flag for flag in ("--json", "--jsonl", "--csv", "--resume") if getattr(options, flag.removeprefix("--")))
    return next(flags, None)


def _check_not_a_source(results: Path | None, sources: Sources) -> None:
    """Make sure that results do not replace one of the pictures.

    Raises:
        CommandError: They would.
    """
    if results is None or not results.is_file():
        return
    for source in sources.images:
        if not (source.problem or source.is_stream) and results.samefile(source.name):
            raise CommandError(f"cannot write {printable(results)}: it is one of the pictures; choose another name")


def _plan(sources: Sources, annotate_to: str | None) -> dict[str, Path]:
    """Return the annotated file of each image by the image's name; empty where none is wanted."""
    if not annotate_to:
        return {}
    pictures = [(source.name, source.relative) for source in sources.images if not source.problem]
    files = plan_outputs(pictures, annotate_to)
    return {name: file for (name, _), file in zip(pictures, files, strict=True)}


def _read_previous(resume: Path | None, sources: Sources) -> Previous | None:
    """Return what earlier runs have written to the file of `--resume`, or None without one."""
    if resume is None:
        return None
    if any(source.is_stream for source in sources.images):
        raise CommandError("--resume cannot go on with standard input or a pipe: name files or folders")
    return Previous.read(resume)


def _stream(options: argparse.Namespace) -> contextlib.AbstractContextManager[TextIO]:
    return open_appending(options.resume) if options.resume else open_output(options.output)


def _writer(options: argparse.Namespace, stream: TextIO, sources: Sources, url: str) -> Writer:
    if options.format == JSON:
        return JsonWriter(stream)
    if options.format == JSON_LINES:
        return JsonLinesWriter(stream)
    if options.format == CSV:
        return CsvWriter(stream)
    names = [source.name for source in sources.images]
    return ManyTableWriter(stream, names) if len(names) > 1 else OneTableWriter(stream, url)
