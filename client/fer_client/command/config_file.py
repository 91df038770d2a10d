"""The configuration file of `fer-client`: it is found, read, and refused if others can read the secrets in it."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fer_client.command.options import user_path
from fer_commands.messages import closest, one_line, printable
from fer_commands.running import CommandError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_VARIABLE: Final = "FER_CONFIG"

TOKEN: Final = "token"  # noqa: S105 - a key's name
HEADERS: Final = "headers"

_SECRET_HEADER: Final = re.compile("authorization|cookie|key|secret|token", re.IGNORECASE)


@dataclass(frozen=True)
class ConfigFile:
    """What the configuration file says.

    Attributes:
        path: The file; None if there is none.
        document: Its content. `repr` leaves it out, because there may be a token in it.
    """

    path: Path | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def find(cls, flag: Path | None, environment: Mapping[str, str], known: Collection[str]) -> ConfigFile:
        """Read the file that is named, else the user's own, else none.

        Args:
            flag: Value of `--config`.
            environment: Variables, none of them empty.
            known: Keys that the file may have.

        Raises:
            CommandError: A file that is named is missing, or the file cannot be used.
        """
        for named, origin in ((flag, "--config"), (environment.get(CONFIG_VARIABLE), f"${CONFIG_VARIABLE}")):
            if named is not None:
                path = user_path(os.fspath(named))
                if not path.is_file():
                    raise CommandError(f"{origin}: there is no file {printable(named)}")
                return cls.read(path, known)
        folder = user_path(environment.get("XDG_CONFIG_HOME", "~/.config"))
        path = folder / "fer-client" / "config.toml"
        return cls.read(path, known) if path.is_file() else cls()

    @classmethod
    def read(cls, path: Path, known: Collection[str]) -> ConfigFile:
        """Read a file. The messages of errors never repeat what is in it beyond the names of keys.

        Raises:
            CommandError: It cannot be read, is not TOML, has an unknown key, or has secrets that others can read.
        """
        name = printable(path)
        try:
            document = tomllib.loads(path.read_bytes().decode())
        except OSError as error:
            raise CommandError(f"cannot read {name}: {error.strerror}") from error
        except ValueError as error:  # Of TOML or of UTF-8.
            place = re.search(r"line \d+", str(error))
            raise CommandError(f"{name} is not a valid TOML file{f': see {place[0]}' if place else ''}") from error
        if unknown := [key for key in document if key not in known]:
            listed = ", ".join(_with_hint(key, known) for key in unknown)
            raise CommandError(f"{name}: unknown {listed}; known are {', '.join(known)}")
        if not isinstance(document.get(HEADERS, {}), dict):
            raise CommandError(f"{name}: {HEADERS}: expected a table of names and values")
        if _holds_secrets(document) and os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise CommandError(
                f"{name} holds a secret that other users of this machine can read: chmod 600 it, or put the token into "
                "a file of its own and set token_file to its name"
            )
        return cls(path, document)

    def text(self, key: str, *, is_path: bool = False) -> str | None:
        """Return a value as text, or None where the file does not have the key.

        Args:
            key: Name of the value.
            is_path: Whether the value names a file; a relative one starts at the folder of the configuration file.

        Raises:
            CommandError: It is neither a string nor a number.
        """
        value = self.document.get(key)
        if value is None or self.path is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise CommandError(f"{self.origin(key)}: expected a string or a number")
        return os.fspath(self.path.parent / user_path(str(value))) if is_path else str(value)

    def origin(self, key: str) -> str:
        """Say where a value comes from, for people."""
        return f"{printable(self.path or '')}: {key}"


def _with_hint(key: str, known: Collection[str]) -> str:
    """Return a key that is not known, with the one that was probably meant."""
    meant = closest(key, known)
    return one_line(key) + (f" (did you mean {meant}?)" if meant else "")


def _holds_secrets(document: Mapping[str, Any]) -> bool:
    return TOKEN in document or any(_SECRET_HEADER.search(name) for name in document.get(HEADERS, {}))
