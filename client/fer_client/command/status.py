"""`fer-client health`: does the server answer? `fer-client info`: what does it serve?"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Final

from fer_client._errors import AuthenticationError, FerClientError, TlsError
from fer_client.command.connection import add_settings, read_connection
from fer_client.command.options import Subcommands, add_command, seconds
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import one_line

if TYPE_CHECKING:
    from fer_client import FerClient, ServerInfo

_PAUSE_S: Final = 0.5

_HEALTH_DESCRIPTION: Final = """\
Check that the server really answers: a plain gray picture is sent through the whole model,
since a server can call itself ready while every request fails.
"""
_HEALTH_EXAMPLES: Final = """\
  fer-client health                                    exit code 0 when it answers
  fer-client health --wait 60 && fer-client predict photos
  fer-client health --json --url grpc://triton.example:8001
"""
_INFO_DESCRIPTION: Final = """\
Show what the server is and what it serves: versions, models, the expressions that it tells
apart, and the largest picture that it accepts.
"""
_INFO_EXAMPLES: Final = """\
  fer-client info
  fer-client info --json | jq -r .model_version
"""


def add_health_command(commands: Subcommands) -> None:
    """Add `health` to the commands."""
    parser = add_command(
        commands,
        "health",
        summary="check that the server really answers",
        description=_HEALTH_DESCRIPTION,
        examples=_HEALTH_EXAMPLES,
        run=run_health,
    )
    parser.add_argument("--wait", metavar="SECONDS", type=seconds, help="keep trying for this long until it answers")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines for people")
    add_settings(parser)


def add_info_command(commands: Subcommands) -> None:
    """Add `info` to the commands."""
    parser = add_command(
        commands,
        "info",
        summary="show models, versions, labels and limits of the server",
        description=_INFO_DESCRIPTION,
        examples=_INFO_EXAMPLES,
        run=run_info,
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines for people")
    add_settings(parser)


def run_health(options: argparse.Namespace) -> int:
    """Ask once, or until there is an answer, and return the exit code."""
    with read_connection(options).open() as client:
        request_ms = _wait_for_answer(client, options.wait or 0.0)
        url, version, labels = client.url, client.model_version, client.labels
    if options.json:
        document = {"healthy": True, "url": url, "request_ms": round(request_ms, 1)}
        document |= {"model_version": version, "labels": list(labels)}
        sys.stdout.write(f"{json.dumps(document, indent=2)}\n")
        return ExitCode.OK
    sys.stdout.write(f"healthy: {url} answered in {request_ms:.0f} ms\n")
    sys.stdout.write(f"model    {one_line(version)}\nlabels   {one_line(', '.join(labels))}\n")
    return ExitCode.OK


def run_info(options: argparse.Namespace) -> int:
    """Ask the server what it is, print it, and return the exit code."""
    connection = read_connection(options)
    with connection.open() as client:
        server = client.describe()
    if options.json:
        sys.stdout.write(f"{json.dumps(server.to_dict(), indent=2)}\n")
        return ExitCode.OK
    for name, value in format_info(server, connection.origin):
        sys.stdout.write(f"{name:<16}{one_line(value)}\n")
    return ExitCode.OK


def _wait_for_answer(client: FerClient, wait_s: float) -> float:
    """Ask until there is an answer or the time is over; return how long the answer took, in milliseconds."""
    end_s = time.monotonic() + wait_s
    while True:
        try:
            _ = client.labels  # Connects and learns the model, so that the time below is the request's alone.
            start_s = time.perf_counter()
            client.check_health()
            return 1000 * (time.perf_counter() - start_s)
        except (AuthenticationError, TlsError):  # Waiting does not help.
            raise
        except FerClientError:
            if time.monotonic() + _PAUSE_S >= end_s:
                raise
            time.sleep(_PAUSE_S)


def format_info(server: ServerInfo, origin: str) -> list[tuple[str, str]]:
    """Return names and values to print, in the order in which they are read.

    Args:
        server: What the server says of itself.
        origin: Where the URL comes from, for people.
    """
    threshold = server.uncertain_below
    return [
        ("server", f"{server.url} (from {origin})"),
        ("software", f"{server.name} {server.version}"),
        ("model version", server.model_version),
        ("labels", ", ".join(server.labels)),
        ("uncertain", f"below a probability of {threshold:g}" if threshold else "never: the server names no threshold"),
        ("quality", ", ".join(server.quality_columns) or "not measured"),
        *(("" if index else "bounds", str(bound)) for index, bound in enumerate(server.quality_bounds)),
        ("largest picture", f"{_mebibytes(server.max_image_bytes)}, {_megapixels(server.max_image_pixels)}"),
        *(
            (
                "models" if index == 0 else "",
                f"{model.name:<24}{'ready' if model.ready else 'NOT READY':<11}"
                f"{'version ' + ', '.join(model.versions) if model.versions else 'missing'}",
            )
            for index, model in enumerate(server.models)
        ),
        ("extensions", ", ".join(server.extensions) or "none"),
    ]


def _mebibytes(count: int | None) -> str:
    return "size not reported" if count is None else f"{count / 2**20:g} MiB"


def _megapixels(count: int | None) -> str:
    return "pixels not reported" if count is None else f"{count / 1e6:g} megapixels"
