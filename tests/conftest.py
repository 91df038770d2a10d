"""Fixtures for the whole suite: the real Triton, the released classifier, pictures."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer_build.assemble import RELEASED_ONNX, assemble
from fer_build.server import EmbeddedTriton

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A servable repository with the released classifier."""
    folder = tmp_path_factory.mktemp("assembled") / "repository"
    assemble(folder, RELEASED_ONNX)
    return folder


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[EmbeddedTriton]:
    """A running Triton, shared by all tests that leave it as they find it."""
    with EmbeddedTriton(repository, exit_timeout_s=2) as running:
        yield running


@pytest.fixture(scope="session")
def astronaut() -> bytes:
    """A PNG of 512x512 px with one smiling face."""
    return (ROOT / "examples" / "astronaut.png").read_bytes()


@pytest.fixture(scope="session")
def fer2013_dir() -> Path:
    """The folder with fer2013.csv."""
    folder = os.environ.get("FER2013_DIR")
    if not folder:
        pytest.skip("FER2013_DIR is not set: it names the folder with fer2013.csv, which can't be shipped")
    return Path(folder)


@pytest.fixture
def no_leftovers() -> Iterator[None]:
    """Fails if the test leaves a process of a server of its own, or a shared-memory region, behind."""
    before = _traces()
    yield
    assert _traces() <= before


def _traces() -> set[str]:
    processes = subprocess.run(["pgrep", "-f", "triton_python_backend_stub|bin/tritonserver"], capture_output=True)
    return set(processes.stdout.decode().split()) | {str(path) for path in Path("/dev/shm").glob("fer_*")}
