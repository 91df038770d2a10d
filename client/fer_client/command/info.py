"""`fer-client info`: what does the server serve?"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from fer_client.command.options import Subcommands, add_command
from fer_client.command.settings import add_settings, read_connection
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import one_line

if TYPE_CHECKING:
    from fer_client._server import ServerInfo

_DESCRIPTION: Final = """\
Show what the server is and what it serves: versions, models, the expressions that it tells
apart, and the largest picture that it accepts.
"""

_EXAMPLES: Final = """\
  fer-client info
  fer-client info --json | jq -r .model_version
"""


def add_info_command(commands: Subcommands) -> None:
    """Add `info` to the commands."""
    parser = add_command(
        commands,
        "info",
        summary="show models, versions, labels and limits of the server",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines for people")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Ask and show; returns the exit code."""
    connection = read_connection(options)
    with connection.open() as client:
        server = client.describe()
    if options.json:
        sys.stdout.write(f"{json.dumps(server.to_dict(), indent=2)}\n")
        return ExitCode.OK
    for name, value in _lines(server, connection.origin):
        sys.stdout.write(f"{name:<16}{one_line(value)}\n")
    return ExitCode.OK


def _lines(server: ServerInfo, origin: str) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are read."""
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
