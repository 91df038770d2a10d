"""How to reach the server: each setting comes from a flag, the environment, a file or a default, in this order.

One table, SETTINGS, makes the flags, the names of the variables and of the keys of the file, and the help. A token is
never taken from the command line, where every user of the machine can read it, and never printed.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from fer_client._config import PROTOCOLS, Protocol
from fer_client.command.config_file import CONFIG_VARIABLE, HEADERS, TOKEN, ConfigFile
from fer_client.command.options import say, seconds, user_path
from fer_commands.messages import closest, did_you_mean, printable
from fer_commands.running import CommandError

if TYPE_CHECKING:
    from fer_client import FerClient

TOKEN_VARIABLE: Final = "FER_TOKEN"  # noqa: S105 - the variable's name


@dataclass(frozen=True)
class Setting:
    """One setting of the connection: a flag, a variable and a key of the configuration file.

    Attributes:
        key: Name in the file and in the parsed options.
        metavar: What stands for the value in the help.
        read: Makes a value of the text; raises ArgumentTypeError with what was expected.
        help: For people; the variable is added.
        is_path: Whether the value is a path; a relative one in the file starts at the file's folder.
    """

    key: str
    metavar: str
    read: Callable[[str], Any]
    help: str
    is_path: bool = False

    @property
    def flag(self) -> str:
        """As typed: `--ca-cert`."""
        return f"--{self.key.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """Of the environment: `FER_CA_CERT`."""
        return f"FER_{self.key.upper()}"


def _url(text: str) -> str:
    if "@" in text:  # The message does not repeat it.
        raise argparse.ArgumentTypeError("a URL with a user or a password in it is not accepted: see --token-file")
    return text


def _choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}{did_you_mean(text, choices)}")
        return text

    return read


def _retries(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 to 999")
    return int(text)


def _readable_file(text: str) -> Path:
    path = user_path(text)
    try:
        with path.open("rb"):
            return path
    except (OSError, ValueError) as error:  # ValueError: a null character, which a TOML file can have.
        reason = getattr(error, "strerror", None) or error
        raise argparse.ArgumentTypeError(f"cannot read {printable(path)}: {reason}") from error


_protocol: Final = _choice(*PROTOCOLS)
_compression: Final = _choice("gzip", "deflate")

SETTINGS: Final = (
    Setting(
        "url",
        "URL",
        _url,
        "HOST[:PORT], optionally prefixed with http://, https://, grpc:// or grpcs:// (default: localhost; the port is "
        "8000 by default, 8001 for gRPC, 443 with TLS)",
    ),
    Setting("protocol", "|".join(PROTOCOLS), _protocol, "the protocol (default: the URL's, else http)"),
    Setting("timeout", "SECONDS", seconds, "how long one attempt at a request may take (default: 30)"),
    Setting("deadline", "SECONDS", seconds, "how long all attempts at a request may take together (default: no limit)"),
    Setting("retries", "N", _retries, "how often to try again where the server is busy or unreachable (default: 3)"),
    Setting("token_file", "FILE", _readable_file, "send the token in this file, as `Authorization: Bearer`", True),
    Setting(
        "ca_cert",
        "FILE",
        _readable_file,
        "trust the certificate authorities in this PEM file instead of the system's",
        True,
    ),
    Setting("client_cert", "FILE", _readable_file, "PEM file of this client's own certificate", True),
    Setting(
        "client_key",
        "FILE",
        _readable_file,
        "PEM file of its private key, unless the file of --client-cert holds it",
        True,
    ),
    Setting("tls_server_name", "NAME", str, "name in the server's certificate, if it is not the URL's host"),
    Setting("compression", "gzip|deflate", _compression, "compress requests; photos hardly get smaller"),
)

_LONGEST_TOKEN: Final = 65_536
"""Bytes of a token file that are read: more than servers accept, and a limit for devices that have no end."""
_TLS_KEYS: Final = ("ca_cert", "client_cert", "client_key", "tls_server_name")
"""Keys of the settings of TLS, in the order of the attributes of `Tls`."""
_GRPC_URL: Final = Setting("grpc_url", "URL", _url, "")
_KNOWN_KEYS: Final = (*(setting.key for setting in SETTINGS), _GRPC_URL.key, TOKEN, HEADERS)

PRECEDENCE: Final = f"""\
settings:
  What a command lists under "server" can also be set by the environment variable in brackets, or
  in a TOML file under its name, with _ for -. The command line takes precedence over the
  environment, the environment over the file, and the file over the defaults.

  The file is --config FILE, else ${CONFIG_VARIABLE}, else fer-client/config.toml in $XDG_CONFIG_HOME
  (~/.config):

    url = "https://triton.example:8443"
    timeout = 10
    token_file = "token"        # relative to this file
    [headers]
    X-Tenant = "blue"

  ${_GRPC_URL.variable}, or grpc_url in the file, is the same server over gRPC. It is used where the
  protocol is grpc, unless the URL comes from a place that takes precedence.

  A token is not taken from the command line: every user of the machine sees it there, and the
  shell's history keeps it. It can be in ${TOKEN_VARIABLE}, in --token-file, or under `token` in a file
  of settings that nobody else can read. It is never printed. Token and headers of a file that
  names a server are sent to that server only.
"""


class _Rank(IntEnum):
    """Where a value comes from; the smaller takes precedence."""

    FLAG = 0
    ENVIRONMENT = 1
    FILE = 2
    DEFAULT = 3


@dataclass(frozen=True)
class _Found:
    value: Any
    rank: _Rank
    origin: str
    """For people."""


@dataclass(frozen=True)
class Connection:
    """How to reach the server. `repr` leaves the secrets out.

    Attributes:
        url: URL of the server.
        protocol: `http` or `grpc`; None leaves it to the URL.
        origin: Where the URL comes from, for people.
        grpc_url: URL of the same server over gRPC; None where it is not known.
        arguments: The other arguments of `FerClient` that are set.
    """

    url: str
    protocol: Protocol | None
    origin: str
    grpc_url: str | None
    arguments: Mapping[str, Any] = field(repr=False)

    def open(self, **changes: Any) -> FerClient:
        """Make a client for the connection.

        Args:
            **changes: Arguments of `FerClient` that replace those of the connection.

        Raises:
            CommandError: The settings contradict each other.
        """
        from fer_client import FerClient  # Not at the top: completion and --help do not need it.

        try:
            return FerClient(**{"url": self.url, "protocol": self.protocol, **self.arguments, **changes})
        except ValueError as error:
            raise CommandError(f"{error} (the URL is from {self.origin})") from error


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes to reach the server."""
    server = parser.add_argument_group("server", "each can be set in the environment or in a file: fer-client --help")
    for setting in SETTINGS:
        text = f"{setting.help} [${setting.variable}]"
        server.add_argument(setting.flag, metavar=setting.metavar, type=setting.read, help=text)
    server.add_argument(
        "--header",
        metavar="NAME:VALUE",
        type=_header,
        action="append",
        default=[],
        help="send this header too; can be repeated; secret headers belong in the file, under [headers]",
    )
    server.add_argument("--config", metavar="FILE", type=Path, help=f"TOML file of settings [${CONFIG_VARIABLE}]")
    server.add_argument("--token", action=_RefuseToken, help=argparse.SUPPRESS)
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")


def read_connection(
    options: argparse.Namespace, environment: Mapping[str, str] = os.environ, *, preferred: Protocol | None = None
) -> Connection:
    """Combine what the command line, the environment and the file say.

    Args:
        options: Parsed with the options of `add_settings`.
        environment: Variables; one that is empty counts as not set.
        preferred: Protocol to use where nothing names one.

    Raises:
        CommandError: The file or a variable has a value that cannot be used; the message names it.
    """
    environment = {name: value for name, value in environment.items() if value}
    _warn_of_misspelt(environment)
    file = ConfigFile.find(options.config, environment, _KNOWN_KEYS)
    found = {setting.key: _find(setting, options, environment, file) for setting in SETTINGS}
    grpc_url = _find(_GRPC_URL, argparse.Namespace(), environment, file)
    url, protocol = _agree(found["url"], found["protocol"], grpc_url, preferred)
    is_files_server = _is_files_server(url, file)
    arguments = {
        "timeout_s": found["timeout"].value,
        "deadline_s": found["deadline"].value,
        "retries": found["retries"].value,
        "tls": _tls(found, url),
        "headers": (_headers(file) if is_files_server else {}) | dict(options.header),
        "token": _token(found["token_file"], environment, file, is_files_server=is_files_server),
        "compression": found["compression"].value,
    }
    return Connection(
        url=url.value or "localhost",
        protocol=protocol,
        origin=url.origin,
        grpc_url=grpc_url.value if grpc_url.rank <= url.rank else None,  # Else it is of another server.
        arguments={name: value for name, value in arguments.items() if value is not None},
    )


def _warn_of_misspelt(environment: Mapping[str, str]) -> None:
    """Warn of variables whose names are nearly those of settings. They may be another program's: it is no error."""
    known = (*(setting.variable for setting in SETTINGS), _GRPC_URL.variable, TOKEN_VARIABLE, CONFIG_VARIABLE)
    for name in sorted(environment):
        is_candidate = name not in known and name.upper().startswith("FER")
        if is_candidate and (meant := closest(name, known, alike=0.85, by_beginning=False)):
            say(f"${printable(name)} is not a setting: did you mean ${meant}?")


def _find(setting: Setting, options: argparse.Namespace, environment: Mapping[str, str], file: ConfigFile) -> _Found:
    """Return the value of a setting from the first place that has one."""
    if (given := getattr(options, setting.key, None)) is not None:
        return _Found(given, _Rank.FLAG, setting.flag)
    places = (
        (_Rank.ENVIRONMENT, environment.get(setting.variable), f"${setting.variable}"),
        (_Rank.FILE, file.text(setting.key, is_path=setting.is_path), file.origin(setting.key)),
    )
    for rank, text, origin in places:
        if text is not None:
            try:
                return _Found(setting.read(text), rank, origin)
            except argparse.ArgumentTypeError as error:
                raise CommandError(f"{origin}: {error}") from error
    return _Found(None, _Rank.DEFAULT, "the defaults")


def _agree(
    url: _Found, protocol: _Found, grpc_url: _Found, preferred: Protocol | None
) -> tuple[_Found, Protocol | None]:
    """Return URL and protocol to use. Where they come from different places, the one that takes precedence decides."""
    names_protocol = "://" in str(url.value)
    if names_protocol and url.rank < protocol.rank < _Rank.DEFAULT:
        return url, None
    wanted = protocol.value or preferred
    if wanted == "grpc" and grpc_url.value is not None and grpc_url.rank <= url.rank:
        return grpc_url, "grpc"
    return url, protocol.value if names_protocol else wanted


def _tls(found: Mapping[str, _Found], url: _Found) -> Any:
    """Return `Tls`, or None if nothing is set. A plain http:// URL overrules what places below it in precedence say."""
    from fer_client import Tls  # Not at the top: completion and --help do not need it.

    is_plain = re.match("(http|grpc)://", str(url.value)) is not None
    values = [None if is_plain and found[key].rank > url.rank else found[key].value for key in _TLS_KEYS]
    return Tls(*values) if any(value is not None for value in values) else None


def _is_files_server(url: _Found, file: ConfigFile) -> bool:
    """Return whether the file is meant for this server: its secrets go to the server that it names, and to no other."""
    urls = [file.text(key) for key in ("url", _GRPC_URL.key)]
    return url.rank >= _Rank.FILE or not any(urls) or url.value in urls


def _token(
    token_file: _Found, environment: Mapping[str, str], file: ConfigFile, *, is_files_server: bool
) -> str | None:
    """Return the token from the place that takes precedence."""
    if TOKEN_VARIABLE in environment and token_file.rank == _Rank.ENVIRONMENT:
        raise CommandError(f"both ${TOKEN_VARIABLE} and {token_file.origin} are set: unset one of them")
    if TOKEN_VARIABLE in environment and token_file.rank > _Rank.ENVIRONMENT:
        return _checked_token(environment[TOKEN_VARIABLE], f"${TOKEN_VARIABLE}")
    if token_file.rank == _Rank.FILE and not is_files_server:
        return None
    if token_file.value is not None:
        with token_file.value.open("rb") as stream:
            return _checked_token(stream.read(_LONGEST_TOKEN).decode("latin-1"), printable(token_file.value))
    text = file.text(TOKEN) if is_files_server else None
    return None if text is None else _checked_token(text, file.origin(TOKEN))


def _checked_token(text: str, origin: str) -> str:
    """Return a token as it can be sent. The message of an error does not repeat it."""
    token = text.strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise CommandError(f"{origin} holds no token: expected one line of ASCII characters without spaces")
    return token


def _header(text: str) -> tuple[str, str]:
    """Parse `NAME:VALUE`. The message of an error does not repeat it: without its colon it may all be secret."""
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise argparse.ArgumentTypeError("expected NAME:VALUE")
    return name.strip(), value.strip()


def _headers(file: ConfigFile) -> dict[str, str]:
    headers = file.document.get(HEADERS, {})
    if wrong := [name for name, value in headers.items() if not isinstance(value, str)]:
        raise CommandError(f"{file.origin(HEADERS)}: {wrong[0]}: expected a string")
    return dict(headers)


class _RefuseToken(argparse.Action):
    """Refuses `--token VALUE`, which many would try first, without repeating the value."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:  # noqa: ARG002 - argparse's
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs="?", **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        parser.error(
            "argument --token: a token on the command line can be read by every user of this machine: put it into a "
            f"file and use --token-file FILE, or set ${TOKEN_VARIABLE}"
        )
