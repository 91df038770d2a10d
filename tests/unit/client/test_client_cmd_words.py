"""A mistyped word gets the one that was meant, with the usage of the command at hand, in two lines."""

import os

import pytest

from fer_client.cli import main
from fer_commands.messages import closest

SECRET = "s3cr3t-T0ken"


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, closed_address):
    """Run the command in the test's folder, with no server: its exit code and its lines on stderr."""
    for name in ("FER_URL", "FER_GRPC_URL", "FER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("FER_URL", closed_address)
    monkeypatch.setenv("FER_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"photo")

    def run_command(*arguments):
        try:
            code = main(arguments)
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        assert out == ""
        return code, err.splitlines()

    return run_command


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("predct photo.jpg", "fer-client predict?"),
        ("Predict photo.jpg", "fer-client predict?"),
        ("helth", "fer-client health?"),
        ("benchmark photo.jpg", "fer-client bench?"),
        ("vidoe clip.mp4", "fer-client video?"),
        ("comp bash", "fer-client completion?"),
        ("help", "fer-client --help?"),
        ("version", "fer-client --version?"),
        ("--verison", "--version?"),
        ("photo.jpg", "fer-client predict photo.jpg?"),
        ("missing.jpg", "fer-client predict missing.jpg?"),
        (".", "fer-client predict .?"),
        ("photos/*.jpg --json", "fer-client predict 'photos/*.jpg'?"),
        ("clip.MP4", "fer-client video clip.MP4?"),
        ("0", "fer-client video 0?"),
        ("predict photo.jpg --ouput x.csv", "--output?"),
        ("predict photo.jpg --jsonlines", "--jsonl?"),
        ("predict photo.jpg --out x.csv", "--output?"),
        ("predict --anotate x photo.jpg", "--annotate?"),
        ("predict --hlep", "--help?"),
        ("predict photo.jpg --ca_cert x.pem", "--ca-cert?"),
        ("predict photo.jpg --CSV", "--csv?"),
        ("health --wiat 3", "--wait?"),
        ("video clip.mp4 --timline x", "--timeline?"),
        ("predict photo.jpg --protocol grcp", "grpc?"),
        ("predict photo.jpg --protocol GRPC", "grpc?"),
        ("predict photo.jpg --compression gz", "gzip?"),
        ("completion bsh", "bash?"),
    ],
)
def test_a_wrong_word_gets_the_one_that_was_meant(run, words, meant):
    code, err = run(*words.split())
    assert code == 2
    assert f": did you mean {meant}" in err[-1]


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("predict photo.jpg --xyz", "usage: fer-client predict [OPTION ...] PATH [PATH ...]"),
        ("predict", "usage: fer-client predict [OPTION ...] PATH [PATH ...]"),
        ("predict photo.jpg --timeout 0", "usage: fer-client predict [OPTION ...] PATH [PATH ...]"),
        ("video", "usage: fer-client video [OPTION ...] FILE|ADDRESS|CAMERA"),
        ("health photo.jpg", "usage: fer-client health [OPTION ...]"),
        ("bench photo.jpg other.jpg", "usage: fer-client bench [OPTION ...] [IMAGE]"),
        ("xyz", "usage: fer-client COMMAND ..."),
        ("", "usage: fer-client COMMAND ..."),
    ],
)
def test_the_usage_is_that_of_the_command_and_one_line(run, words, usage):
    code, err = run(*words.split())
    command = " ".join(usage.split()[1:3]).removesuffix(" COMMAND")
    assert (code, len(err), err[0]) == (2, 2, usage)
    assert err[1].startswith(f"{command}: ")
    assert err[1].endswith(f"(see {command} --help)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--url http://host predict photo.jpg", "--url belongs after the command: fer-client COMMAND --url ..."),
        ("--json photo.jpg", "--json belongs after the command: fer-client COMMAND --json ..."),
        ("xyz", "xyz is not a command: predict, video, health, info, bench, completion"),
        ("predict photo.jpg --json=yes", "argument --json: takes no value, and 'yes' is one"),
        ("predict -photo.jpg", "a file whose name starts with - is written ./-photo.jpg"),
        ("health photo.jpg", "unrecognized arguments: photo.jpg"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(run, words, message, tmp_path):
    (tmp_path / "-photo.jpg").write_bytes(b"photo")
    code, err = run(*words.split())
    assert code == 2
    assert f"{message} (see fer-client" in err[-1]


def test_a_file_with_a_dash_can_be_named(run):
    for words in (("./-photo.jpg",), ("--", "-photo.jpg"), ("--quiet", "--", "--photo.jpg")):
        assert "cannot read" in run("predict", *words)[1][-1]


@pytest.mark.parametrize("words", [["--tokn", SECRET], [f"--tokn={SECRET}"], [f"--to-ken={SECRET}", "x"]])
@pytest.mark.parametrize("command", ["predict", "health", "video"])
def test_what_is_behind_a_mistyped_option_is_not_repeated(run, command, words):
    code, err = run(command, *words)
    assert (code, SECRET in "".join(err)) == (2, False)


def test_a_key_of_the_configuration_file_too(run, tmp_path):
    (tmp_path / "f.toml").write_text("timout = 3\nxyz = 1\n")
    code, err = run("health", "--config", "f.toml")
    expected = "fer-client: f.toml: unknown timout (did you mean timeout?), xyz; known are url, protocol, timeout, "
    assert (code, err[0][: len(expected)]) == (2, expected)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("FER_URLL", "FER_URL"),
        ("FERURL", "FER_URL"),
        ("fer_url", "FER_URL"),
        ("FER_TOKENFILE", "FER_TOKEN_FILE"),
        ("FER_PROTOCAL", "FER_PROTOCOL"),
        ("FER_TIMEOUT_S", "FER_TIMEOUT"),
        ("FER_GRPCURL", "FER_GRPC_URL"),
    ],
)
def test_a_variable_that_is_nearly_ours_is_said_to_be_none(run, monkeypatch, variable, meant):
    monkeypatch.setenv(variable, SECRET)
    code, err = run("health")
    assert (code, err[0]) == (3, f"fer-client: ${variable} is not a setting: did you mean ${meant}?")
    assert SECRET not in "".join(err)


@pytest.mark.parametrize(
    "variable", ["FER_METRICS_URL", "FER_PHOTOS_DIR", "FER2013_DIR", "FER_PROFILE", "FERNET_KEY", "FER"]
)
def test_a_variable_of_something_else_is_no_news(run, monkeypatch, variable):
    monkeypatch.setenv(variable, "x")
    assert len(run("health")[1]) == 1


def test_every_command_is_what_it_is_like():
    commands = ["predict", "video", "health", "info", "bench", "completion"]
    assert [closest(command, commands) for command in commands] == commands
    assert [closest(command.upper(), commands) for command in commands] == commands


def test_a_file_s_name_is_quoted_as_the_shell_needs_it(run, tmp_path):
    (tmp_path / "my photo.jpg").write_bytes(b"photo")
    assert "did you mean fer-client predict 'my photo.jpg'?" in run("my photo.jpg")[1][-1]
    name = os.fsdecode(b"caf\xe9.jpg")
    assert "did you mean fer-client predict" in run(name)[1][-1]
