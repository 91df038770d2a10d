"""Sees where a video is cut, so that no face is followed from one scene into the next.

Importing this module needs Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

_THUMBNAIL_PX: Final = (64, 36)
_COLOR_BINS: Final = 8
"""Of each of the three channels."""

_LEAST_ALIKE: Final = 0.6
_MOST_RECOLORED: Final = 0.21
"""Over parts of photos: cuts from one to another, of the same photo or not, correlate by at most 0.56 and recolour 0.23
or more. Pans by a fifth of the picture correlate as little but recolour at most 0.20; lights that go out, fades and
flashes recolour more but correlate by 0.9."""


class SceneCuts:
    """Compares each frame with the one before: a cut changes both what is where, and the colours."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._layout: NDArray[np.float32] | None = None
        self._colors: NDArray[np.float64] | None = None

    def starts_scene(self, picture: Image.Image) -> bool:
        """Whether a cut lies between this frame and the one before.

        Args:
            picture: RGB; the size may change.
        """
        # Whole factors first: in half the time, and as good for this.
        thumbnail = picture.resize(_THUMBNAIL_PX, Image.Resampling.BOX, reducing_gap=1.0)
        gray = np.asarray(thumbnail.convert("L"), np.float32)
        layout = gray - gray.mean()
        bins = (np.asarray(thumbnail).reshape(-1, 3) // (256 // _COLOR_BINS)) @ (_COLOR_BINS**2, _COLOR_BINS, 1)
        colors = np.bincount(bins, minlength=_COLOR_BINS**3) / gray.size
        last_layout, last_colors = self._layout, self._colors
        self._layout, self._colors = layout, colors
        if last_layout is None or last_colors is None:
            return False
        # One gray level of noise on each side keeps a plain picture from correlating at random.
        norm = np.sqrt((np.square(layout).sum() + layout.size) * (np.square(last_layout).sum() + layout.size))
        alike = float((layout * last_layout).sum() / norm)
        recolored = 1 - float(np.minimum(colors, last_colors).sum())
        return alike < _LEAST_ALIKE and recolored > _MOST_RECOLORED
