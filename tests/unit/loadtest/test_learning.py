"""What a master tells its workers: the same lesson, and a plain word where their pictures are not the same."""

import json

import pytest
from PIL import Image

from fer_client.protocol import ServedModel
from fer_contract import LABELS
from fer_loadtest.answers import Expected
from fer_loadtest.errors import PicturesError
from fer_loadtest.learning import Lesson, pictures_of
from fer_loadtest.pictures import CORRUPT, LARGE, NO_FACE, ONE_FACE

SERVED = ServedModel("fer", LABELS, "test-1", 0.4)


@pytest.fixture
def options(options_of, tmp_path):
    for number, name in enumerate("abc"):
        Image.new("RGB", (60, 40), (number, 0, 0)).save(tmp_path / f"{name}.png")
    return options_of("--pictures", str(tmp_path))


@pytest.fixture
def lesson(options):
    pictures = pictures_of(options)
    answers = dict.fromkeys((one.digest for one in pictures), Expected(None))
    answers[pictures[0].digest] = Expected(0, 60, 40)
    answers[pictures[1].digest] = Expected(1, 60, 40)
    answers[pictures[2].digest] = Expected(1, 4000, 3000)
    return Lesson(SERVED, answers, pictures, is_users_own=True)


def test_a_users_pictures_are_of_the_kind_that_the_server_finds(lesson):
    assert [one.kind for one in lesson.pictures] == [NO_FACE, ONE_FACE, LARGE, CORRUPT, CORRUPT, CORRUPT]


def test_workers_learn_what_the_master_knows(lesson, options):
    learnt = Lesson.from_plain(json.loads(json.dumps(lesson.to_plain())), options)
    assert learnt.expected == lesson.expected
    assert learnt.pictures == lesson.pictures
    assert learnt.served == SERVED


def test_a_worker_with_other_pictures_is_refused(lesson, options, tmp_path):
    Image.new("RGB", (50, 50)).save(tmp_path / "b.png")
    with pytest.raises(PicturesError, match=r"b\.png is not among the master's pictures: workers need the same"):
        Lesson.from_plain(lesson.to_plain(), options)
