"""`python -m fer_sizing`."""

import sys
from typing import Final

from fer_commands.scripts import Script, Subcommand

SIZING: Final = Script(
    name="python -m fer_sizing",
    description="How many servers a load needs, and what the chart's autoscaling makes of a day: docker/SIZING.md.",
    subcommands={
        "measure": Subcommand("what an image costs a CPU server", "fer_sizing.measure"),
        "simulate": Subcommand("a day and a rollout with the chart's own thresholds", "fer_sizing.simulate"),
        "table": Subcommand("the figures of SIZING.md", "fer_sizing.table"),
    },
    extra="sizing",
)

if __name__ == "__main__":
    sys.exit(SIZING.main())
