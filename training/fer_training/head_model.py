"""`fer-train head-model`: fit the head that yaw and pitch come from. `fer_quality.HEAD_MODEL` is its result.

How far a nose stands out follows from nothing but the landmarks of many faces. Those of the usage or split, of FER2013
PublicTest unless told otherwise, are shown to the server's detector.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.shown_faces import open_detector, show_faces
from fer_training.sources import add_source_options, load_for_measuring, parse_options

_ZOOM: Final = 4
"""libfacedetection gives landmarks in whole px, which are finer in a larger picture."""


@dataclass(frozen=True)
class HeadModel:
    """A mean head that looks into the camera, in distances between its eyes. The eyes are at (-0.5, 0), (0.5, 0)."""

    nose_down: float
    """How far the nose's tip lies below the eyes."""
    nose_out: float
    """How far it stands out of the plane of eyes and mouth corners."""
    mouth_down: float
    """How far the mouth's corners lie below the eyes."""
    mouth_width: float
    """Between its corners."""
    residual: float
    """Root mean square of what the model leaves unexplained of the distance between the eyes."""


def fit_head_model(landmarks: npt.NDArray[np.float32]) -> HeadModel:
    """Fit the mean head under weak perspective.

    A head that turns to the side shows its eyes closer together by the cosine of the angle, and its nose off the middle
    by the sine times what it stands out: e² = E² - (E / D)² u², a straight line in u². The unit is the distance from
    the eyes to the mouth, which a turn to the side leaves as it is.

    Args:
        landmarks: float32, (N, 5, 2): x, y in px, in the order of `fer_contract.LANDMARK_NAMES`.
    """
    points = landmarks[..., 0] + 1j * landmarks[..., 1].astype(np.float64)
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    upright = (points - eyes[:, None]) * 1j / (mouth - eyes)[:, None]  # from eyes to mouth: straight down, 1
    eye_distance, off_middle = upright[:, 1].real - upright[:, 0].real, upright[:, 2].real
    system = np.stack([np.ones(len(points)), off_middle**2], axis=1)
    (squared, slope), *_ = np.linalg.lstsq(system, eye_distance**2, rcond=None)
    whole = float(np.sqrt(squared))
    cosine = np.sqrt(np.clip(1 + slope / squared * off_middle**2, 0.05, 1))  # 0.05: a turn of 77 degrees
    return HeadModel(
        nose_down=float(np.median(upright[:, 2].imag)) / whole,
        nose_out=float(np.sqrt(-squared / slope)) / whole,
        mouth_down=1 / whole,
        mouth_width=float(np.median((upright[:, 4] - upright[:, 3]).real / cosine)) / whole,
        residual=float(np.sqrt(np.mean((eye_distance - whole * cosine) ** 2))) / whole,
    )


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train head-model` and return its exit code."""
    parser = subcommand_parser(
        "fer-train head-model",
        description="Fit the head model that yaw and pitch come from.",
        examples="  fer-train head-model --fer2013 DIR",
    )
    add_source_options(parser, to_measure=True)
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    faces, usage = load_for_measuring(options)
    shown = show_faces(faces.images, open_detector(), zoom=_ZOOM, margin_px=12 * _ZOOM)
    model = fit_head_model(shown.landmarks[shown.found])
    print(f"{usage}: {int(shown.found.sum())} of {len(faces)} faces, in distances between the eyes")
    for name, value in vars(model).items():
        print(f"{name:<12}{value:.3f}")
