"""`fer-client health`: does the server answer?"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Final

from fer_client._errors import AuthenticationError, FerClientError, TlsError
from fer_client.command.options import Subcommands, add_command, seconds
from fer_client.command.settings import add_settings, read_connection
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import one_line

if TYPE_CHECKING:
    from fer_client import FerClient

_PAUSE_S: Final = 0.5

_DESCRIPTION: Final = """\
Check that the server really answers: a plain gray picture is sent through the whole model,
since a server can call itself ready while every request fails.
"""

_EXAMPLES: Final = """\
  fer-client health                                    exit code 0 when it answers
  fer-client health --wait 60 && fer-client predict photos
  fer-client health --json --url grpc://triton.example:8001
"""


def add_health_command(commands: Subcommands) -> None:
    """Add `health` to the commands."""
    parser = add_command(
        commands,
        "health",
        summary="check that the server really answers",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("--wait", metavar="SECONDS", type=seconds, help="keep trying for so long until it answers")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines for people")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Ask once, or until there is an answer; returns the exit code."""
    with read_connection(options).open() as client:
        request_ms = _wait(client, options.wait or 0.0)
        url, version, labels = client.url, client.model_version, client.labels
    if options.json:
        document = {"healthy": True, "url": url, "request_ms": round(request_ms, 1)}
        document |= {"model_version": version, "labels": list(labels)}
        sys.stdout.write(f"{json.dumps(document, indent=2)}\n")
        return ExitCode.OK
    sys.stdout.write(f"healthy: {url} answered in {request_ms:.0f} ms\n")
    sys.stdout.write(f"model    {one_line(version)}\nlabels   {one_line(', '.join(labels))}\n")
    return ExitCode.OK


def _wait(client: FerClient, wait_s: float) -> float:
    """Ask until there is an answer or the time is over; returns how long the answer took, in milliseconds."""
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
