"""What is refused instead of decoded, and why. Used by `fer_images` and the readers of each format."""

from dataclasses import dataclass
from typing import Final

ACCEPTED: Final = "Accepted are JPEG, PNG, WebP and BMP files"
REFUSALS: Final = ("empty", "too_many_bytes", "not_an_image", "too_many_pixels", "too_many_scans", "corrupt")
"""The reasons that there are, one word each, for counters."""
_MAX_PIXELS: Final = 178_956_970
"""Above this Pillow, to which the fast decoders' leftovers go, refuses. Source: twice PIL.Image.MAX_IMAGE_PIXELS."""


class ImageRefusedError(ValueError):
    """The bytes cannot be used as an image. The message says what was wrong and what is accepted.

    Attributes:
        reason: One of `REFUSALS`.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Make one with a `reason` for programs and a `message` for people."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before it is decoded. Both are settings of the model `fer_preprocess`."""

    max_bytes: int = 20 * 1024 * 1024
    """Largest encoded file."""
    max_pixels: int = 50_000_000
    """Largest width x height. 50 megapixels decode to 150 MB of BGR."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {self.max_bytes}")
        if not 1 <= self.max_pixels <= _MAX_PIXELS:
            raise ValueError(f"max_pixels must be 1..{_MAX_PIXELS}, not {self.max_pixels}")


def unreadable() -> ImageRefusedError:
    """Describe bytes of no accepted format, and for those that end or break before they say how large the image is."""
    return ImageRefusedError(
        "not_an_image", f"the bytes are not an image that can be read, or only the start of one. {ACCEPTED}."
    )


def unsupported(what: str, remedy: str = ACCEPTED) -> ImageRefusedError:
    """Describe an image of another format, or of a rare kind of an accepted one.

    Args:
        what: A noun with its article, as in "a GIF file".
        remedy: A sentence without its full stop.
    """
    return ImageRefusedError("not_an_image", f"the bytes are {what}, which is not accepted. {remedy}.")


def corrupt(name: str, width: int, height: int, reason: str) -> ImageRefusedError:
    """Describe an image of which pixels are missing or wrong.

    Args:
        name: Of the format, as people call it.
        width: In px, as stored.
        height: In px, as stored.
        reason: What was found, a clause.
    """
    return ImageRefusedError(
        "corrupt",
        f"the {name} file of {width}x{height} px is truncated or corrupt: {reason}. Send a whole copy of it.",
    )
