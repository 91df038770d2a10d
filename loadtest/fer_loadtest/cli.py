"""`fer-loadtest`."""

from __future__ import annotations

from typing import Final

from fer_commands.scripts import Script, Subcommand

LOADTEST: Final = Script(
    name="fer-loadtest",
    description="Load a server with pictures, check every answer, and write a report.",
    subcommands={
        "run": Subcommand("load the server and write a report", "fer_loadtest.run"),
        "capacity": Subcommand("find the highest rate that holds an objective", "fer_loadtest.capacity"),
        "compare": Subcommand("compare two reports", "fer_loadtest.compare"),
    },
    extra="loadtest",
    default="run",
)

main = LOADTEST.main
