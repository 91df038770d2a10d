"""Where results go: standard output, a file that appears complete, or JSON lines that a later run goes on with."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from fer_client._errors import FerClientError
from fer_client.command.image_paths import EXTENSIONS
from fer_client.command.records import REFUSED
from fer_commands.messages import printable
from fer_commands.running import CommandError

TABLE: Final = "table"
CSV: Final = "csv"
JSON: Final = "json"
JSON_LINES: Final = "jsonl"

FORMATS: Final = {".csv": CSV, ".json": JSON, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".txt": TABLE}
"""The format of a file of results, by the ending of its name. Another ending says nothing, and .txt does not contradict
whatever else is wanted."""

_NAMES: Final = {CSV: "CSV", JSON: "one JSON document", JSON_LINES: "JSON lines"}


def choose_format(flag: str | None, file: Path | None) -> str:
    """Choose the format of results: the flag's, else the one that the file's name ends in, else a table.

    Args:
        flag: What was typed: `--csv`, `--json`, `--jsonl` or `--resume`, which writes JSON lines; None if nothing.
        file: The file, or None for standard output.

    Returns:
        TABLE, CSV, JSON or JSON_LINES.

    Raises:
        CommandError: The two contradict each other, or the name is that of a picture.
    """
    extension = file.suffix.lower() if file else ""
    wanted = (JSON_LINES if flag == "--resume" else flag.removeprefix("--")) if flag else None
    named = FORMATS.get(extension)
    if file and extension in EXTENSIONS:
        raise CommandError(
            f"cannot write results to {printable(file)}: that is the name of a picture; results go to .csv, .json, "
            ".jsonl or .txt, and --annotate writes pictures"
        )
    if file and wanted and named not in (None, TABLE, wanted):
        leave_out = "" if flag == "--resume" else f"leave {flag} out, or "
        raise CommandError(
            f"{flag} writes {_NAMES[wanted]}, and a name that ends in {extension} says {_NAMES[named or wanted]}: "
            f"{leave_out}name the file {printable(file.with_suffix(f'.{wanted}'))}"
        )
    return wanted or named or TABLE


def check_output_file(path: Path) -> None:
    """Find out before any work what would keep a file from being written.

    Raises:
        CommandError: It is a folder, or its folder is missing or takes no file.
    """
    name, folder = printable(path), path.parent
    if os.path.isdir(path):  # noqa: PTH112 - unlike Path.is_dir, it takes every name
        raise CommandError(f"cannot write {name}: it is a folder")
    if not os.path.isdir(folder):  # noqa: PTH112
        raise CommandError(f"cannot write {name}: there is no folder {printable(folder)}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise CommandError(f"cannot write {name}: Permission denied")


@contextlib.contextmanager
def open_output(path: Path | None) -> Iterator[TextIO]:
    """Open a stream for results.

    A file grows as FILE.part and gets its name when the block is left, for whatever reason, so that what was there
    before stays until there is something better. A pipe or a device is written to directly.

    Args:
        path: None is standard output.

    Raises:
        CommandError: It cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    with _writing(path):
        target = path.resolve()  # A link keeps pointing where it does.
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
                yield stream
            return
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
                yield stream
        finally:
            if part.exists():
                part.replace(target)


@contextlib.contextmanager
def open_appending(path: Path) -> Iterator[TextIO]:
    """Open a stream that adds to a file, line by line.

    Raises:
        CommandError: It cannot be written.
    """
    with _writing(path), path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        yield stream


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (BrokenPipeError, FerClientError):  # An image that cannot be read is an OSError too, and another matter.
        raise
    except OSError as error:
        raise CommandError(f"cannot write {printable(path)}: {error.strerror or error}") from error


_START: Final = b'{"image": '
"""What every line of ours starts with."""


@dataclass
class Previous:
    """What earlier runs have written.

    Attributes:
        path: The file of JSON lines; it need not exist yet.
        settled: Names of the images that have a result or were refused; the others get another chance.
        lines: Their lines, each with its end.
        is_ragged: Whether the file has anything else: a line cut off at the end, or images to try again.
        model_versions: Versions of the network that the results are from.
        has_crops: Whether there are results of `--cropped`.
        has_photos: Whether there are others.
    """

    path: Path
    settled: set[str] = field(default_factory=set)
    lines: list[bytes] = field(default_factory=list)
    is_ragged: bool = False
    model_versions: set[str] = field(default_factory=set)
    has_crops: bool = False
    has_photos: bool = False

    @classmethod
    def read(cls, path: Path) -> Previous:
        """Read the file, if there is one. It is left as it is.

        Raises:
            CommandError: It cannot be read, or is something else than a file of this command.
        """
        previous = cls(path)
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise CommandError(f"cannot read {printable(path)}: {error.strerror}") from error
        *lines, torn = content.split(b"\n")
        torn = torn.rstrip(b"\0")  # After a power cut, a file system may have kept the length and not the bytes.
        if not (torn.startswith(_START) or _START.startswith(torn)):
            raise previous._foreign(len(lines) + 1)
        previous.is_ragged = not content.endswith(b"\n") and bool(content)
        for number, line in enumerate(lines, start=1):
            previous._add(number, line)
        return previous

    def check(self, model_version: str, *, cropped: bool) -> None:
        """Make sure that what follows is of the same kind.

        Raises:
            CommandError: The server has another network now, or the results are of the other kind of image.
        """
        name = printable(self.path)
        if others := self.model_versions - {model_version}:
            raise CommandError(
                f"{name} has results of the model {', '.join(sorted(others))} and the server now has {model_version}: "
                "use another file, so that the two do not mix"
            )
        if self.has_photos if cropped else self.has_crops:
            there, here = ("without", "with") if cropped else ("with", "without")
            raise CommandError(f"{name} was made {there} --cropped and this run is {here} it: use another file")

    def tidy(self) -> None:
        """Leave only whole lines of settled images in the file, in one step."""
        if not self.is_ragged:
            return
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            part.write_bytes(b"".join(self.lines))
            part.replace(self.path)
        except OSError as error:
            raise CommandError(f"cannot write {printable(self.path)}: {error.strerror}") from error

    def _add(self, number: int, line: bytes) -> None:
        """Take in one line."""
        try:
            record = json.loads(line)
            name, kind = str(record["image"]), record["error"]["kind"] if "error" in record else ""
        except (ValueError, LookupError, TypeError) as error:
            raise self._foreign(number) from error
        if not (kind or "probabilities" in record or "faces" in record):
            raise self._foreign(number)
        if kind not in ("", REFUSED) or name in self.settled:
            self.is_ragged = True
            return
        self.settled.add(name)
        self.lines.append(line + b"\n")
        if not kind:
            self._note_result(record)

    def _note_result(self, record: dict[str, Any]) -> None:
        self.model_versions.add(str(record.get("model_version")))
        self.has_photos |= "faces" in record
        self.has_crops |= "faces" not in record

    def _foreign(self, number: int) -> CommandError:
        return CommandError(
            f"{printable(self.path)} is not a file of results to go on with: line {number} is not what "
            "`fer-client predict --jsonl` writes; nothing was changed"
        )
