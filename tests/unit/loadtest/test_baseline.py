"""What a master tells its workers: the same baseline, and a plain word where their pictures are not the same."""

import json

import pytest
from PIL import Image

from fer_commands.running import CommandError
from fer_contract import LABELS, QUALITY_COLUMNS
from fer_loadtest.baseline import Baseline, pictures_of
from fer_loadtest.checks import Expected
from fer_loadtest.pictures import CORRUPT, LARGE, NO_FACE, ONE_FACE
from fer_loadtest.transports import ServedModel

SERVED = ServedModel("fer", LABELS, "test-1", tells_faces_found=True, quality_columns=QUALITY_COLUMNS)


@pytest.fixture
def options(options_of, tmp_path):
    for number, name in enumerate("abc"):
        Image.new("RGB", (60, 40), (number, 0, 0)).save(tmp_path / f"{name}.png")
    return options_of("--pictures", str(tmp_path))


@pytest.fixture
def baseline(options):
    pictures = pictures_of(options)
    answers = dict.fromkeys((one.digest for one in pictures), Expected(None))
    answers[pictures[0].digest] = Expected(0, 60, 40)
    answers[pictures[1].digest] = Expected(1, 60, 40, found=3)
    answers[pictures[2].digest] = Expected(1, 4000, 3000)
    return Baseline.combine(SERVED, answers, pictures, is_users_own=True)


def test_a_users_pictures_are_of_the_kind_that_the_server_finds(baseline):
    assert [one.kind for one in baseline.pictures] == [NO_FACE, ONE_FACE, LARGE, CORRUPT, CORRUPT, CORRUPT]


def test_workers_know_what_the_master_knows(baseline, options):
    known = Baseline.from_plain(json.loads(json.dumps(baseline.to_plain())), options)
    assert known.expected == baseline.expected
    assert known.pictures == baseline.pictures
    assert known.served == SERVED


def test_a_worker_with_other_pictures_is_refused(baseline, options, tmp_path):
    Image.new("RGB", (50, 50)).save(tmp_path / "b.png")
    with pytest.raises(CommandError, match=r"b\.png is not among the master's pictures: workers need the same"):
        Baseline.from_plain(baseline.to_plain(), options)
