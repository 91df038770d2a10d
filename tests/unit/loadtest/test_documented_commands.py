"""The commands that the documents give: the load test understands each, with the options that it has today."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from fer_loadtest.options import add_options, read_options

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "loadtest" / "README.md", ROOT / "Makefile"]
LOCUSTS_OWN = {"--processes", "--master", "--expect-workers", "--worker", "--master-host"}


def commands():
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    return sorted(set(re.findall(r"python -m fer_loadtest(?:\.capacity)?(?: -[^`#\n]*)?(?=`| *#|\n)", text)))


def test_there_are_some():
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_is_understood(command):
    _, _, module, *words = shlex.split(command)
    is_search = module.endswith(".capacity")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser, is_search=is_search)
    given, others = parser.parse_known_args([*(["--shape", "capacity"] if is_search else []), *words])
    read_options(given, {})
    assert {word for word in others if word.startswith("-")} <= LOCUSTS_OWN
