"""`python -m fer_bench`."""

import sys
from typing import Final

from fer_commands.scripts import Script, Subcommand

BENCH: Final = Script(
    name="python -m fer_bench",
    description="Measure the server: each benchmark compares within one run, in turns, and prints a Markdown table.",
    subcommands={
        "all": Subcommand("every table of the documents, into a file and the documents", "fer_bench.everything"),
        "ceiling": Subcommand("the server beside the same functions without a server", "fer_bench.ceiling"),
        "checkouts": Subcommand("the servers of two checkouts", "fer_bench.checkouts"),
        "client": Subcommand("the client beside a bare loop of tritonclient", "fer_bench.client"),
        "detection": Subcommand("what searching for faces costs and finds, by their size", "fer_bench.detection"),
        "frameworks": Subcommand("FastAPI, LitServe, BentoML, MLServer and Ray Serve", "fer_bench.frameworks"),
        "runtimes": Subcommand("which runtime and precision classify the most faces", "fer_bench.runtimes"),
        "stages": Subcommand("where the time of a request goes", "fer_bench.stages"),
        "tune": Subcommand("instance counts and queue delay, with a proposal", "fer_bench.tune"),
        "video": Subcommand("what a frame of video costs the client", "fer_bench.video"),
    },
    extra="build",
)

if __name__ == "__main__":
    sys.exit(BENCH.main())
