"""Damaged copies of faces: what light, cameras, distance, detectors and covers do to a crop. Used by `robustness`.

Every damage is a function of faces and a seed. It computes with NumPy in float64 and rounds once (only JPEG needs a
codec), draws from a generator of its own, and so gives the same pixels on every machine. The n-th face of a set is
damaged alike whatever comes after it.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg

from fer_contract import FACE_SIZE_PX

SEED: Final = 0
"""Seed of the published figures."""
CLEAN: Final = "clean"
WHITE: Final = 255.0
MID_GRAY: Final = 128.0

Faces = npt.NDArray[np.uint8]
"""uint8, (N, 1, 48, 48), gray, 0..255."""
_Pixels = npt.NDArray[np.float64]
"""float64, (N, 48, 48), 0..255, not rounded."""
_Change = Callable[[_Pixels, np.random.Generator], _Pixels]


@dataclass(frozen=True)
class Damage:
    """One kind of damage."""

    description: str
    """Description for a table."""
    change: _Change


def damage(faces: Faces, name: str, seed: int = SEED) -> Faces:
    """Make damaged copies of faces.

    Args:
        faces: uint8, (N, 1, 48, 48), gray, 0..255.
        name: One of DAMAGES.
        seed: Another one draws other noise, sides, shifts and angles.

    Returns:
        uint8, (N, 1, 48, 48).

    Raises:
        KeyError: There is no such damage.
        ValueError: The faces have another shape or type.
    """
    if faces.dtype != np.uint8 or faces.shape[1:] != (1, FACE_SIZE_PX, FACE_SIZE_PX):
        raise ValueError(
            f"faces must be uint8 (N, 1, {FACE_SIZE_PX}, {FACE_SIZE_PX}), but are {faces.dtype} {faces.shape}"
        )
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return _round(DAMAGES[name].change(faces[:, 0].astype(np.float64), rng))[:, np.newaxis]


def damage_in_turn(faces: Faces, seed: int = SEED) -> Faces:
    """Make one damaged copy of each face: of the first by the first damage, of the next by the next one, and so on.

    Args:
        faces: uint8, (N, 1, 48, 48), gray, 0..255.
        seed: See `damage`.

    Returns:
        uint8, (N, 1, 48, 48).
    """
    names = [name for name in DAMAGES if name != CLEAN]
    copies = np.empty_like(faces)
    for index, name in enumerate(names):
        copies[index :: len(names)] = damage(faces[index :: len(names)], name, seed)
    return copies


def _round(pixels: _Pixels) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(pixels.clip(0, WHITE)), np.uint8)


def _keep(pixels: _Pixels, _: np.random.Generator) -> _Pixels:
    """Change nothing, so that the clean images are one of the copies."""
    return pixels


def _darken(factor: float, noise: float = 0.0) -> _Change:
    """Reduce the light, then add the sensor's noise, of this standard deviation in gray levels."""

    def change(pixels: _Pixels, rng: np.random.Generator) -> _Pixels:
        darkened = np.asarray(np.rint(pixels * factor))  # As a camera does, before anybody can brighten it.
        return _add_noise(noise)(darkened, rng) if noise else darkened

    return change


def _add_noise(deviation: float) -> _Change:
    """Add Gaussian noise, independent in each pixel."""
    return lambda pixels, rng: pixels + deviation * rng.standard_normal(pixels.shape)


def _lower_contrast(factor: float) -> _Change:
    """Bring all grays closer to mid-gray, as haze does."""
    return lambda pixels, _: MID_GRAY + factor * (pixels - MID_GRAY)


def _bend(gamma: float) -> _Change:
    """Apply a gray curve: below 1 the shadows come up, above 1 they sink."""
    return lambda pixels, _: np.asarray(WHITE * (pixels / WHITE) ** gamma)


def _light_from_a_side(pixels: _Pixels, rng: np.random.Generator) -> _Pixels:
    """Light the face from the left or right: 1.4 times at one edge, 0.2 times at the other, evenly in between."""
    falling = np.linspace(1.4, 0.2, FACE_SIZE_PX)
    from_left = rng.random((len(pixels), 1, 1)) < 0.5
    return np.where(from_left, pixels * falling, pixels * falling[::-1])


def _light_from_behind(pixels: _Pixels, _: np.random.Generator) -> _Pixels:
    """Light the face from behind: a quarter of the light on it, an ellipse, and white around it."""
    rows, columns = np.mgrid[:FACE_SIZE_PX, :FACE_SIZE_PX] - (FACE_SIZE_PX - 1) / 2
    distance = np.sqrt((rows / 26) ** 2 + (columns / 21) ** 2)
    behind = ((distance - 0.95) / 0.1).clip(0, 1)  # The edge of the head is two pixels wide.
    lit: _Pixels = pixels * 0.25 * (1 - behind) + WHITE * behind
    return lit


def _blur(deviation_px: float) -> _Change:
    """Blur by a Gaussian; pixels beyond the edge are mirrored ones."""
    reach = int(np.ceil(4 * deviation_px))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation_px) ** 2)
    weights /= weights.sum()

    def blur_rows(pixels: _Pixels) -> _Pixels:
        padded = np.pad(pixels, ((0, 0), (reach, reach), (0, 0)), mode="reflect")
        parts = (weight * padded[:, start : start + FACE_SIZE_PX] for start, weight in enumerate(weights.tolist()))
        return np.asarray(sum(parts, np.zeros_like(pixels)))

    return lambda pixels, _: blur_rows(blur_rows(pixels).transpose(0, 2, 1)).transpose(0, 2, 1)


def _shrink(pixels: _Pixels, _: np.random.Generator) -> _Pixels:
    """Shrink the face to 24 px, and enlarge it to 48 bilinearly."""
    half = FACE_SIZE_PX // 2
    small = np.rint(pixels.reshape(len(pixels), half, 2, half, 2).mean(axis=(2, 4)))

    def enlarge_rows(grays: _Pixels) -> _Pixels:
        padded = np.pad(grays, ((0, 0), (1, 1), (0, 0)), mode="edge")
        before = 0.25 * padded[:, :-2] + 0.75 * padded[:, 1:-1]
        after = 0.75 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
        return np.stack([before, after], axis=2).reshape(len(grays), FACE_SIZE_PX, grays.shape[2])

    return enlarge_rows(enlarge_rows(small).transpose(0, 2, 1)).transpose(0, 2, 1)


def _compress(quality: int) -> _Change:
    """Save the crop itself as JPEG of this quality."""

    def change(pixels: _Pixels, _: np.random.Generator) -> _Pixels:
        copies = np.empty_like(pixels)
        for index, image in enumerate(_round(pixels)):
            file = simplejpeg.encode_jpeg(np.ascontiguousarray(image[:, :, np.newaxis]), quality, colorspace="GRAY")
            copies[index] = simplejpeg.decode_jpeg(file, colorspace="GRAY")[:, :, 0]
        return copies

    return change


def _misplace(shift_px: float = 0.0, zoom: float = 0.0, least_deg: float = 0.0, most_deg: float = 0.0) -> _Change:
    """Crop at a place, size and angle that are a little wrong, as where a detector's landmarks are.

    Args:
        shift_px: Largest shift along either axis.
        zoom: Largest relative change of the size.
        least_deg: Smallest rotation, either way.
        most_deg: Largest one.
    """

    def change(pixels: _Pixels, rng: np.random.Generator) -> _Pixels:
        drawn = rng.random((len(pixels), 5))
        shifts = shift_px * (2 * drawn[:, :2] - 1)
        scales = 1 + zoom * (2 * drawn[:, 2] - 1)
        angles = np.radians(least_deg + (most_deg - least_deg) * drawn[:, 3]) * np.where(drawn[:, 4] < 0.5, 1, -1)
        return _resample(pixels, shifts, scales, angles)

    return change


def _resample(pixels: _Pixels, shifts: _Pixels, scales: _Pixels, angles: _Pixels) -> _Pixels:
    """Turn, scale and shift each face about its middle, bilinearly; pixels beyond the edge are mirrored ones.

    Args:
        pixels: float64, (N, 48, 48).
        shifts: float64, (N, 2), px along x and y.
        scales: float64, (N,), above 1 takes in more than the face.
        angles: float64, (N,), radians.
    """
    middle = (FACE_SIZE_PX - 1) / 2
    rows, columns = np.mgrid[:FACE_SIZE_PX, :FACE_SIZE_PX] - middle
    cosine, sine = ((scales * part)[:, None, None] for part in (np.cos(angles), np.sin(angles)))
    x = _mirror(cosine * columns - sine * rows + shifts[:, 0, None, None] + middle)
    y = _mirror(sine * columns + cosine * rows + shifts[:, 1, None, None] + middle)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, bottom = np.minimum(left + 1, FACE_SIZE_PX - 1), np.minimum(top + 1, FACE_SIZE_PX - 1)
    face = np.arange(len(pixels))[:, None, None]
    across, down = x - left, y - top
    above = pixels[face, top, left] * (1 - across) + pixels[face, top, right] * across
    below = pixels[face, bottom, left] * (1 - across) + pixels[face, bottom, right] * across
    between: _Pixels = above * (1 - down) + below * down
    return between


def _mirror(position: _Pixels) -> _Pixels:
    """Mirror positions beyond the edges at them: 0..47."""
    last = FACE_SIZE_PX - 1
    folded = np.abs(position) % (2 * last)
    return np.asarray(np.minimum(folded, 2 * last - folded))


def _cover(rows: slice, gray: float) -> _Change:
    """Draw a plain bar across the face, without the edges that hair and ears have: columns 4 to 43."""

    def change(pixels: _Pixels, _: np.random.Generator) -> _Pixels:
        covered = pixels.copy()
        covered[:, rows, 4:44] = gray
        return covered

    return change


def _hide_a_third(pixels: _Pixels, rng: np.random.Generator) -> _Pixels:
    """Hide the left, right, upper or lower third of the crop under a plain gray of any brightness."""
    hidden, third = pixels.copy(), FACE_SIZE_PX // 3
    areas = np.zeros((4, FACE_SIZE_PX, FACE_SIZE_PX), np.bool_)
    areas[0, :, :third] = areas[1, :, -third:] = areas[2, :third] = areas[3, -third:] = True
    drawn = rng.random((len(pixels), 2))
    chosen = areas[(len(areas) * drawn[:, 0]).astype(np.int64)]
    hidden[chosen] = np.broadcast_to(WHITE * drawn[:, 1, None, None], chosen.shape)[chosen]
    return hidden


DAMAGES: Final[dict[str, Damage]] = {
    CLEAN: Damage("as it is", _keep),
    "dark 0.35": Damage("0.35 of the light", _darken(0.35)),
    "dark 0.15": Damage("0.15 of the light", _darken(0.15)),
    "dark noisy": Damage("0.10 of the light, then noise of 2 gray levels", _darken(0.10, noise=2.0)),
    "low contrast": Damage("0.3 of the contrast", _lower_contrast(0.3)),
    "gamma 0.4": Damage("gamma 0.4, washed out", _bend(0.4)),
    "gamma 2.5": Damage("gamma 2.5, deep shadows", _bend(2.5)),
    "side light": Damage("light from one side: 1.4 to 0.2", _light_from_a_side),
    "backlight": Damage("light from behind: 0.25 on the face, white around it", _light_from_behind),
    "noise": Damage("noise of 20 gray levels", _add_noise(20.0)),
    "blur": Damage("Gaussian blur of 1.2 px", _blur(1.2)),
    "small": Damage("24 px enlarged", _shrink),
    "jpeg": Damage("JPEG of quality 10", _compress(10)),
    "misplaced": Damage("shifted to 3 px, scaled to 10 %, turned to 10°", _misplace(3.0, 0.1, 0.0, 10.0)),
    "rotated": Damage("turned by 15 to 25°", _misplace(0.0, 0.0, 15.0, 25.0)),
    "eyes covered": Damage("a dark bar over the eyes, as sunglasses", _cover(slice(11, 22), 24.0)),
    "mouth covered": Damage("a light area over nose tip and mouth, as a mask", _cover(slice(27, 48), 200.0)),
    "third hidden": Damage("a third at one side hidden", _hide_a_third),
}
"""Damages by name, in the order of the published tables."""
