"""The real helm, and the chart rendered with each of its ci/ values."""

from functools import cache
from pathlib import Path

import pytest

from fer_sizing.errors import SizingError
from fer_sizing.helm import CHART, render, unpack_tool

CI_VALUES = sorted(path.name for path in (CHART / "ci").glob("*.yaml"))


@pytest.fixture(scope="session")
def helm(tmp_path_factory):
    try:
        return unpack_tool("helm", tmp_path_factory.mktemp("tools"))
    except SizingError as error:
        pytest.skip(str(error))


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
