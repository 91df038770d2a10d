"""Another detector takes YuNet's place: one file, one line that names it, one parameter of config.pbtxt."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fer_client import FerClient
from fer_serve.server import EmbeddedTriton

ONE_FILE = '''
import numpy as np
from fer_detector import Detections


class MiddleFace:
    """Takes the middle of each picture for a face, but for the health probe's, which is one px."""

    def look(self, pixels, min_score):
        height, width = pixels.shape[:2]
        if height * width == 1:
            return Detections.none()
        size = np.array([width, height], np.float32)
        landmarks = size * [[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.4, 0.6], [0.6, 0.6]]
        box = np.concatenate([size * 0.25, size * 0.75])
        return Detections(box[np.newaxis], landmarks[np.newaxis].astype(np.float32), np.ones(1, np.float32))
'''


@pytest.fixture
def other(repository: Path, tmp_path: Path) -> Path:
    changed = tmp_path / "repository"
    shutil.copytree(repository, changed, ignore=shutil.ignore_patterns("__pycache__"))
    (changed / "fer_middle.py").write_text(ONE_FILE)
    replace(changed / "fer_detector.py", 'YUNET: ("fer_yunet", "YuNet")', '"middle": ("fer_middle", "MiddleFace")')
    replace(changed / "fer_preprocess" / "configs" / "cpu.pbtxt", '"yunet"', '"middle"')
    for file in (changed / "fer_yunet.py", changed / "fer_preprocess" / "1" / "yunet.onnx"):
        file.unlink()  # nothing needs it any more
    return changed


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_another_detector_is_one_file_one_line_and_one_parameter(other):
    with EmbeddedTriton(other, exit_timeout_s=2) as server, FerClient(server.http_url) as client:
        [face] = client.predict(np.full((200, 400), 128, np.uint8)).faces
    assert (face.box.x_min, face.box.y_min, face.box.x_max, face.box.y_max) == pytest.approx((100, 50, 300, 150))
    assert face.landmarks.nose_tip == pytest.approx((200, 100))
    assert face.detection_score == 1
