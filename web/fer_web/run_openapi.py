"""`fer-web openapi`: the OpenAPI document, for generators of clients."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_web.openapi import describe_service
from fer_web.settings import Limits


def main(arguments: Sequence[str]) -> int:
    """Run the command. Returns its exit code."""
    parser = subcommand_parser(
        "fer-web openapi",
        description="Print the OpenAPI 3.1 document of the service, as it answers at /openapi.json.",
        examples="  fer-web openapi > openapi.json",
        exit_codes=(ExitCode.OK, ExitCode.USAGE, ExitCode.DEFECT),
    )
    options = parser.parse_args(arguments)
    return run_command("fer-web openapi", _write, debug=options.debug)


def _write() -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(describe_service(Limits().max_images))).decode() + "\n")
