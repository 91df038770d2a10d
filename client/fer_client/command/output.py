"""Where results go: standard output, or a file that appears complete."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fer_client._errors import FerClientError
from fer_client.command.ending import CommandError, printable


def check_output_file(path: Path) -> None:
    """Find out before any work what would keep a file from being written.

    Raises:
        CommandError: It is a folder, or its folder is missing or takes no file.
    """
    name, folder = printable(path), path.parent
    if path.is_dir():
        raise CommandError(f"cannot write {name}: it is a folder")
    if not folder.is_dir():
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
            with target.open("w", encoding="utf-8", newline="") as stream:
                yield stream
            return
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("w", encoding="utf-8", newline="") as stream:
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
    with _writing(path), path.open("a", encoding="utf-8", newline="") as stream:
        yield stream


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (BrokenPipeError, FerClientError):  # An image that cannot be read is an OSError too, and another matter.
        raise
    except OSError as error:
        raise CommandError(f"cannot write {printable(path)}: {error.strerror or error}") from error
