"""fer_build.faces_file: what is no file of faces is named."""

import numpy as np
import pytest

import fer_contract as contract
from fer_build.errors import FacesFileError
from fer_build.faces_file import read_faces


def write(path, **change):
    arrays = {
        "FACES": np.zeros((3, 1, 48, 48), np.uint8),
        "LABELS": np.array([0, 6, 3]),
        "CLASSES": np.array(contract.LABELS),
        "SOURCE": np.array("nothing"),
    } | change
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_a_file_of_faces_is_read(tmp_path):
    crops = read_faces(write(tmp_path / "faces.npz"))
    assert crops.faces.shape == (3, 1, 48, 48)
    assert crops.labels.tolist() == [0, 6, 3]
    assert crops.source == "nothing"
    other = read_faces(write(tmp_path / "other.npz", LABELS=np.array([0, 6, 4])))
    assert crops.sha256() != other.sha256()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"FACES": None}, "not a file of faces; make one with fer-train save-faces"),
        ({"FACES": np.zeros((3, 48, 48), np.uint8)}, r"FACES must be uint8 .* not uint8 \(3, 48, 48\)"),
        ({"FACES": np.zeros((3, 1, 48, 48), np.float32)}, "FACES must be uint8 .* not float32"),
        ({"FACES": np.zeros((0, 1, 48, 48), np.uint8)}, "with N above 0"),
        ({"CLASSES": np.array(list("abcdefg"))}, "its classes are a, b, c, d, e, f, g, not angry"),
        ({"LABELS": np.array([0, 1])}, "LABELS must be int64"),
        ({"LABELS": np.array([0, 1, 7])}, "each 0..6"),
        ({"LABELS": np.array([0, 1, -1])}, "each 0..6"),
        ({"LABELS": np.array([object()] * 3)}, "not a file of faces"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    with pytest.raises(FacesFileError, match=message):
        read_faces(write(tmp_path / "faces.npz", **change))


def test_a_missing_file_and_another_kind_are_named(tmp_path):
    with pytest.raises(FacesFileError, match=r"missing\.npz: cannot be read \(No such file"):
        read_faces(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(FacesFileError, match="not a file of faces"):
        read_faces(tmp_path / "text.npz")
