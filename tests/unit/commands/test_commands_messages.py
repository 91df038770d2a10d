"""Text for people: harmless in any terminal, and a guess at what a mistyped word was meant to be."""

import io
import sys

import pytest

from fer_commands.messages import (
    closest,
    did_you_mean,
    escape_what_cannot_be_encoded,
    one_line,
    printable,
    say,
    utf8_name,
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("写真\N{IDEOGRAPHIC SPACE}1.jpg", "写真\N{IDEOGRAPHIC SPACE}1.jpg"),
        ("9.41\N{NARROW NO-BREAK SPACE}AM.png", "9.41\N{NARROW NO-BREAK SPACE}AM.png"),
        ("a\x1b\r\n\x85\N{LINE SEPARATOR}b", r"a\x1b\r\n\x85\u2028b"),
        ("caf\udce9", r"caf\xe9"),
        ("B\udcc3\udcbccher", "Bücher"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_only_what_is_harmful_or_no_text_is_escaped(name, shown):
    assert printable(name) == shown
    assert one_line(shown) == shown


def test_a_name_is_the_same_text_in_every_locale():
    assert utf8_name("B\udcc3\udcbccher") == utf8_name("Bücher") == "Bücher"
    assert utf8_name("caf\udce9") == "caf\udce9"


def test_words_that_are_like_nothing_get_no_guess():
    assert closest("xyz", ["predict", "health"]) is None
    assert did_you_mean("xyz", ["predict", "health"]) == ""
    assert closest("-", ["--json"]) is None
    assert closest("FER_", ["FER_RETRIES"], by_beginning=False) is None


@pytest.mark.parametrize(
    ("word", "meant"), [("predct", "predict"), ("PREDICT", "predict"), ("comp", "compare"), ("qantize", "quantize")]
)
def test_a_mistyped_word_gets_the_one_that_was_meant(word, meant):
    assert did_you_mean(word, ["predict", "compare", "quantize"]) == f": did you mean {meant}?"


def test_the_shortest_word_of_a_beginning_is_meant():
    assert closest("pre", ["predict-many", "predict", "health"]) == "predict"


def test_what_is_said_is_one_line_whatever_is_in_it(capsys):
    say("fer-build quantize", "two\nlines\x1b[2J")
    assert capsys.readouterr() == ("", "fer-build quantize: two\\nlines\\x1b[2J\n")


def test_a_closed_standard_error_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    say("fer-serve", "nobody hears this")


def test_what_a_terminal_lacks_is_written_as_python_would(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", "strict"))
    escape_what_cannot_be_encoded()
    sys.stdout.write("Bücher")
    sys.stdout.flush()
    assert raw.getvalue() == rb"B\xfccher"
