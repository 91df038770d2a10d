"""What keeps a video from being read or written, a missing package among it."""

from __future__ import annotations

import importlib.util
from typing import Final

from fer_commands.running import CommandError

_NEEDED: Final = {
    "av": "reading video needs PyAV: pip install av",
    "PIL": "reading and drawing video needs Pillow: pip install pillow",
    "matplotlib": "plotting needs matplotlib: pip install matplotlib",
}
"""By the name under which Python imports it."""


class VideoError(CommandError):
    """One line for the user: what was expected, what came, how to go on."""


def require(package: str) -> None:
    """Find out whether a package of the extra `video` is installed, without loading it.

    Args:
        package: The name under which it is imported: `av`, `PIL` or `matplotlib`.

    Raises:
        VideoError: It is not installed. The message has the command that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise VideoError(_NEEDED[package])
