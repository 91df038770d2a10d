"""The command `fer-serve`: its subcommands, and the module behind each."""

from typing import Final

from fer_commands.scripts import Script, Subcommand

SCRIPT: Final = Script(
    name="fer-serve",
    description=(
        "Serve the expression model with the real Triton on this machine. For development, demos, CI and CPUs behind\n"
        "a gateway; on GPUs, NVIDIA's image serves the same repository."
    ),
    subcommands={
        "run": Subcommand("serve until interrupted, or while a command runs", "fer_serve.run"),
        "probe": Subcommand("check with real inferences that a server works", "fer_serve.probe"),
        "soak": Subcommand("send many requests, and check that the server's memory does not grow", "fer_serve.soak"),
    },
    extra="serve",
    default="run",
    examples=(
        "  fer-serve                                            # 8000 HTTP, 8001 gRPC, 8002 metrics\n"
        "  fer-serve --free-ports -- fer-client predict a.jpg   # while a command runs, which finds FER_URL"
    ),
)

main = SCRIPT.main
