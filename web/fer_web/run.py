"""`fer-web run`: the page and the service, on loopback unless told otherwise, until Ctrl-C.

fer-web                                            # http://127.0.0.1:8080, the model server at FER_URL or localhost
fer-serve --free-ports -- fer-web                  # both at once: `make web` does this
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fer_client import AsyncFerClient
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import say
from fer_commands.parser import subcommand_parser
from fer_commands.running import CommandError, run_command
from fer_web.app import make_app
from fer_web.server import Listener, run
from fer_web.settings import MIB, Limits, Settings, Tokens

_DESCRIPTION: Final = """\
Serve a page and a REST service in front of a running model server. What comes back is the
apparent expression, as an annotator would label the picture. It is not what a person feels.
No picture is stored or logged.

It binds to loopback unless --host says otherwise. For other machines, give --token-file and TLS
(--tls-cert, --tls-key), here or in what stands before it.
"""

_EXAMPLES: Final = """\
  fer-web --url http://localhost:8000
  fer-web --host 0.0.0.0 --token-file tokens.txt --tls-cert tls.crt --tls-key tls.key
  curl -F image=@photo.jpg http://127.0.0.1:8080/v1/faces"""

_SIZES: Final = {"image": "a picture", "request": "a request", "buffered": "all requests that are under way"}
"""Of what the limits in MiB are."""


def main(arguments: Sequence[str]) -> int:
    """Run the command. Returns its exit code."""
    options = _parser().parse_args(arguments)
    return run_command("fer-web", lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> int:
    limits = read_limits(options)
    tokens = None if options.token_file is None else Tokens.read(options.token_file)
    listener = Listener(options.host, options.port, options.tls_cert, options.tls_key, tuple(options.trust_proxy))
    if (listener.tls_cert is None) != (listener.tls_key is None):
        raise CommandError("--tls-cert and --tls-key belong together: give both or none")
    if tokens is None and not _is_loopback(options.host):
        say("fer-web", f"everyone who reaches {options.host} may use it: --token-file asks for a token")
    try:
        AsyncFerClient(options.url)
    except ValueError as error:
        raise CommandError(f"--url: {error}") from error
    settings = Settings(options.url, limits, tokens, tuple(map(_origin, options.cors_origin)))
    try:
        run(make_app(settings), listener, limits)
    except KeyboardInterrupt:
        say("fer-web", "stopped")
    return ExitCode.OK


def read_limits(options: argparse.Namespace) -> Limits:
    """Return the limits that the options set.

    Raises:
        CommandError: One of them makes no sense.
    """
    values = {field.name: getattr(options, field.name) for field in fields(Limits) if hasattr(options, field.name)}
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise CommandError(f"--{name.replace('_', '-')}: expected more than 0, found {value:g}")
    for name in _SIZES:
        mib = getattr(options, f"max_{name}_mib")
        if not 0 < mib < math.inf:
            raise CommandError(f"--max-{name}-mib: expected more than 0, found {mib:g}")
        values[f"max_{name}_bytes"] = int(mib * MIB)
    return Limits(**values)


def _parser() -> argparse.ArgumentParser:
    parser = subcommand_parser(
        "fer-web",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.DEFECT),
    )
    _add_listener(parser.add_argument_group("how it is reached"))
    _add_model_server(parser.add_argument_group("the model server"))
    _add_limits(parser.add_argument_group("limits"))
    return parser


def _add_listener(group: argparse._ArgumentGroup) -> None:
    add, default = group.add_argument, Listener()
    add("--host", default=default.host, help="address to listen at (default: %(default)s)")
    add("--port", type=_port, default=default.port, help="port to listen at; 0 takes a free one (default: %(default)s)")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate chain in PEM: the service speaks HTTPS then")
    add("--tls-key", type=Path, metavar="FILE", help="its key in PEM")
    add("--token-file", type=Path, metavar="FILE", help="tokens that clients need, one a line; read at the start")
    repeated: dict[str, Any] = {"action": "append", "default": []}
    add("--cors-origin", metavar="ORIGIN", help="let pages of this origin use it; may be repeated", **repeated)
    add("--trust-proxy", metavar="IP", help="take X-Forwarded-For from this proxy; may be repeated", **repeated)


def _add_model_server(group: argparse._ArgumentGroup) -> None:
    url = os.environ.get("FER_URL", "localhost")
    group.add_argument("--url", default=url, help="where it is (default: FER_URL, or localhost)")
    _add_number(group, "concurrency", int, "pictures that are with it at the same time")
    _add_number(group, "inference-timeout-s", float, "how long it may take for a picture")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    words = "pictures a second of one client (default: no limit)"
    group.add_argument("--images-per-s", type=float, metavar="N", help=words)
    _add_number(group, "max-images", int, "pictures in a request")
    _add_number(group, "max-requests", int, "requests with pictures at the same time")
    for name, what in _SIZES.items():
        default = getattr(Limits(), f"max_{name}_bytes") / MIB
        words = f"MiB of {what} (default: %(default)g)"
        group.add_argument(f"--max-{name}-mib", type=float, default=default, metavar="N", help=words)
    _add_number(group, "wait-s", float, "how long a picture waits for its turn")
    _add_number(group, "body-timeout-s", float, "how long a request may take to arrive")


def _add_number(group: argparse._ArgumentGroup, name: str, kind: type, what: str) -> None:
    """Add an option for the field of `Limits` of the same name."""
    default = getattr(Limits(), name.replace("-", "_"))
    words = f"{what} (default: %(default)g)"
    group.add_argument(f"--{name}", type=kind, default=default, metavar="S" if name.endswith("-s") else "N", help=words)


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, found {text!r}")
    return port


def _origin(text: str) -> str:
    """Return an origin as browsers write it. Raises CommandError where it is something else."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or text != f"{parts.scheme}://{parts.netloc}":
        raise CommandError(f"--cors-origin: expected https://HOST[:PORT] without a path, found {text!r}")
    return text.lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
