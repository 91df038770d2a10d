"""Sees where a video is cut, so that no face is followed from one scene into the next."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_THUMBNAIL_PX: Final = (64, 36)
_COLOR_BINS: Final = 8

_LEAST_ALIKE: Final = 0.6
_MOST_RECOLORED: Final = 0.21
"""Over parts of photos: cuts from one to another, of the same photo or not, correlate by at most 0.56 and recolour 0.23
or more. Pans by a fifth of the picture correlate as little but recolour at most 0.20; lights that go out, fades and
flashes recolour more but correlate by 0.9."""


class SceneCuts:
    """Compares each frame with the one before: a cut changes both what is where, and the colours."""

    def __init__(self, cv2: ModuleType) -> None:
        """Start before the first frame. `cv2` is OpenCV."""
        self._cv2 = cv2
        self._layout: NDArray[np.float32] | None = None
        self._colors: NDArray[np.float32] | None = None

    def starts_scene(self, picture: NDArray[np.uint8]) -> bool:
        """Whether a cut lies between this frame and the one before.

        Args:
            picture: (height, width, 3), BGR; the size may change.
        """
        cv2 = self._cv2
        thumbnail = cv2.resize(picture, _THUMBNAIL_PX, interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(thumbnail, cv2.COLOR_BGR2GRAY).astype(np.float32)
        layout = gray - gray.mean()
        colors = cv2.calcHist([thumbnail], [0, 1, 2], None, [_COLOR_BINS] * 3, [0, 256] * 3) / gray.size
        last_layout, last_colors = self._layout, self._colors
        self._layout, self._colors = layout, colors
        if last_layout is None or last_colors is None:
            return False
        # One gray level of noise on each side keeps a plain picture from correlating at random.
        norm = np.sqrt((np.square(layout).sum() + layout.size) * (np.square(last_layout).sum() + layout.size))
        alike = float((layout * last_layout).sum() / norm)
        recolored = 1 - float(np.minimum(colors, last_colors).sum())
        return alike < _LEAST_ALIKE and recolored > _MOST_RECOLORED
