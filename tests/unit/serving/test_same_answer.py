"""The same picture gives the same answer, whatever file it comes in: crops are made at one resolution."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from pictures import encode
from PIL import Image

from fer_build.release import SERVED_ONNX, SERVED_RUNTIME
from fer_detector import YUNET, open_network
from fer_faces import find_faces
from fer_images import ImageLimits
from fer_runtimes import open_classifier
from fer_search import FaceSearch

LIMITS = ImageLimits()
OTHERS = {
    "WebP": {"format": "WEBP", "lossless": True, "method": 0},
    "JPEG 95": {"format": "JPEG", "quality": 95},
    "JPEG 97, colours whole": {"format": "JPEG", "quality": 97, "subsampling": 0},
    "JPEG 100": {"format": "JPEG", "quality": 100},
}
MOST_DIFFERENT = 0.05
FOLDER = os.environ.get("FER_PHOTOS_DIR")


@pytest.fixture(scope="module")
def answer():
    search = FaceSearch(open_network(YUNET))
    classify = open_classifier(SERVED_ONNX, SERVED_RUNTIME, 1)

    def answer(data):
        return classify(find_faces(data, search, LIMITS).crops)

    return answer


def differences(answer, photo, side):
    scale = side / max(photo.size)
    sized = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    whole = answer(encode(sized, "PNG"))
    return {name: np.abs(answer(encode(sized, **how)) - whole).max() for name, how in OTHERS.items()}


@pytest.mark.parametrize("side", [200, 330, 512, 800, 1201, 1600, 2300, 3300])
def test_every_format_gives_the_astronaut_the_same_probabilities(answer, astronaut, side):
    """From 2200 px on they are reduced by 2: by the JPEG decoder, or after another one."""
    found = differences(answer, Image.open(io.BytesIO(astronaut)).convert("RGB"), side)
    assert max(found.values()) <= MOST_DIFFERENT, found


@pytest.mark.skipif(not FOLDER, reason="FER_PHOTOS_DIR is not set")
@pytest.mark.parametrize("name", ["biden.jpg", "obama3.jpg"])
@pytest.mark.parametrize("side", [800, 1600, 3300])
def test_and_the_faces_of_other_photos(answer, name, side):
    found = differences(answer, Image.open(Path(FOLDER) / name).convert("RGB"), side)
    assert max(found.values()) <= MOST_DIFFERENT, found
