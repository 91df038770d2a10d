"""The pictures of a load: what they are, how often each is drawn, and folders that cannot be used."""

import io
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from fer_commands.running import CommandError
from fer_loadtest.pictures import (
    CORRUPT,
    DEFAULT_MIX,
    LARGE,
    NO_FACE,
    ONE_FACE,
    SEVERAL_FACES,
    Mix,
    Picture,
    describe_left_out,
    kind_by_content,
    make_pictures,
    read_folder,
)


@pytest.fixture(scope="module")
def pictures():
    return make_pictures()


def test_there_are_all_kinds_and_they_are_the_same_every_time(pictures):
    assert {one.kind for one in pictures} == set(DEFAULT_MIX)
    assert [one.digest for one in make_pictures()] == [one.digest for one in pictures]
    assert len({one.digest for one in pictures}) == len(pictures)


def test_large_pictures_have_twelve_megapixels(pictures):
    for one in pictures:
        if one.kind == LARGE:
            with Image.open(io.BytesIO(one.content)) as image:
                assert image.size == (4000, 3000)


def test_without_the_photo_it_says_what_to_do(tmp_path):
    with pytest.raises(CommandError, match=r"cannot read missing.png \(No such file.*give --pictures DIR"):
        make_pictures(tmp_path / "missing.png")


def test_kinds_are_drawn_as_often_as_they_should(pictures):
    mix = Mix(pictures, DEFAULT_MIX, random.Random(0))
    drawn = Counter(mix.draw().kind for _ in range(20_000))
    for kind, percent in DEFAULT_MIX.items():
        assert mix.shares[kind] == pytest.approx(percent / 100)
        assert drawn[kind] / 200 == pytest.approx(percent, abs=1)


def test_a_folder_is_drawn_evenly_with_one_percent_corrupt():
    pictures = [Picture(str(i), NO_FACE if i else SEVERAL_FACES, b"%d" % i) for i in range(9)]
    mix = Mix([*pictures, Picture("half", CORRUPT, b"half")], None, random.Random(0))
    assert mix.shares[CORRUPT] == pytest.approx(0.01)
    assert mix.shares[SEVERAL_FACES] == pytest.approx(0.99 / 9)
    assert sum(mix.shares.values()) == pytest.approx(1)


def test_a_mix_of_kinds_that_are_not_there_is_refused(pictures):
    with pytest.raises(CommandError, match=r"no weight to any kind that there is: .* 12 megapixels, corrupt"):
        Mix(pictures, {ONE_FACE: 0.0}, random.Random(0))


@pytest.mark.parametrize(
    ("faces", "size", "kind"),
    [
        (None, (0, 0), CORRUPT),
        (0, (640, 480), NO_FACE),
        (1, (640, 480), ONE_FACE),
        (5, (640, 480), SEVERAL_FACES),
        (1, (4000, 3000), LARGE),
    ],
)
def test_kinds_of_a_users_pictures_follow_from_the_answers(faces, size, kind):
    assert kind_by_content(faces, *size) == kind


def test_a_folder_is_read_with_what_is_below_it(tmp_path):
    (tmp_path / "below").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "a.PNG")
    Image.new("RGB", (60, 40)).save(tmp_path / "below" / "b.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    assert describe_left_out(tmp_path) == ""
    read = read_folder(tmp_path)
    assert [one.name for one in read] == ["a.PNG", "below/b.jpg", "half of a.PNG", "half of below/b.jpg"]
    assert [one.kind for one in read[2:]] == [CORRUPT, CORRUPT]
    assert read[1].content == (tmp_path / "below" / "b.jpg").read_bytes()


def test_of_a_large_folder_some_are_chosen_evenly(tmp_path):
    for number in range(450):
        (tmp_path / f"{number:03}.jpg").write_bytes(b"%d" % number)
    whole = [one for one in read_folder(tmp_path) if one.kind != CORRUPT]
    assert len(whole) == 200
    assert whole[-1].name >= "440.jpg"
    assert describe_left_out(tmp_path) == f"--pictures {tmp_path}: 200 of its 450 pictures are sent, evenly chosen"


@pytest.mark.parametrize("folder", ["missing", "file", "empty"])
def test_a_folder_without_pictures_is_named(tmp_path, folder):
    path = tmp_path / folder
    if folder == "file":
        path.write_text("x")
    if folder == "empty":
        path.mkdir()
    with pytest.raises(CommandError, match=rf"--pictures {Path(path)}(: there is no such folder| has no pictures)"):
        read_folder(path)
