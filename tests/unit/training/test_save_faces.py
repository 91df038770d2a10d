"""fer-train save-faces: what the build calibrates and measures on."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from PIL import Image
from small_data import fer_train, write_fer2013

from fer_contract import LABELS
from fer_training.faces import LabelledFaces, choose_faces
from fer_training.save_faces import save_faces


@pytest.fixture
def faces():
    rng = np.random.default_rng(0)
    return LabelledFaces(rng.integers(0, 256, (20, 48, 48), np.uint8), rng.integers(0, 7, 20))


def test_the_file_has_the_faces_and_what_they_are(tmp_path, faces):
    save_faces(faces, "drawn", tmp_path / "new" / "faces.npz")
    with np.load(tmp_path / "new" / "faces.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["FACES"], faces.images[:, None])
        assert arrays["FACES"].dtype == np.uint8
        assert np.array_equal(arrays["LABELS"], faces.labels)
        assert tuple(arrays["CLASSES"]) == faces.class_names
        assert str(arrays["SOURCE"]) == "drawn"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["faces.npz"]


def test_the_same_faces_give_the_same_bytes(tmp_path, faces):
    for name in ("a.npz", "b.npz"):
        save_faces(faces, "drawn", tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_seed_chooses_the_part_and_keeps_the_order(faces):
    part, again, other = (choose_faces(faces, 8, seed) for seed in (1, 1, 2))
    assert len(part) == 8
    assert np.array_equal(part.images, again.images)
    assert not np.array_equal(part.images, other.images)
    positions = [next(i for i, image in enumerate(faces.images) if np.array_equal(image, one)) for one in part.images]
    assert positions == sorted(positions)
    assert [faces.labels[i] for i in positions] == part.labels.tolist()
    assert len(choose_faces(faces, 100, 1)) == 20


def run(*arguments):
    return fer_train("save-faces", *arguments)


def test_the_command_writes_public_test_and_a_part_of_training(tmp_path, capsys):
    write_fer2013(tmp_path)
    assert run("--fer2013", tmp_path, "--out", tmp_path / "faces") == 0
    with np.load(tmp_path / "faces" / "validation.npz") as arrays:
        assert arrays["FACES"].shape == (14, 1, 48, 48)
        assert str(arrays["SOURCE"]) == "FER2013 PublicTest"
    with np.load(tmp_path / "faces" / "calibration.npz") as arrays:
        assert len(arrays["FACES"]) > 0
        assert str(arrays["SOURCE"]).startswith("FER2013 training, ")
    assert "validation.npz: 14 faces of FER2013 PublicTest" in capsys.readouterr().out


def test_class_folders_are_saved_by_their_split(tmp_path):
    rng = np.random.default_rng(0)
    for label in LABELS:
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (48, 48), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / label / f"{label}{number}.png")
    assert run("--folder", tmp_path / "own", "--out", tmp_path / "faces") == 0
    with np.load(tmp_path / "faces" / "validation.npz") as validation:
        assert len(validation["FACES"]) == 7
        assert str(validation["SOURCE"]) == "--folder DIR --split-seed 0 validation"
    with np.load(tmp_path / "faces" / "calibration.npz") as calibration:
        assert len(calibration["FACES"]) == 49
