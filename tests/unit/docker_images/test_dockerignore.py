"""What Docker is sent: all that the Dockerfile copies, and nothing else."""

import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest


@pytest.fixture(scope="module")
def copied(dockerfile):
    """What COPY takes from the checkout."""
    instructions = [words for stage in dockerfile.stages.values() for words in stage.all("COPY")]
    return {source for words in instructions if "--from=" not in words for source in words.split()[:-1]}


@pytest.fixture(scope="module")
def is_sent(root):
    """Docker's rule, for our kinds of pattern: the last that matches a path or a folder above it decides."""
    lines = (root / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"\*|\*\*/[\w.]+|![\w./]+", pattern) for pattern in patterns), "a kind not known here"

    def matches(path, pattern):
        if pattern.startswith("**/"):
            return any(fnmatchcase(part, pattern[3:]) for part in PurePosixPath(path).parts)
        return pattern == "*" or path == pattern or path.startswith(f"{pattern}/")

    def decide(path):
        sent = True
        for pattern in patterns:
            if matches(path, pattern.removeprefix("!")):
                sent = pattern.startswith("!")
        return sent

    return decide


def test_everything_that_is_copied_is_sent(copied, is_sent, root):
    for source in copied:
        path = root / source.rstrip("/")
        assert path.exists(), source
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        sent = [file for file in files if is_sent(file.relative_to(root).as_posix())]
        assert sent, source
        assert all("__pycache__" in file.parts for file in set(files) - set(sent)), source


def test_nothing_else_is_sent(copied, is_sent, root):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for file in filter(is_sent, listed):
        assert any(file == source or file.startswith(f"{source.rstrip('/')}/") for source in copied), file


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".env",
        "runs/compact/checkpoint.pt",
        "demo/astronaut.png",
        "built/fer_classifier_int8.onnx",
        "repository/manifest.json",
        "tests/conftest.py",
        "training/fer_training/train.py",
        "training/fer2013.csv",
        "triton_models/__pycache__/fer_faces.cpython-311.pyc",
        "docker/compose.yaml",
        "README.md",
    ],
)
def test_what_is_private_large_or_of_no_use_stays_here(is_sent, path):
    assert not is_sent(path)
