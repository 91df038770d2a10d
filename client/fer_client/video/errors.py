"""The error of a video that cannot be read or written, and the check for the packages that this needs."""

from __future__ import annotations

import importlib.util
from typing import Final

from fer_commands.running import CommandError

_NEEDED: Final = {
    "av": "reading video needs PyAV: pip install 'fer-triton[video]'",
    "PIL": "reading and drawing video needs Pillow: pip install 'fer-triton[video]'",
    "matplotlib": "plotting needs matplotlib: pip install 'fer-triton[video]'",
}
"""Name under which Python imports a package -> message if it is not installed."""


class VideoError(CommandError):
    """A video cannot be read or written. The message says what was expected, what came, and how to go on."""


def require(package: str) -> None:
    """Make sure that a package of the extra `video` is installed, without loading it.

    Args:
        package: The name under which it is imported: `av`, `PIL` or `matplotlib`.

    Raises:
        VideoError: It is not installed. The message has the command that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise VideoError(_NEEDED[package])
