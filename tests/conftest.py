"""Fixtures for the whole suite: the real Triton, the released classifier, pictures."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fer_build.assemble import assemble
from fer_serve.server import EmbeddedTriton

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A servable repository, as `make demo` serves it."""
    folder = tmp_path_factory.mktemp("assembled") / "repository"
    assemble(folder)
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


@pytest.fixture
def no_leftovers(repository: Path) -> Iterator[None]:
    """Fails if the test leaves a process of a server of its own, or a shared-memory region, behind."""
    before = _traces(repository)
    yield
    assert _traces(repository) <= before


def _traces(repository: Path) -> set[str]:
    """Processes that serve a repository of this test run, and regions that no process uses any more."""
    listed = psutil.process_iter(["cmdline"])
    command_lines = {process.pid: " ".join(process.info["cmdline"] or []) for process in listed}
    run_folder = str(repository.parents[1])
    processes = {f"{pid} {line}" for pid, line in command_lines.items() if run_folder in line and "triton" in line}
    regions = {path.name for path in Path("/dev/shm").glob("fer_*")}
    abandoned = {name for name in regions if not any(name.rsplit("_", 1)[0] in line for line in command_lines.values())}
    return processes | abandoned
