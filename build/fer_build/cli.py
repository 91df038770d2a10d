"""`fer-serve`."""

from __future__ import annotations

from typing import Final

from fer_commands.scripts import Script, Subcommand

SERVE: Final = Script(
    name="fer-serve",
    description="Serve the model repository with NVIDIA Triton on this machine.",
    subcommands={"run": Subcommand("serve until interrupted, or while a command runs", "fer_build.serve")},
    extra="serve",
    default="run",
)

serve = SERVE.main
