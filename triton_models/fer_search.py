"""How a picture is searched for faces: at what sizes it is shown to a network, and what of its answers is believed.

Called by the model `fer_preprocess`, through `fer_faces`.

1. The whole picture at 320 px. That finds what is close to the camera, and is all that a portrait costs.
2. Where that shows no face or only small ones, and the picture has more px: the whole picture again, larger.
3. What one of them is not sure of is cut out of the picture and looked at alone. A face comes back when it is looked at
   closely; a pattern that only looked like one does not.

The figures behind the numbers here are in bench/README.md, with the command that measures them.
"""

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_detector import Detections, Network
from fer_scaling import halve, scale_to

Picture = npt.NDArray[np.uint8]
"""uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""

SMALLEST_SIDE_PX: Final = 32
"""A look at less shows nothing."""
_FEW: Final = 1.3
"""A second look has this many times the width of the first, or is none."""
_CANDIDATES: Final = 64
"""As many as are looked at closely, the best ones: twice the faces that are answered."""
_CLOSE_SIDE_PX: Final = 160
"""Width and height of a close look."""
_CLOSE_ZOOMS: Final = (2.8, 2.2)
"""What close looks show: a square of this many times the longer side of the box, turned so that the face is upright.
The second is taken only where the first leaves doubts; then their mean counts."""
_CLEAR: Final = (0.3, 0.85)
"""Scores of the first close look below and above which there is no doubt."""
_FILLING: Final = 0.3
"""A box whose longer side is this part of the picture's fills it: a close look would show hardly more than the first.
None of 1,000 busy pictures has a pattern of more than a quarter of it that is taken for a face."""
_FILLING_SURE: Final = 0.65
"""From this score on, what fills the picture is a face without a close look."""
_FILLING_LIKELY: Final = (0.5, 0.2)
"""From the first score on it is one if close looks show a face with the second one. So 3,503 of the 3,589 faces of
FER2013's PublicTest, enlarged to portraits, are found (`fer-train head-model`), and 3,404 otherwise."""
_LIKELY: Final = 0.5
"""From this score on, what the whole picture showed counts as a further look."""
_LIKELY_BONUS: Final = 0.14
"""The mean of three looks may be so much lower than that of two."""
_DARK: Final = 70
"""A picture whose mean is below this is made lighter."""
_MOST_LIGHT: Final = 10.0
"""By this factor at most: after that there is nothing but noise."""
_WEAK: Final = 0.2
"""What a close look is asked for: the mean of several needs weak answers too."""
_SAME: Final = 0.3
"""Boxes that overlap more, as intersection over union, are of the same face."""


@dataclass(frozen=True)
class SearchSettings:
    """What can be chosen in the configuration of fer_preprocess (config.pbtxt, configs/cpu.pbtxt)."""

    side_px: int = 320
    """The first look's longest side."""
    second_look_px: int = 1_600_000
    """The second look's width times height; 0 for none. More find smaller faces, in a time that grows with it."""
    small_face_px: int = 20
    """Faces whose box is smaller than this in the first look, in both directions, are small."""
    min_score: float = 0.8
    """A face of which the search is not sure must have this mean score when it is looked at closely. 0..1."""
    sure_score: float = 0.8
    """A face that has this score is not looked at closely. 0..1."""
    candidate_score: float = 0.3
    """What has this score in the first look may be a face. 0..1."""
    second_candidate_score: float = 0.15
    """The same in the second look."""

    def __post_init__(self) -> None:
        if self.side_px < SMALLEST_SIDE_PX or self.second_look_px < 0 or self.small_face_px < 0:
            raise ValueError(
                f"side_px must be at least {SMALLEST_SIDE_PX}, second_look_px and small_face_px at least 0: "
                f"{self.side_px}, {self.second_look_px}, {self.small_face_px}"
            )
        for name in ("min_score", "sure_score", "candidate_score", "second_candidate_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0..1, not {getattr(self, name)}")


class FaceSearch:
    """Search of pictures for faces. One object serves one thread at a time."""

    def __init__(self, network: Network, settings: SearchSettings = SearchSettings()) -> None:
        """Search with `network`, which finds faces in pixels."""
        self._network = network
        self._settings = settings

    def detect(self, image: Picture) -> Detections:
        """Find the faces in `image`: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""
        height, width = image.shape[:2]
        ratio = min(1.0, self._settings.side_px / max(height, width))
        faces = self._confirm(image, self._look(image, ratio, self._settings.candidate_score))
        second = min(1.0, math.sqrt(self._settings.second_look_px / (height * width)))
        if second < _FEW * ratio or self._is_close(faces, ratio):
            return faces
        more = self._look(image, second, self._settings.second_candidate_score)
        return faces.joined(self._confirm(image, more.without(faces, _SAME)))

    def _is_close(self, faces: Detections, ratio: float) -> bool:
        """Tell whether a face is so large that others, if there are any, will not be much smaller."""
        return bool((faces.sides.max(axis=1) * ratio >= self._settings.small_face_px).any())

    def _look(self, image: Picture, ratio: float, min_score: float) -> Detections:
        """Look at the whole of `image` at `ratio` of its size."""
        height, width = image.shape[:2]
        size = max(1, round(width * ratio)), max(1, round(height * ratio))
        found = self._look_in_its_light(scale_to(image, *size), min_score)
        return found.scaled(np.array([width / size[0], height / size[1]], np.float32))

    def _look_in_its_light(self, pixels: Picture, min_score: float) -> Detections:
        """Look at `pixels` as they are and, if they are dark, made lighter: best score first.

        A dark picture may be a dark face, or a well-lit one in front of black, which more light would burn out.
        """
        found = self._network.look(pixels, min_score)
        light = lighten(pixels)
        if light is pixels:
            return found
        either = found.joined(self._network.look(light, min_score))
        best = Detections.none()
        for index in np.argsort(-either.scores, kind="stable"):
            best = best.joined(either.picked(index[np.newaxis]).without(best, _SAME))
        return best

    def _confirm(self, image: Picture, found: Detections) -> Detections:
        """Return those of `found` that are sure, or that a close look shows: with finer landmarks then."""
        sure = (found.scores >= self._settings.sure_score) | (fills(image, found) & (found.scores >= _FILLING_SURE))
        if sure.all():
            return found
        kept = found.picked(np.flatnonzero(sure))
        for index in np.flatnonzero(~sure)[:_CANDIDATES]:
            face = self._look_closely(image, found.picked(index[np.newaxis]))
            kept = kept.joined(face.without(kept, _SAME))
        return kept

    def _look_closely(self, image: Picture, candidate: Detections) -> Detections:
        """Return the one `candidate` as it is seen in a picture of it alone; none if it is not seen."""
        face = self._cut_out(image, candidate, _CLOSE_ZOOMS[0])
        likely, shown = _FILLING_LIKELY
        if fills(image, candidate)[0] and candidate.scores[0] >= likely and (face.scores >= shown).any():
            return candidate
        if not len(face.scores) or face.scores[0] < _CLEAR[0]:
            return Detections.none()
        if face.scores[0] >= _CLEAR[1]:
            return face
        other = self._cut_out(image, candidate, _CLOSE_ZOOMS[1])
        scores = [float(face.scores[0]), *other.scores.tolist()] + [0.0] * (1 - len(other.scores))
        least = self._settings.min_score
        if candidate.scores[0] >= _LIKELY and np.mean(scores) < least:
            scores.append(float(candidate.scores[0]))
            least -= _LIKELY_BONUS
        if np.mean(scores) < least:
            return Detections.none()
        return Detections(face.boxes, face.landmarks, np.array([np.mean(scores)], np.float32))

    def _cut_out(self, image: Picture, candidate: Detections, zoom: float) -> Detections:
        """Return the best face that a close look shows where the one `candidate` is, if any."""
        box = candidate.boxes[0]
        side = zoom * max(float(candidate.sides.max()), 1.0)
        angle = roll(candidate.landmarks[0])
        view, to_view = upright_square(image, (box[:2] + box[2:]) / 2, side, angle, _CLOSE_SIDE_PX)
        found = self._look_in_its_light(view, _WEAK).turned(np.linalg.inv(to_view))
        same = np.flatnonzero(found.overlaps(box) > _SAME)
        return found.picked(same[:1])  # the best score is first


def fills(image: Picture, found: Detections) -> npt.NDArray[np.bool_]:
    """Return which of `found`, bool, (N,), take up so much of `image` that a close look would show hardly more."""
    return np.asarray(found.sides.max(axis=1, initial=0) >= _FILLING * max(image.shape[:2]))


def lighten(pixels: Picture) -> Picture:
    """Make a dark picture as light as most are: the network has seen few dark ones."""
    light = cv2.mean(pixels.reshape(len(pixels), -1))[0]  # as one channel, a sixth of the time that three take
    if light >= _DARK:
        return pixels
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=min(_DARK / max(light, 1.0), _MOST_LIGHT)), np.uint8)


def roll(landmarks: npt.NDArray[np.float32]) -> float:
    """Return how far a face is turned clockwise in the image, in radians, at most a right angle.

    Args:
        landmarks: float32, (5, 2), in the order of LANDMARKS: the line through the eyes and that through the corners of
            the mouth say it together.
    """
    across = landmarks[1] - landmarks[0] + landmarks[4] - landmarks[3]
    return float(np.clip(np.arctan2(across[1], across[0]), -np.pi / 2, np.pi / 2))


def upright_square(
    image: Picture, centre: npt.NDArray[np.float32], side: float, angle: float, side_px: int
) -> tuple[Picture, npt.NDArray[np.float64]]:
    """Cut a square out of a picture.

    Args:
        image: The picture.
        centre: x, y of the square's centre, (2,), px of `image`.
        side: Its side in px of `image`.
        angle: How far it is turned clockwise, in radians.
        side_px: Its side in the result.

    Returns:
        uint8, (side_px, side_px, 3): what lies outside of `image` is black. And float64, (3, 3): x, y, 1 of `image` to
        x, y, 1 of the result.
    """
    limits = np.array(image.shape[1::-1])
    reach = side * (abs(math.cos(angle)) + abs(math.sin(angle))) / 2 + 1
    low = np.clip(np.floor(centre - reach), 0, limits - 1).astype(int)
    high = np.clip(np.ceil(centre + reach), low + 1, limits).astype(int)
    region = image[low[1] : high[1], low[0] : high[0]]
    halvings = max(0, math.floor(math.log2(side / side_px)))
    for _ in range(halvings):
        region = halve(region) if min(region.shape[:2]) > 1 else region
    scale = side_px / side
    turn = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    to_view = np.eye(3)
    to_view[:2, :2] = turn
    to_view[:2, 2] = side_px / 2 - turn @ centre
    from_region = np.array([[2**halvings, 0, low[0]], [0, 2**halvings, low[1]], [0, 0, 1]])
    centres = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])  # OpenCV counts from px centres, we from px edges
    warp = centres @ to_view @ from_region @ np.linalg.inv(centres)
    view = cv2.warpAffine(region, warp[:2], (side_px, side_px), flags=cv2.INTER_LINEAR)
    return np.asarray(view, np.uint8), to_view
