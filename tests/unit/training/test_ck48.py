from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_training.errors import DataError
from fer_training.folders import CLASS_NAMES, load_ck48

FOLDERS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


@pytest.fixture(scope="module")
def ck48(tmp_path_factory) -> tuple[Path, dict[bytes, str]]:
    """Like CK+48, of 30 subjects with sequences of three frames, and the subject of each image."""
    rng = np.random.default_rng(0)
    directory = tmp_path_factory.mktemp("ck48")
    subject_of = {}
    for number in range(30):
        # Everybody is surprised, and does one to three other emotions.
        for sequence, folder in enumerate(["surprise", *rng.choice(FOLDERS[:-1], rng.integers(1, 4), replace=False)]):
            (directory / folder).mkdir(exist_ok=True)
            for frame in range(3):
                image = rng.integers(0, 256, (48, 48), dtype=np.uint8)
                subject_of[image.tobytes()] = f"S{number:03}"
                name = f"S{number:03}_{sequence:03}_{frame:08}.png"
                Image.fromarray(image).save(directory / folder / name, compress_level=1)
    return directory, subject_of


def test_classes_have_the_contracts_names_where_it_has_them(ck48):
    directory, subject_of = ck48
    data = load_ck48(directory, fold=0)
    assert data.training.class_names == data.validation.class_names == CLASS_NAMES
    assert data.subjects == 30
    surprised = [CLASS_NAMES.index("surprise")]
    assert np.isin(np.concatenate([data.training.labels, data.validation.labels]), surprised).sum() == 90
    assert len(data.training) + len(data.validation) == len(subject_of)
    assert data.dropped.found == data.dropped.kept == len(data.training)


@pytest.mark.parametrize("folds", [2, 10])
def test_folds_partition_images_and_subjects_in_about_equal_parts(ck48, folds):
    directory, subject_of = ck48
    seen_images, seen_subjects, sizes = [], [], []
    for fold in range(folds):
        data = load_ck48(directory, fold=fold, folds=folds)
        validation = [image.tobytes() for image in data.validation.images]
        training = {subject_of[image.tobytes()] for image in data.training.images}
        subjects = {subject_of[image] for image in validation}
        assert not subjects & training
        seen_images += validation
        seen_subjects += subjects
        sizes.append(len(validation))
    assert sorted(seen_images) == sorted(subject_of)
    assert sorted(seen_subjects) == sorted(set(subject_of.values()))
    assert max(sizes) - min(sizes) <= 12  # no more than one subject has


def test_folds_are_the_same_every_time(ck48):
    directory, _ = ck48
    assert load_ck48(directory, fold=3).training.sha256() == load_ck48(directory, fold=3).training.sha256()
    assert load_ck48(directory, fold=3).training.sha256() != load_ck48(directory, fold=4).training.sha256()


@pytest.mark.parametrize(("fold", "folds"), [(10, 10), (-1, 10), (0, 0)])
def test_a_fold_that_does_not_exist_is_refused(ck48, fold, folds):
    with pytest.raises(DataError, match=f"the fold must be 0 to {folds - 1} of {folds} folds, but is {fold}"):
        load_ck48(ck48[0], fold=fold, folds=folds)


@pytest.mark.parametrize("folds", [1, 31])
def test_folds_need_as_many_subjects(ck48, folds):
    with pytest.raises(DataError, match=f"30 subjects can be given to 2 to 30 folds, not {folds}"):
        load_ck48(ck48[0], fold=0, folds=folds)


def write_folders(directory: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        (directory / name).mkdir()
        Image.new("L", (48, 48), number).save(directory / name / f"S{number:03}_001_00000001.png")


def test_other_folders_are_refused(tmp_path):
    write_folders(tmp_path, (*FOLDERS, "neutral"))
    with pytest.raises(DataError, match="the classes of CK.48 are angry, .*, but the folders are .* neutral, contempt"):
        load_ck48(tmp_path, fold=0)


@pytest.mark.parametrize(
    "name", ["004_00000017.png", "S010.png", "face.png", "xS010_004_00000017.png", "S010_004_00000017.copy.png"]
)
def test_a_file_name_without_subject_is_refused(tmp_path, name):
    write_folders(tmp_path, FOLDERS)
    Image.new("L", (48, 48), 99).save(tmp_path / "fear" / name)
    with pytest.raises(DataError, match=f"fear.{name}: must be named by subject, sequence and frame"):
        load_ck48(tmp_path, fold=0)
