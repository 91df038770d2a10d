"""`fer-web`."""

from __future__ import annotations

from typing import Final

from fer_commands.scripts import Script, Subcommand

WEB: Final = Script(
    name="fer-web",
    description="A page and a REST service in front of a running model server.",
    subcommands={
        "run": Subcommand("serve until interrupted", "fer_web.run"),
        "openapi": Subcommand("print the OpenAPI document of the service", "fer_web.run_openapi"),
    },
    extra="web",
    default="run",
)

main = WEB.main
