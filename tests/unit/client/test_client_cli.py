import argparse
import importlib.metadata
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from fer_client.cli import build_parser, main
from fer_client.command.connection import SETTINGS

LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"photo")
    return str(path)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command in this process: its exit code, what it printed, and its one line on stderr."""
    for name in ("FER_URL", "FER_GRPC_URL", "FER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run_command(*arguments):
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as exit_:
            code = exit_.code
        output = capsys.readouterr()
        return code, output.out, output.err

    return run_command


def test_predict_prints_a_table(run, fake_triton, url, photo):
    fake_triton.faces(2)
    code, out, err = run("predict", photo, "--url", url)
    assert (code, err) == (0, "")
    request, empty, header, first, second = out.splitlines()
    assert request.startswith(f"{photo}: 640 x 480 px, model fake-1, ")
    assert request.endswith(f" ms at {url}")
    assert empty == ""
    columns = ["#", "box (x, y, w x h)", "score", "apparent expression", *LABELS]
    assert re.split(r" {2,}", header) == columns
    values = ["1", "100, 100, 80 x 100", "0.98", "happy 70.0%", *["5.0%"] * 3, "70.0%", *["5.0%"] * 3]
    assert re.split(r" {2,}", first) == values
    assert second.startswith("2  ")
    assert len(header) == len(first) == len(second) <= 110


def test_predict_says_when_there_is_no_face(run, fake_triton, url, photo):
    fake_triton.faces(0)
    code, out, err = run("predict", photo, "--url", url)
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == ["", "no face found"]


def test_json_is_one_document(run, fake_triton, url, photo):
    code, out, err = run("predict", photo, "--url", url, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    [image] = document["images"]
    assert image["image"] == photo
    assert image["image_size"] == {"width": 640, "height": 480}
    assert image["model_version"] == "fake-1"
    assert image["request_ms"] >= 0
    assert [face["emotion"] for face in image["faces"]] == ["happy"]
    assert (document["summary"]["images"], document["summary"]["faces"]) == (1, 1)


def test_the_url_comes_from_the_environment_unless_given(run, fake_triton, monkeypatch, closed_address):
    monkeypatch.setenv("FER_URL", closed_address)
    assert run("health")[0] == 3
    assert run("health", "--url", fake_triton.url("grpc"))[0] == 0
    monkeypatch.setenv("FER_URL", fake_triton.url("http"))
    assert run("health")[0] == 0


def test_health_names_server_model_and_labels(run, fake_triton, url):
    code, out, err = run("health", "--url", url)
    assert (code, err) == (0, "")
    assert out.startswith(f"healthy: {url} answered in ")
    assert "fake-1" in out
    assert "angry, disgust, fear, happy, sad, surprise, neutral" in out


def test_health_fails_where_a_ready_server_does_not_answer(run, fake_triton, url):
    fake_triton.refusals["infer"] = ("failed", "a worker has died")
    code, out, err = run("health", "--url", url)
    assert (code, out) == (1, "")
    assert err == f"fer-client: {url} failed: a worker has died; its log says more\n"


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_unreachable_server_is_3_with_its_url_and_how_to_start_one(run, photo, closed_address, protocol):
    code, out, err = run("predict", photo, "--url", closed_address, "--protocol", protocol)
    assert (code, out) == (3, "")
    url = f"{protocol}://{closed_address}"
    assert err.startswith(f"fer-client: no server answers at {url}: start one with `fer-serve`, or correct the URL (")
    assert err.count("\n") == 1


def test_a_host_that_takes_no_connection_is_3(run, photo, silent_address):
    code, out, err = run("predict", photo, "--url", silent_address, "--timeout", "0.3")
    assert (code, out) == (3, "")
    assert f"no server answers at http://{silent_address}: " in err


def test_a_refused_image_is_4_with_the_file_and_the_servers_words(run, fake_triton, url, photo):
    fake_triton.refusals["infer"] = ("invalid", "IMAGE: not an image")
    code, out, err = run("predict", photo, "--url", url)
    assert (code, out) == (4, "")
    assert err == f"fer-client: {photo}: {url} refused the image: IMAGE: not an image\n"


@pytest.mark.parametrize("kind", ["overloaded", "missing", "failed"])
def test_what_the_server_cannot_do_is_1(run, fake_triton, url, photo, kind):
    fake_triton.refusals["infer"] = (kind, "because of the weather")
    code, out, err = run("predict", photo, "--url", url)
    assert (code, out) == (1, "")
    assert err.startswith(f"fer-client: {url} ")
    assert "because of the weather" in err
    assert err.count("\n") == 1


def test_a_timeout_is_1(run, fake_triton, url, photo):
    fake_triton.delay_s = 1
    code, _, err = run("predict", photo, "--url", url, "--timeout", "0.2")
    assert code == 1
    assert f"no answer from {url} within 0.2 s" in err


@pytest.mark.parametrize(("name", "reason"), [("missing.jpg", "No such file"), ("", "there is no picture in this")])
def test_an_unreadable_file_is_2_and_named(run, tmp_path, name, reason):
    image = tmp_path / name
    code, out, err = run("predict", image)
    assert (code, out) == (2, "")
    assert err.startswith(f"fer-client: cannot read {image}: {reason}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--url", "ftp://localhost"], "URL 'ftp://localhost' has the scheme 'ftp'"),
        (["--url", "grpc://localhost", "--protocol", "http"], "contradicts the protocol 'http'"),
        (["--timeout", "0"], "argument --timeout: '0' is not a number of seconds, more than 0"),
        (["--timeout", "soon"], "argument --timeout: 'soon' is not a number of seconds"),
        (["--deadline", "nan"], "argument --deadline: 'nan' is not a number of seconds"),
        (["--retries", "-1"], "argument --retries: '-1' is not a whole number, 0 to 999"),
        (["--protocol", "ftp"], "argument --protocol: 'ftp' is none of http, grpc"),
        (["--concurrency", "0"], "argument --concurrency: '0' is not a whole number from 1 on"),
        (["--compression", "zip"], "argument --compression: 'zip' is none of gzip, deflate"),
        (["--ca-cert", "missing.pem"], "argument --ca-cert: cannot read missing.pem: No such file"),
        (["--url", "http://localhost", "--ca-cert", __file__], "is not encrypted, but TLS is set up for it"),
        (["--url", "https://localhost", "--ca-cert", __file__], "test_client_cli.py"),
        (["--header", "no colon"], "argument --header: expected NAME:VALUE"),
        (["--json", "--csv"], "argument --csv: not allowed with argument --json"),
        (["--resume", "a.jsonl", "--output", "b.jsonl"], "--resume names the file of results already"),
        (["--output", "/missing/a.json"], "cannot write /missing/a.json: there is no folder /missing"),
        (["--output", "."], "cannot write .: it is a folder"),
        (["--unknown"], "unrecognized arguments: --unknown"),
        (["--time", "3"], "unrecognized arguments: --time"),
    ],
)
def test_wrong_usage_is_2_and_named(run, photo, options, message):
    code, out, err = run("predict", photo, *options)
    assert (code, out) == (2, "")
    assert message in err


def test_a_command_is_required(run):
    code, _, err = run()
    assert code == 2
    assert "COMMAND" in err


def commands():
    """The parsers of all subcommands, by name."""
    [subparsers] = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return subparsers.choices


def test_the_commands_are_these():
    assert list(commands()) == ["predict", "video", "health", "info", "bench", "completion"]


@pytest.mark.parametrize("command", [[], *([name] for name in commands())])
def test_help_opens_and_documents_exit_codes_and_examples(run, command):
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    for exit_code in (0, 1, 2, 3, 4, 5, 6, 70, 130, 141):
        assert f"\n  {exit_code:<5}" in out
    assert "\nexamples:\n  " in out
    assert max(map(len, out.splitlines())) <= 105


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_is_documented(name):
    parser = commands()[name]
    assert len(parser.description) > 60
    for action in parser._actions:
        assert action.help, f"{name} {action.option_strings or action.dest} has no help"
        assert action.help == argparse.SUPPRESS or len(action.help) > 10


def test_help_documents_every_setting_and_where_else_it_can_be_set(run):
    _, out, _ = run("predict", "--help")
    for setting in SETTINGS:
        assert setting.flag in out
        assert f"[${setting.variable}]" in re.sub(r"\s+", " ", out)
    _, out, _ = run("--help")
    for word in ("FER_CONFIG", "FER_GRPC_URL", "FER_TOKEN", "XDG_CONFIG_HOME", "config.toml"):
        assert word in out


@pytest.mark.parametrize("name", sorted(set(commands()) - {"video"}))
def test_the_examples_in_the_help_are_commands(name):
    """Each line is parsed, not run."""
    examples = re.search(r"examples:\n((?:  .*\n)+)", commands()[name].epilog)[1]
    assert examples.count("fer-client ") >= 2
    for line in re.findall(r"fer-client (\S+(?: \S+)*)", examples):
        words = shlex.split(re.split(r" (?:&&|\||>)|\)'?", line)[0])
        assert build_parser().parse_args(words).run


def test_the_version_is_that_of_the_package(run):
    code, out, _ = run("--version")
    assert (code, out) == (0, f"fer-client {importlib.metadata.version('fer-triton')}\n")


def test_a_file_name_that_is_no_text_is_printed_all_the_same(run, fake_triton, url, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    with open(name, "wb") as file:  # noqa: PTH123 - the name is the point here
        file.write(b"photo")
    code, out, _ = run("predict", name, "--url", url)
    assert code == 0
    assert r"caf\xe9.jpg: 640 x 480 px" in out


def test_ctrl_c_is_130_without_a_traceback(fake_triton, url, photo):
    fake_triton.delay_s = 20
    program = f"import sys; sys.path[:] = {sys.path!r}; import runpy; runpy.run_module('fer_client', alter_sys=True)"
    command = [sys.executable, "-c", program, "predict", photo, "--url", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not fake_triton.asked:  # Until the command waits for the server.
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "")
