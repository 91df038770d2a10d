"""Which pictures a command line names: files, folders, patterns, standard input. Nothing is read from the network."""

from __future__ import annotations

import glob
import itertools
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final

from fer_commands.messages import one_line, printable
from fer_commands.running import CommandError

STDIN: Final = "-"

EXTENSIONS: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo", ".jps"),
    *(".png", ".apng", ".webp", ".bmp", ".dib"),
)
"""What is taken out of a folder: the formats that the server accepts, under the names that people and programs give
them. The server goes by what is in a file, never by its name."""

_BESIDE_PICTURES: Final = frozenset(
    {
        *(".csv", ".json", ".jsonl", ".log", ".md", ".ndjson", ".txt", ".xml", ".yaml", ".yml"),
        *(".aae", ".db", ".ini", ".part", ".pp3", ".xmp"),
    }
)
"""What lies beside pictures and is none: notes, edits and data about them, results of this command, leftovers of other
systems. Nobody misses them, so they are not counted as left out."""

_FOLDER_ICON: Final = "Icon\r"
"""What macOS puts into a folder that has an icon of its own."""

_PLAIN_EXTENSION: Final = re.compile(r"\.(?=\d*[a-z])[a-z0-9]{1,10}")
_KNOWN_EXTENSION: Final = re.compile(rf"({'|'.join(map(re.escape, EXTENSIONS))})(?![a-z0-9])(?!~$)")

_MOST_NAMED: Final = 6
"""Extensions that the line about what was left out names; the others are counted together."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|.*;base64,)")


@dataclass(frozen=True)
class Source:
    """One picture that was asked for.

    Attributes:
        name: What people and records call it: its path, or `-`.
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
        left_out: How many files of folders were passed over because of their name, by extension in lower case; the
            empty string stands for names without one. Hidden files are not counted, nor what lies beside pictures.
        linked_folders: How many links to folders were met in folders; they are not followed.
    """

    images: list[Source] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    linked_folders: int = 0


def expand(arguments: Sequence[str], outputs: Sequence[Path] = (), *, take_all: bool = False) -> Sources:
    """Find the pictures that arguments name.

    A folder gives the pictures in it and below, by name, without hidden ones. A pattern, quoted to keep it from the
    shell, gives the files that it matches, `**` through folders. `-` is standard input. Pipes, sockets and devices are
    read where they are named themselves, never out of a folder, where reading one could wait for ever.

    Args:
        arguments: Paths as the user wrote them.
        outputs: Files and folders that the command writes. Inside a folder that is searched they are passed over.
        take_all: Take every file of a folder that is not hidden, whatever its name.

    Raises:
        CommandError: An argument is a URL or empty, or standard input is a terminal.
    """
    sources, passed_over = Sources(), _PassedOver()
    for argument in arguments:
        path = Path(argument)
        if not argument:  # As a path it would be the current folder, and an unset variable would send all of it.
            raise CommandError("a PATH is empty: name a picture, or . for all pictures in this folder")
        status = _status(path)
        if _URL.match(argument) and status is None:
            raise CommandError(
                f"{printable(argument[:60])} is a URL, and nothing is fetched: download it first, or pipe it in: "
                "curl -fsSL URL | fer-client predict -"
            )
        if argument == STDIN:
            _add_stdin(sources.images)
        elif glob.has_magic(argument) and status is None:
            _add_pattern(sources.images, argument)
        elif status is not None and stat.S_ISDIR(status.st_mode):
            passed_over.add(_Folder(sources.images, path, outputs, take_all=take_all).search())
        else:
            _add_file(sources.images, path, PurePath(path.name))
    sources.images = list({source.name: source for source in sources.images}.values())
    named = {source.name for source in sources.images} | {str(Path(argument)) for argument in arguments}
    passed_over.tell(sources, named)
    return sources


def read_stream(source: Source) -> bytes:
    """Return the content of a picture that comes through a pipe."""
    return sys.stdin.buffer.read() if source.name == STDIN else Path(source.name).read_bytes()


def format_left_out(sources: Sources) -> str:
    """Say what was passed over in folders: `12 files left out: 9 .heic, 3 without an ending; --all tries them`.

    Empty where nothing was.
    """
    parts = []
    if count := sources.left_out.total():
        kinds = sorted(sources.left_out.items(), key=lambda item: (-item[1], item[0]))
        named = [f"{number} {one_line(extension) or 'without an ending'}" for extension, number in kinds[:_MOST_NAMED]]
        if rest := sum(number for _, number in kinds[_MOST_NAMED:]):
            named.append(f"{rest} with other endings")
        them = "it" if count == 1 else "them"
        parts.append(f"{count} file{'s' * (count != 1)} left out: {', '.join(named)}; --all tries {them}")
    if links := sources.linked_folders:
        them = "it" if links == 1 else "them"
        parts.append(f"{links} linked folder{'s' * (links != 1)} not searched: name {them} to have {them} searched")
    return "; ".join(parts)


def extension_of(name: str) -> str:
    """Return the ending of a file's name in lower case, or an empty string where it has none.

    Where something else follows the ending, the ending is found all the same: that of `photo.jpg:large`,
    `photo.jpg?v=2` and `photo.jpg.1` is `.jpg`. A date or a sentence after the last dot is no ending.
    """
    name = name.lower()
    last, before_query = PurePath(name).suffix, name.partition("?")[0]
    if before_query != name and (known := _KNOWN_EXTENSION.search(before_query)):
        return known[1]
    if _PLAIN_EXTENSION.fullmatch(last):
        return last
    if known := _KNOWN_EXTENSION.search(name):
        return known[1]
    return last if _PLAIN_EXTENSION.fullmatch(last.rstrip("~")) else ""


@dataclass
class _PassedOver:
    """Files of folders that are not taken, with their extensions, and links to folders that are not followed."""

    files: dict[str, str] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)

    def add(self, other: _PassedOver) -> None:
        """Take in what was passed over in another folder, each path once."""
        self.files.update(other.files)
        self.links.update(other.links)

    def tell(self, sources: Sources, named: Collection[str] = ()) -> None:
        """Count what was passed over and is not named itself."""
        sources.left_out = Counter(extension for name, extension in self.files.items() if name not in named)
        sources.linked_folders = len(self.links.difference(named))


class _Folder:
    """Adds the pictures in a folder and below it to others."""

    def __init__(self, images: list[Source], folder: Path, outputs: Sequence[Path], *, take_all: bool) -> None:
        self._images = images
        self._folder = folder
        self._passed_over = _PassedOver()
        self._outputs = [status for output in outputs if (status := _status(output)) is not None]
        self._take_all = take_all

    def search(self) -> _PassedOver:
        """Add the pictures, or why there are none, and return what was passed over."""
        before = len(self._images)
        for entry in _walk(self._folder, self._is_searched, self._add_problem):
            self._add_entry(entry)
        if len(self._images) == before:
            self._images.append(Source(str(self._folder), PurePath(), self._why_empty()))
        return self._passed_over

    def _why_empty(self) -> str:
        passed_over = Sources()
        self._passed_over.tell(passed_over)
        what = "file" if self._take_all else "picture"
        looked_for = "" if self._take_all else f" (looked for {', '.join(EXTENSIONS)})"
        left_out = f"; {text}" if (text := format_left_out(passed_over)) else ""
        return f"there is no {what} in this folder{looked_for}{left_out}"

    def _add_entry(self, entry: os.DirEntry[str]) -> None:
        file, extension = Path(entry.path), extension_of(entry.name)
        if entry.name.startswith(".") or entry.name == _FOLDER_ICON or self._is_output(entry):
            return
        if extension in EXTENSIONS or self._take_all:
            if not _is_special(entry):
                _add_file(self._images, file, file.relative_to(self._folder))
        elif extension not in _BESIDE_PICTURES and not _is_special(entry):
            self._passed_over.files[str(file)] = extension

    def _is_searched(self, entry: os.DirEntry[str]) -> bool:
        """Return whether a folder inside is searched too. Links to folders are not: they can lead in circles."""
        if entry.name.startswith(".") or self._is_output(entry):
            return False
        if entry.is_symlink():
            self._passed_over.links.add(str(Path(entry.path)))
        return not entry.is_symlink()

    def _is_output(self, entry: os.DirEntry[str]) -> bool:
        try:
            return any(os.path.samestat(entry.stat(), output) for output in self._outputs)
        except OSError:
            return False

    def _add_problem(self, folder: str, error: OSError) -> None:
        self._images.append(Source(str(Path(folder)), PurePath(), error.strerror or str(error)))


def _walk(
    folder: Path, is_searched: Callable[[os.DirEntry[str]], bool], on_error: Callable[[str, OSError], None]
) -> Iterator[os.DirEntry[str]]:
    """Yield the files in a folder and below it, by name, however deep: `os.walk` has a limit."""
    waiting = [os.fspath(folder)]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(parent) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            on_error(parent, error)
            continue
        subfolders = [entry for entry in entries if _is_folder(entry)]
        yield from (entry for entry in entries if not _is_folder(entry))
        waiting += [entry.path for entry in reversed(subfolders) if is_searched(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link in a circle.
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Return whether this is a pipe, a socket or a device; False where nobody can tell, so that reading says why."""
    try:
        mode = entry.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode)


def _add_stdin(images: list[Source]) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError("- reads a picture from standard input, and there is none: pipe or redirect a file into it")
    images.append(Source(STDIN, PurePath("stdin"), is_stream=True))


def _add_pattern(images: list[Source], pattern: str) -> None:
    """Add the files that a pattern matches, laid out as from its first part with a wildcard on."""
    fixed = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    files = [Path(match) for match in sorted(_matches(pattern)) if _may_be_a_picture(match)]
    for file in files:
        _add_file(images, file, file.relative_to(fixed))
    if not files:
        images.append(Source(pattern, PurePath(), "no file matches this pattern"))


def _matches(pattern: str) -> set[str]:
    """Return all that a pattern matches. `**` does not go through links to folders: they can lead in circles."""
    before, stars, after = _split_at_stars(pattern)
    if not stars:
        return set(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern
    found: set[str] = set()
    folders = [Path(match) for match in glob.glob(before)] if before else [Path()]  # noqa: PTH207
    for top in folders:
        for folder in (top, *_folders_below(top)):
            found |= _matches(os.path.join(glob.escape(os.fspath(folder)), after or "*"))  # noqa: PTH118
    return {str(Path(match)) for match in found}


def _split_at_stars(pattern: str) -> tuple[str, bool, str]:
    """Return what stands before the first part `**` of a pattern, whether there is one, and what stands after it."""
    parts = re.split(r"(?:^|(?<=/))\*\*(?:/+|$)", pattern, maxsplit=1)
    return parts[0], len(parts) == 2, parts[-1]


def _folders_below(top: Path) -> Iterator[Path]:
    """Yield the folders below another one, without hidden ones and links."""
    waiting = [os.fspath(top)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as scan:
                inside = [entry for entry in scan if not entry.name.startswith(".")]
        except OSError:
            continue
        folders = [entry.path for entry in inside if _is_folder(entry) and not entry.is_symlink()]
        waiting += folders
        yield from map(Path, folders)


def _may_be_a_picture(match: str) -> bool:
    """Return whether a match is a file, or a link to nowhere, which will be reported."""
    status = _status(Path(match))
    return status is None or stat.S_ISREG(status.st_mode)


def _status(path: Path) -> os.stat_result | None:
    """Return what the system knows about a path, or None. Unlike `Path.exists`, it takes every name."""
    try:
        return path.stat()
    except (OSError, ValueError):  # ValueError: a null character in the name.
        return None


def _add_file(images: list[Source], file: Path, relative: PurePath) -> None:
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
    images.append(Source(str(file), relative, problem, stat.S_ISFIFO(mode)))
