"""The command line of `fer-web`, up to the point where it would serve."""

import json

import pytest

from fer_web.cli import main
from fer_web.run import _parser, read_limits
from fer_web.settings import Limits, Tokens


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--tls-cert", "a.crt"], "--tls-cert and --tls-key belong together"),
        (["--tls-cert", "a.crt", "--tls-key", "a.key"], "expected a certificate and its key in PEM"),
        (["--token-file", "short.txt"], "short.txt, line 1: expected a token of at least 16 ASCII characters"),
        (["--token-file", "empty.txt"], "empty.txt: expected one token a line, and there is none"),
        (["--token-file", "picture.txt"], "picture.txt: expected a text file"),
        (["--token-file", "missing.txt"], "missing.txt: No such file"),
        (["--url", "ftp://a"], "--url: "),
        (["--cors-origin", "https://a/path"], "expected https://HOST[:PORT] without a path"),
        (["--max-images", "0"], "--max-images: expected more than 0"),
        (["--max-image-mib", "nan"], "--max-image-mib: expected more than 0"),
        (["--images-per-s", "-1"], "--images-per-s: expected more than 0"),
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
        (["--port", "99999"], "expected a number from 0 to 65535"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_remedy(tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("short\n")
    (tmp_path / "empty.txt").write_text("# none\n\n")
    (tmp_path / "picture.txt").write_bytes(b"\xff\xd8\xff")
    try:
        code = main(["--port", "0", *words])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr().err
    assert code in (1, 2)
    assert line in printed.splitlines()[-1]
    assert "Traceback" not in printed


def test_without_options_the_limits_are_the_documented_ones():
    assert read_limits(_parser().parse_args([])) == Limits()


def test_options_set_the_limits():
    words = ["--max-image-mib", "0.5", "--max-images", "3", "--images-per-s", "2.5", "--wait-s", "1"]
    limits = read_limits(_parser().parse_args(words))
    expected = (1 << 19, 3, 2.5, 1.0)
    assert (limits.max_image_bytes, limits.max_images, limits.images_per_s, limits.wait_s) == expected


def test_the_openapi_document_is_printed_for_generators(capsys):
    assert main(["openapi"]) == 0
    assert "/v1/faces" in json.loads(capsys.readouterr().out)["paths"]


def test_a_service_that_everyone_can_reach_says_so(capsys):
    assert main(["--host", "0.0.0.0", "--port", "0", "--tls-cert", "no.crt", "--tls-key", "no.key"]) == 2
    assert "everyone who reaches 0.0.0.0 may use it: --token-file asks for a token" in capsys.readouterr().err


def test_tokens_are_read_without_comments_and_compared_whole(tmp_path):
    (tmp_path / "tokens").write_text("# operators\nfirst-token-is-long\n\n  second-token-is-long  \n")
    tokens = Tokens.read(tmp_path / "tokens")
    assert [tokens.accept(t) for t in ("first-token-is-long", "second-token-is-long")] == [True, True]
    assert not any(map(tokens.accept, ("", "first", "first-token-is-longer", "# operators")))
