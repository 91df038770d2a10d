"""What is taken over from a file of results, and what is not."""

import json

import pytest

from fer_client.command.output import Previous
from fer_commands.running import CommandError


def line(name, **values):
    return json.dumps({"image": name, "model_version": "v1", **(values or {"faces": []})}) + "\n"


REFUSED = line("refused.jpg", error={"kind": "refused", "message": "no image"})
FAILED = line("failed.jpg", error={"kind": "timeout", "message": "too slow"})


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results.jsonl"


def test_a_file_that_is_not_there_yet_is_a_start(results):
    previous = Previous.read(results)
    assert previous.settled == set()
    previous.tidy()
    assert not results.exists()


def test_results_and_refusals_are_settled_and_failures_are_not(results):
    results.write_text(line("a.jpg") + REFUSED + FAILED + line("b.jpg"))
    previous = Previous.read(results)
    assert previous.settled == {"a.jpg", "refused.jpg", "b.jpg"}
    previous.tidy()
    assert results.read_text() == line("a.jpg") + REFUSED + line("b.jpg")


@pytest.mark.parametrize("kept", range(1, len(line("torn.jpg"))))
def test_a_last_line_cut_off_anywhere_is_taken_away(results, kept):
    results.write_text(line("a.jpg") + line("torn.jpg")[:kept])
    previous = Previous.read(results)
    assert previous.settled == {"a.jpg"}
    previous.tidy()
    assert results.read_text() == line("a.jpg")


@pytest.mark.parametrize("torn", ["", '{"image": "to'])
def test_zeros_that_a_power_cut_left_are_taken_away(results, torn):
    results.write_text(line("a.jpg") + torn + "\0" * 100)
    previous = Previous.read(results)
    previous.tidy()
    assert results.read_text() == line("a.jpg")


def test_a_whole_file_is_left_as_it_is(results):
    results.write_text(line("a.jpg"))
    before = results.stat()
    Previous.read(results).tidy()
    assert (results.stat().st_ino, results.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_image_has_one_line_in_the_end(results):
    results.write_text(line("a.jpg") * 2)
    Previous.read(results).tidy()
    assert results.read_text() == line("a.jpg")


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (b"\xff\xd8\xff\xe0 a photo", 1),
        (b"image,face\na.jpg,1\n", 1),
        (line("a.jpg").encode() + b"no JSON\n" + line("b.jpg").encode(), 2),
        (line("a.jpg").encode() + b"[1]\n", 2),
        (b'{"frame": 1, "faces": []}\n', 1),
        (b'{"image": "a.jpg"}\n', 1),
        (line("a.jpg").encode() + b"\n" + line("b.jpg").encode(), 2),
        (line("a.jpg").encode() + b"written by someone else", 2),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(results, content, number):
    results.write_bytes(content)
    with pytest.raises(CommandError, match=f"line {number} is not what `fer-client predict --jsonl` writes; nothing"):
        Previous.read(results)
    assert results.read_bytes() == content


def test_results_of_two_networks_do_not_mix(results):
    results.write_text(line("a.jpg"))
    Previous.read(results).check("v1", cropped=False)
    with pytest.raises(CommandError, match="has results of the model v1 and the server now has v2"):
        Previous.read(results).check("v2", cropped=False)


@pytest.mark.parametrize(
    ("text", "cropped", "message"),
    [
        (line("a.jpg"), True, "was made without --cropped and this run is with it"),
        (line("a.jpg", probabilities={"happy": 1.0}), False, "was made with --cropped and this run is without it"),
    ],
)
def test_crops_and_photos_do_not_mix(results, text, cropped, message):
    results.write_text(text)
    with pytest.raises(CommandError, match=message):
        Previous.read(results).check("v1", cropped=cropped)


def test_a_file_of_refusals_alone_fits_everything(results):
    results.write_text(REFUSED)
    Previous.read(results).check("v2", cropped=True)
