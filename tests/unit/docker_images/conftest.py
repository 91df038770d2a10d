"""The Dockerfile taken apart."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


@dataclass
class Stage:
    """What is between a FROM and the next."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name):
        return [words for instruction, words in self.instructions if instruction == name]

    def last(self, name):
        return self.all(name)[-1]


@dataclass
class Dockerfile:
    arguments: dict[str, str]
    """Of the ARGs before the first FROM."""
    stages: dict[str, Stage]

    def chain(self, name):
        """A stage and the stages that it is built on."""
        while name in self.stages:
            yield self.stages[name]
            name = self.stages[name].base


def parse(text):
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    arguments, stages = {}, []
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        instruction, _, words = " ".join(line.split()).partition(" ")
        if instruction == "FROM":
            base, _, name = words.partition(" AS ")
            stages.append(Stage(name, base))
        elif stages and instruction:
            stages[-1].instructions.append((instruction, words))
        elif instruction == "ARG":
            name, _, value = words.partition("=")
            arguments[name] = value
    return Dockerfile(arguments, {stage.name: stage for stage in stages})


def read_labels(stage):
    return dict(word.split("=", 1) for word in shlex.split(stage.last("LABEL")))


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def dockerfile():
    return parse(DOCKERFILE.read_text())


@pytest.fixture(params=["cpu", "gpu", "client", "loadtest"])
def image(request, dockerfile):
    """Each stage that becomes an image."""
    return dockerfile.stages[request.param]


@pytest.fixture(scope="session")
def labels():
    return read_labels
