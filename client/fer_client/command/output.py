"""Where results go: standard output, or a file that appears complete."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from fer_client._errors import FerClientError
from fer_client.command.sources import EXTENSIONS
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
    """What results are written as: what a flag says, else the ending of the file's name, else a table.

    Args:
        flag: As typed: `--csv`, `--json`, `--jsonl` or `--resume`, which writes JSON lines; None where there is none.
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
    """A stream for results.

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
    """A stream that adds to a file, line by line.

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
