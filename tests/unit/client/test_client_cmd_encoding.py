"""Names and texts that a terminal cannot show, or that would do something to it: escaped, and nothing is lost."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_commands.messages import printable

ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""File names are ASCII then too, as far as Python knows."""
ENVIRONMENTS = {
    "ascii": ASCII,
    "strict": {"PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "cp437": {"PYTHONIOENCODING": "cp437"},
    "C": C_LOCALE,
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
}
NAMES = {
    "umlaut": "Bücher.png".encode(),
    "kanji": "写真.png".encode(),
    "emoji": "👩‍👧.png".encode(),
    "ellipsis": "a…│b.png".encode(),
    "no text": b"caf\xe9.png",
    "escape": b"a\x1b[2J\x07.png",
    "newline": b"two\nlines.png",
    "override": "gnp\N{RIGHT-TO-LEFT OVERRIDE}.png".encode(),
}


@pytest.fixture
def command(tmp_path, fake_triton):
    """Run fer-client in a process of its own, in the test's folder, with an environment: exit code, and bytes."""

    def run(environment, *arguments):
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; import runpy; runpy.run_module('fer_client', alter_sys=True)"
        )
        variables = {key: value for key, value in os.environ.items() if not key.startswith(("FER_", "LC_", "PYTHON"))}
        variables |= {"XDG_CONFIG_HOME": str(tmp_path), "FER_URL": fake_triton.url("http"), **environment}
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, env=variables, capture_output=True, timeout=60
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def photo(tmp_path):
    """Make a picture of a name, given as bytes; returns the name."""

    def make(name):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"photo")  # noqa: PTH118 - bytes
        return name

    return make


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_table_has_every_name_in_every_encoding(command, photo, environment):
    names = [photo(name) for name in NAMES.values()]
    code, out, err = command(ENVIRONMENTS[environment], "predict", *names)
    assert code == 0, err
    encoding = ENVIRONMENTS[environment].get("PYTHONIOENCODING", "ascii").partition(":")[0]
    lines = out.decode(encoding).splitlines()
    assert len(lines) == 1 + len(names)
    shown = [printable(os.fsdecode(name)).encode(encoding, "backslashreplace").decode(encoding) for name in names]
    assert [line.startswith(name) for name, line in zip(shown, lines[1:], strict=True)] == [True] * len(names)
    assert not any(character in out for character in (b"\x1b", b"\x07"))


@pytest.mark.parametrize("environment", ["ascii", "C"])
def test_the_reported_case(command, photo, environment):
    code, out, err = command(ENVIRONMENTS[environment], "predict", photo("Bücher.png".encode()))
    assert (code, err) == (0, b"")
    assert out.startswith(rb"B\xfccher.png: 640 x 480 px")


@pytest.mark.parametrize("environment", ["ascii", "C", "cp1252", "utf-8"])
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_is_ascii_and_the_same_everywhere(command, photo, environment, form):
    names = [photo(name) for name in NAMES.values()]
    code, out, _ = command(ENVIRONMENTS[environment], "predict", *names, f"--{form}")
    assert (code, out.isascii()) == (0, True)
    documents = json.loads(out)["images"] if form == "json" else [json.loads(line) for line in out.splitlines()]
    assert [document["image"].encode("utf-8", "surrogateescape") for document in documents] == names


@pytest.mark.parametrize("environment", ["ascii", "C", "cp1252", "utf-8"])
def test_a_file_is_utf_8_whatever_the_terminal_is(command, photo, tmp_path, environment):
    names = [photo(name) for name in NAMES.values()]
    for file in ("faces.csv", "faces.txt"):
        assert command(ENVIRONMENTS[environment], "predict", *names, "--output", file)[0] == 0
    with (tmp_path / "faces.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == [name.decode("utf-8", "backslashreplace") for name in names]
    table = (tmp_path / "faces.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(" 1 ")[0].rstrip() for line in table[1:]] == [printable(os.fsdecode(name)) for name in names]


def test_csv_in_a_terminal_does_nothing_to_it(photo, tmp_path, fake_triton):
    photo(NAMES["escape"])
    command = f"{sys.executable} -m fer_client predict . --csv --quiet --url {fake_triton.url('http')}"
    done = subprocess.run(["script", "-qec", command, "/dev/null"], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert rb"a\x1b[2J\x07.png,640,480" in done.stdout
    assert b"\x1b[2J" not in done.stdout


@pytest.mark.parametrize("environment", ["ascii", "C", "utf-8"])
def test_results_can_be_resumed_in_another_locale(command, photo, fake_triton, environment):
    names = [photo(name) for name in NAMES.values()]
    assert command({"LC_ALL": "C.UTF-8"}, "predict", *names[:-1], "--resume", "faces.jsonl")[0] == 0
    fake_triton.images.clear()
    code, _, err = command(ENVIRONMENTS[environment], "predict", *names, "--resume", "faces.jsonl")
    assert (code, len(fake_triton.images)) == (0, 1), err


@pytest.mark.parametrize("environment", ["ascii", "C", "cp1252"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "fehlt-\xfc\x1b.png"],
        ["predict", "--\xfc"],
        ["\xfc.png"],
        ["\xfc\x1b"],
        ["video", "fehlt-\xfc\x1b.mp4"],
        ["bench", "fehlt-\xfc\x1b.png"],
        ["predict", "a.png", "--output", "fehlt-\xfc\x1b/faces.csv"],
        ["predict", "a.png", "--config", "fehlt-\xfc\x1b.toml"],
        ["predict", "a.png", "--protocol", "\xfc\x1b"],
        ["completion", "\xfc\x1b"],
        ["health", "--url", "h\xfc\x1b://x"],
        ["predict", "a.png", "--annotate", "fehlt-\xfc\x1b/a.png"],
    ],
)
def test_an_error_is_a_harmless_line_too(command, photo, environment, arguments):
    photo(b"a.png")
    code, out, err = command(ENVIRONMENTS[environment], *(os.fsencode(argument) for argument in arguments))
    assert (code, out) == (2, b"")
    assert b"\x1b" not in err
    assert err.splitlines()[-1].startswith(b"fer-client")


@pytest.mark.parametrize("environment", ["ascii", "C"])
@pytest.mark.parametrize("name", ["", "predict", "video", "health", "info", "bench", "completion"])
def test_help_can_be_printed_anywhere(command, environment, name):
    code, out, err = command(ENVIRONMENTS[environment], *filter(None, [name]), "--help")
    assert (code, err) == (0, b"")
    assert b"usage: fer-client" in out


@pytest.mark.parametrize("name", ["health", "predict", "bench"])
def test_what_a_server_says_of_itself_is_shown_anywhere_and_does_nothing(command, photo, fake_triton, name):
    labels = "wütend,b,c,d,e,f\x1b[2J,g"
    for config in (fake_triton.config, fake_triton.cropped_config):
        config["parameters"]["labels"]["string_value"] = labels
        config["parameters"]["model_version"]["string_value"] = "v\xfc\x1b[2J"
    photo(b"a.png")
    arguments = {"predict": ["a.png"], "bench": ["a.png", "--seconds", "0.1", "--concurrency", "1"]}.get(name, [])
    code, out, err = command(ASCII, name, *arguments)
    assert (code, out.isascii(), b"\x1b" in out + err) == (0, True, False)
    assert rb"v\xfc\x1b[2J" in out


def test_standard_output_that_is_closed_is_2_and_one_line(photo, tmp_path, fake_triton):
    photo(b"a.png")
    script = f"{sys.executable} -m fer_client predict a.png --url {fake_triton.url('http')}"
    done = subprocess.run(["bash", "-c", f"{script} >&-"], cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, b"fer-client: cannot write the output: Bad file descriptor\n")
    done = subprocess.run(
        ["bash", "-c", f"{script} --output a.csv >&- 2>&-"], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 0
    assert (tmp_path / "a.csv").read_text().count("\n") == 2
