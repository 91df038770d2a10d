"""Goes on where a file of JSON lines ends, whatever ended it: Ctrl-C, a server that went away, a power cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fer_client.command.records import REFUSED
from fer_commands.messages import printable
from fer_commands.running import CommandError

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
