import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_contract import LABELS
from fer_faces import read_face_crop
from fer_images import ImageLimits
from fer_training.errors import DataError
from fer_training.faces import LabelledFaces
from fer_training.folders import CK48_CLASSES, FolderData, load_ck48, load_class_folders, read_class_folders

RNG = np.random.default_rng(0)


def draw_face() -> np.ndarray:
    return RNG.integers(0, 256, (48, 48), dtype=np.uint8)


def write_face(path: Path, face: np.ndarray | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    face = draw_face() if face is None else face
    Image.fromarray(face).save(path, compress_level=1)
    return face


def write_classes(directory: Path, classes: Iterable[str], per_class: int = 10, name: str = "{}.png") -> Path:
    for folder in classes:
        for number in range(per_class):
            write_face(directory / folder / name.format(number))
    return directory


def splits_of(data: FolderData) -> dict[str, LabelledFaces]:
    return {"training": data.training, "validation": data.validation, "test": data.test}


def pixels_of(faces: LabelledFaces) -> set[bytes]:
    return {image.tobytes() for image in faces.images}


def test_a_gray_png_of_48_px_comes_through_unchanged(tmp_path):
    # All 256 values: converting to colour and back must lose none.
    face = RNG.permutation(np.arange(48 * 48) % 256).astype(np.uint8).reshape(48, 48)
    write_face(tmp_path / "face.png", face)
    crop, size = read_face_crop((tmp_path / "face.png").read_bytes(), ImageLimits())
    np.testing.assert_array_equal(crop[0, 0], face)
    assert size.tolist() == [48, 48]


def test_every_image_is_read_once_with_its_folder_as_label(tmp_path):
    written = {name: {write_face(tmp_path / name / f"{n}.png").tobytes() for n in range(10)} for name in ("joy", "ire")}
    data = load_class_folders(tmp_path, seed=0)
    assert data.training.class_names == data.test.class_names == ("ire", "joy")
    for label, name in enumerate(data.training.class_names):
        found = [i.tobytes() for part in splits_of(data).values() for i in part.images[part.labels == label]]
        assert len(found) == 10
        assert set(found) == written[name]
    assert [len(part) for part in splits_of(data).values()] == [14, 2, 4]


def test_folder_names_become_the_contracts_labels_in_its_order(tmp_path):
    names = ["Neutral", "zeal", "surprised", "SADNESS", "happiness", "Fearful", "disgusted", "anger", "Contempt"]
    write_classes(tmp_path, names, per_class=3)
    assert load_class_folders(tmp_path, seed=0).training.class_names == (*LABELS, "Contempt", "zeal")


def test_the_same_pixels_come_out_as_the_server_makes_them(tmp_path):
    write_classes(tmp_path, ["a", "b"], per_class=3)
    Image.fromarray(RNG.integers(0, 256, (120, 90, 3), dtype=np.uint8)).save(tmp_path / "a" / "0.png")
    expected, _ = read_face_crop((tmp_path / "a" / "0.png").read_bytes(), ImageLimits())
    np.testing.assert_array_equal(read_class_folders(tmp_path).faces.images[0], expected[0, 0])


def test_the_same_seed_gives_the_same_split_and_another_seed_another(tmp_path):
    write_classes(tmp_path, ["a", "b"], per_class=20)
    first, again, other = (load_class_folders(tmp_path, seed=seed) for seed in (1, 1, 2))
    assert first.training.sha256() == again.training.sha256()
    assert first.training.sha256() != other.training.sha256()
    assert pixels_of(first.test) != pixels_of(other.test)


@pytest.mark.parametrize("name", ["S{:03}_1.png", "subject{}-1.png", "id{}_1.png"])
def test_a_subject_is_in_one_split_only_in_whatever_class(tmp_path, name):
    subject_of = {}
    for folder in ("a", "b", "c"):
        for subject in range(15):
            # In small letters in one class: the same person.
            file = name.format(subject).lower() if folder == "b" else name.format(subject)
            subject_of[write_face(tmp_path / folder / file).tobytes()] = subject
    data = load_class_folders(tmp_path, seed=3)
    subjects = [{subject_of[image] for image in pixels_of(part)} for part in splits_of(data).values()]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == data.subjects == 15
    assert all(subjects)


def test_the_pattern_for_subjects_can_be_given(tmp_path):
    write_classes(tmp_path, ["a", "b"], per_class=9, name="{0}.KA.png")
    assert load_class_folders(tmp_path, seed=0).subjects is None
    assert load_class_folders(tmp_path, seed=0, subject_pattern=re.compile(r"\d(?=\.)")).subjects == 9
    assert load_class_folders(tmp_path, seed=0, subject_pattern=re.compile(r"[0-4]|(\d)\.")).subjects == 4


@pytest.mark.parametrize("seed", range(5))
def test_identical_pixels_never_cross_a_split(tmp_path, seed):
    write_classes(tmp_path, ["a", "b"], per_class=8)
    for number in range(6):
        face = write_face(tmp_path / "a" / f"twin{number}.png")
        write_face(tmp_path / "ab"[number % 2] / f"copy{number}.png", face)
    data = load_class_folders(tmp_path, seed=seed)
    parts = [pixels_of(part) for part in splits_of(data).values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 16 + 6
    assert all(
        not part.seen_elsewhere.any() and len(part.seen_elsewhere) == len(part) for part in splits_of(data).values()
    )


@pytest.mark.parametrize(
    ("folders", "noticed"),
    [
        ("aaaaaa", {"identical to one with another label": 0, "repeats of an earlier one": 5}),
        ("aaabbb", {"identical to one with another label": 6, "repeats of an earlier one": 0}),
    ],
)
def test_duplicates_to_train_on_are_noticed(tmp_path, folders, noticed):
    write_classes(tmp_path, ["a", "b"], per_class=10)
    face = draw_face()
    for number, folder in enumerate(folders):  # the largest group, which goes to training
        write_face(tmp_path / folder / f"twin{number}.png", face)
    data = load_class_folders(tmp_path, seed=0)
    assert data.dropped.noticed == noticed
    assert data.dropped.kept == data.dropped.found == len(data.training)


def test_hidden_files_and_files_beside_the_folders_are_passed_over(tmp_path):
    write_classes(tmp_path, ["a", "b"], per_class=3)
    for name in ("README.txt", ".DS_Store", "a/._0.png"):
        (tmp_path / name).write_text("no image", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    data = load_class_folders(tmp_path, seed=0)
    assert data.training.class_names == ("a", "b")
    assert data.dropped.found == data.dropped.kept == len(data.training)


def test_a_file_that_is_no_image_is_refused_by_name_or_counted(tmp_path):
    write_classes(tmp_path, ["a", "b"], per_class=5)
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"no image")
    (tmp_path / "b" / "half.png").write_bytes((tmp_path / "b" / "0.png").read_bytes()[:800])
    (tmp_path / "b" / "none.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"Thumbs\.db: the bytes are not an image .* Remove it, or skip files"):
        load_class_folders(tmp_path, seed=0)
    data = load_class_folders(tmp_path, seed=0, skip_unreadable=True)
    assert data.dropped.dropped == {
        "unreadable (corrupt)": 1,
        "unreadable (empty)": 1,
        "unreadable (not_an_image)": 1,
    }
    assert data.dropped.kept == len(data.training)
    assert sum(map(len, splits_of(data).values())) == 10


def test_limits_are_kept(tmp_path):
    write_classes(tmp_path, ["a", "b"], per_class=3)
    with pytest.raises(DataError, match=r"0\.png: .* over the limit of 100"):
        load_class_folders(tmp_path, seed=0, limits=ImageLimits(max_bytes=100))
    with pytest.raises(DataError, match=r"0\.png: 48x48 is over the limit of 100 pixels"):
        load_class_folders(tmp_path, seed=0, limits=ImageLimits(max_pixels=100))


def test_a_folder_without_folders_is_refused(tmp_path):
    write_face(tmp_path / "0.png")
    with pytest.raises(DataError, match="holds no folders. Give the folder that holds one folder of images per class"):
        load_class_folders(tmp_path, seed=0)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none: cannot be read \(No such file or directory\)"):
        load_class_folders(tmp_path / "none", seed=0)


def test_folders_in_class_folders_are_refused(tmp_path):
    write_classes(tmp_path / "train", ["a", "b"], per_class=3)
    with pytest.raises(DataError, match=r"train.a: is a folder, but class folders hold only images"):
        load_class_folders(tmp_path, seed=0)


@pytest.mark.parametrize("skip", [False, True])
def test_an_empty_class_is_refused(tmp_path, skip):
    write_classes(tmp_path, ["a", "b"], per_class=3)
    (tmp_path / "anger").mkdir()
    if skip:
        (tmp_path / "anger" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"anger: holds no image that can be read"):
        load_class_folders(tmp_path, seed=0, skip_unreadable=skip)


def test_two_folders_of_one_class_are_refused(tmp_path):
    write_classes(tmp_path, ["Happy", "happiness"], per_class=3)
    with pytest.raises(DataError, match="Happy and happiness are both class happy. Join them"):
        load_class_folders(tmp_path, seed=0)


def test_a_comma_in_a_class_name_is_refused(tmp_path):
    write_classes(tmp_path, ["a,b", "c"], per_class=3)
    with pytest.raises(DataError, match="a,b: a class name must not have a comma"):
        load_class_folders(tmp_path, seed=0)


def test_a_class_of_too_few_subjects_is_refused(tmp_path):
    write_classes(tmp_path, ["a", "b"], per_class=5)
    for number in range(4):
        write_face(tmp_path / "c" / f"S{number % 2}_{number}.png")
    with pytest.raises(DataError, match="class c has only 2 subjects or different images, but a split in 3 needs"):
        load_class_folders(tmp_path, seed=0)


def test_a_split_that_would_lack_a_class_is_refused(tmp_path):
    # Three splits of four people: two are together, and with them the only two splits of a class they share.
    owners = {"a": (1, 2, 3), "b": (1, 2, 4), "c": (1, 3, 4), "d": (2, 3, 4)}
    for name, subjects in owners.items():
        for subject in subjects:
            write_face(tmp_path / name / f"S{subject}_0.png")
    with pytest.raises(DataError, match=r"no image of class \w is left for \w+, because images of one subject stay"):
        load_class_folders(tmp_path, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_three_images_is_in_every_split(tmp_path, seed):
    write_classes(tmp_path, ["a"], per_class=20)
    write_classes(tmp_path, ["b"], per_class=3)
    assert all(set(part.labels) == {0, 1} for part in splits_of(load_class_folders(tmp_path, seed=seed)).values())


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    write_classes(tmp_path, ["a", "b"], per_class=3)
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read \(No such file or directory\)"):
        load_class_folders(tmp_path, seed=0, skip_unreadable=True)


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
    assert data.training.class_names == data.validation.class_names == CK48_CLASSES
    assert data.subjects == 30
    surprised = [CK48_CLASSES.index("surprise")]
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
