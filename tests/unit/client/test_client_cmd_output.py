"""Where results go, and what they are written as: the ending of a file's name decides unless an option does."""

import csv
import json
from pathlib import Path

import pytest

from fer_client.cli import main
from fer_client.command.image_paths import EXTENSIONS
from fer_client.command.output import Previous, choose_format
from fer_commands.running import CommandError


@pytest.mark.parametrize(
    ("flag", "file", "chosen"),
    [
        (None, None, "table"),
        (None, "faces.csv", "csv"),
        (None, "faces.CSV", "csv"),
        (None, "faces.json", "json"),
        (None, "faces.jsonl", "jsonl"),
        (None, "faces.NDJSON", "jsonl"),
        (None, "faces.txt", "table"),
        (None, "faces", "table"),
        (None, "faces.dat", "table"),
        (None, "a.json/faces", "table"),
        (None, "/dev/stdout", "table"),
        ("--csv", None, "csv"),
        ("--csv", "faces.csv", "csv"),
        ("--csv", "faces.txt", "csv"),
        ("--json", "faces", "json"),
        ("--jsonl", "faces.ndjson", "jsonl"),
        ("--jsonl", "faces.dat", "jsonl"),
        ("--resume", "faces.jsonl", "jsonl"),
        ("--resume", "faces.ndjson", "jsonl"),
        ("--resume", "faces", "jsonl"),
        ("--resume", "faces.txt", "jsonl"),
    ],
)
def test_the_format_is_what_an_option_says_else_the_name(flag, file, chosen):
    assert choose_format(flag, Path(file) if file else None) == chosen


@pytest.mark.parametrize(
    ("flag", "file", "message"),
    [
        (
            "--json",
            "faces.csv",
            "--json writes one JSON document, and a name that ends in .csv says CSV: leave --json out, or name the "
            "file faces.json",
        ),
        (
            "--csv",
            "out/faces.JSON",
            "--csv writes CSV, and a name that ends in .json says one JSON document: leave --csv out, or name the file "
            "out/faces.csv",
        ),
        (
            "--json",
            "faces.jsonl",
            "--json writes one JSON document, and a name that ends in .jsonl says JSON lines: leave --json out, or "
            "name the file faces.json",
        ),
        (
            "--jsonl",
            "faces.json",
            "--jsonl writes JSON lines, and a name that ends in .json says one JSON document: leave --jsonl out, or "
            "name the file faces.jsonl",
        ),
        (
            "--resume",
            "faces.csv",
            "--resume writes JSON lines, and a name that ends in .csv says CSV: name the file faces.jsonl",
        ),
        (
            "--resume",
            "faces.json",
            "--resume writes JSON lines, and a name that ends in .json says one JSON document: name "
            "the file faces.jsonl",
        ),
    ],
)
def test_a_contradiction_is_refused_with_two_ways_out(flag, file, message):
    with pytest.raises(CommandError) as caught:
        choose_format(flag, Path(file))
    assert str(caught.value) == message


@pytest.mark.parametrize("flag", [None, "--csv", "--resume"])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_results_do_not_go_to_a_picture(flag, extension):
    with pytest.raises(CommandError, match=r"cannot write results to photo\.\w+: that is the name of a picture"):
        choose_format(flag, Path(f"photo{extension}"))


@pytest.fixture
def predict(fake_triton, capsys, monkeypatch, tmp_path):
    """Run the command in the test's folder, where there is a picture: exit code, output, lines on stderr."""
    for name in ("FER_URL", "FER_GRPC_URL", "FER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"photo")

    def run(*arguments):
        try:
            code = main(["predict", *arguments, "--url", fake_triton.url("http"), "--retries", "0"])
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


def test_the_command_writes_what_the_name_says(predict, tmp_path):
    for name in ("f.csv", "f.json", "f.JSONL", "f.txt", "f"):
        assert predict("photo.jpg", "--output", name) == (0, "", []), name
    [row] = csv.DictReader((tmp_path / "f.csv").read_text().splitlines())
    assert row["emotion"] == "happy"
    assert json.loads((tmp_path / "f.json").read_text())["summary"]["faces"] == 1
    assert json.loads((tmp_path / "f.JSONL").read_text())["image"] == "photo.jpg"
    assert (tmp_path / "f.txt").read_text().startswith("photo.jpg: 640 x 480 px")
    assert (tmp_path / "f").read_text().startswith("photo.jpg: 640 x 480 px")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "--output", "faces.csv"],
        ["--resume", "faces.csv"],
        ["--output", "photo.jpg"],
        ["--output", "copy.PNG"],
        ["--annotate", "faces.gif"],
        ["--annotate", "faces.csv"],
        ["--annotate", "faces", "--output", "faces"],
        ["--annotate", "faces", "--resume", "./faces"],
    ],
)
def test_what_contradicts_itself_is_refused_before_the_server_is_asked(predict, fake_triton, tmp_path, arguments):
    code, out, err = predict("photo.jpg", *arguments)
    assert (code, out, len(err), fake_triton.asked) == (2, "", 1, {})
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    assert (tmp_path / "photo.jpg").read_bytes() == b"photo"


@pytest.mark.parametrize("option", ["--output", "--resume", "--annotate", "--config", "--token-file"])
def test_a_name_that_is_too_long_is_said_to_be(predict, option):
    code, out, err = predict("photo.jpg", option, f"{'a' * 300}.jsonl" if option != "--annotate" else "a" * 300)
    assert (code, out, len(err)) == (2, "", 2 if option == "--token-file" else 1)
    assert "aaa" in err[-1]
    assert "File name too long" in err[-1]


@pytest.mark.parametrize("option", ["--output", "--resume"])
def test_a_picture_is_not_replaced_by_results_whatever_it_is_called(predict, fake_triton, tmp_path, option):
    (tmp_path / "scan").write_bytes(b"photo")
    (tmp_path / "link").symlink_to("scan")
    code, _, err = predict("scan", option, "link")
    assert (code, err) == (2, ["fer-client: cannot write link: it is one of the pictures; choose another name"])
    assert (tmp_path / "scan").read_bytes() == b"photo"
    assert fake_triton.asked == {}


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
