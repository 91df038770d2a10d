"""Where results go, and what they are written as: the ending of a file's name decides unless an option does."""

import csv
import json
from pathlib import Path

import pytest

from fer_client.cli import main
from fer_client.command.image_paths import EXTENSIONS
from fer_client.command.output import choose_format
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
