"""Which pictures a command line names: files, folders, patterns, standard input. Nothing is read from the network."""

from __future__ import annotations

import glob
import itertools
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final

from fer_client.command.ending import CommandError, printable

STDIN: Final = "-"

EXTENSIONS: Final = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib")
"""What is taken out of a folder: the formats that the server accepts, under their usual names."""
_OTHER_PICTURES: Final = (".avif", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".tif", ".tiff")
"""Pictures that the server does not accept. They are left where they are, and said to be."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|.*;base64,)")


@dataclass(frozen=True)
class Source:
    """One picture that was asked for.

    Attributes:
        name: As people and records call it: its path, or `-`.
        relative: Where it lies within what was named, so that outputs can be laid out alike.
        problem: Why it cannot be read, or empty.
        is_stream: Whether it can be read only once: standard input, or a pipe.
    """

    name: str
    relative: PurePath
    problem: str = ""
    is_stream: bool = False


@dataclass
class Sources:
    """All that a command line names, in its order, each once.

    Attributes:
        images: The pictures, and what could not be found or read in their place.
        left_out: How many files of folders are pictures in a format that is not accepted, by extension.
    """

    images: list[Source] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def expand(arguments: Sequence[str], outputs: Path | None = None) -> Sources:
    """Find the pictures that arguments name.

    A folder gives the pictures in it and below, by name, without hidden ones. A pattern, quoted to keep it from the
    shell, gives the files that it matches, `**` through folders. `-` is standard input.

    Args:
        arguments: Paths as the user wrote them.
        outputs: A folder that the command writes pictures to. Inside a folder that is searched it is passed over.

    Raises:
        CommandError: An argument is a URL or empty, or standard input is a terminal.
    """
    sources = Sources()
    for argument in arguments:
        path = Path(argument)
        if not argument:  # As a path it would be the current folder, and an unset variable would send all of it.
            raise CommandError("a PATH is empty: name a picture, or . for all pictures in this folder")
        if _URL.match(argument) and not path.exists():
            raise CommandError(
                f"{printable(argument[:60])} is a URL, and nothing is fetched: download it first, or pipe it in: "
                "curl -fsSL URL | fer-client predict -"
            )
        if argument == STDIN:
            _add_stdin(sources)
        elif glob.has_magic(argument) and not path.exists():
            _add_pattern(sources, argument)
        elif path.is_dir():
            _add_folder(sources, path, outputs)
        else:
            _add_file(sources, path, PurePath(path.name))
    sources.images = list({source.name: source for source in sources.images}.values())
    return sources


def read_stream(source: Source) -> bytes:
    """The picture that comes through a pipe."""
    return sys.stdin.buffer.read() if source.name == STDIN else Path(source.name).read_bytes()


def _add_stdin(sources: Sources) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError("- reads a picture from standard input, and there is none: pipe or redirect a file into it")
    sources.images.append(Source(STDIN, PurePath("stdin"), is_stream=True))


def _add_pattern(sources: Sources, pattern: str) -> None:
    """Add the files that a pattern matches, laid out as from its first part with a wildcard on."""
    fixed = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    files = [Path(match) for match in sorted(glob.glob(pattern, recursive=True)) if not Path(match).is_dir()]  # noqa: PTH207 - Path.glob takes no absolute pattern
    for file in files:
        _add_file(sources, file, file.relative_to(fixed))
    if not files:
        sources.images.append(Source(pattern, PurePath(), "no file matches this pattern"))


def _add_folder(sources: Sources, folder: Path, outputs: Path | None) -> None:
    """Add the pictures in a folder and below it. Links to folders are not followed: they can lead in circles."""
    found, left_out = len(sources.images), Counter[str]()

    def add_problem(error: OSError) -> None:
        sources.images.append(Source(str(error.filename), PurePath(), error.strerror or str(error)))

    for parent, subfolders, names in os.walk(folder, onerror=add_problem):
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and not _is_same(Path(parent, name), outputs)
        )
        for name in sorted(names):
            file, extension = Path(parent, name), Path(name).suffix.lower()
            if extension in EXTENSIONS and not name.startswith("."):
                _add_file(sources, file, file.relative_to(folder))
            elif extension in _OTHER_PICTURES:
                left_out[extension] += 1
    sources.left_out.update(left_out)
    if len(sources.images) == found:
        others = f"; {format_left_out(left_out)}" if left_out else ""
        problem = f"there is no picture in this folder (looked for {', '.join(EXTENSIONS)}{others})"
        sources.images.append(Source(str(folder), PurePath(), problem))


def format_left_out(left_out: Counter[str]) -> str:
    """What was left out of folders, for people: `3 .gif, 1 .heic left out`."""
    return f"{', '.join(f'{count} {extension}' for extension, count in sorted(left_out.items()))} left out"


def _is_same(folder: Path, other: Path | None) -> bool:
    return other is not None and other.is_dir() and folder.samefile(other)


def _add_file(sources: Sources, file: Path, relative: PurePath) -> None:
    """Add a file, or why it is none that can be read. Pipes can: shells make them of `<(command)`."""
    mode = 0
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character in the name.
        problem = getattr(error, "strerror", None) or str(error)
    else:
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            problem = "it is neither a file nor a folder"
        else:
            problem = "" if os.access(file, os.R_OK) else "Permission denied"
    sources.images.append(Source(str(file), relative, problem, stat.S_ISFIFO(mode)))
