"""What the simulation needs to know of the chart, read from its rendered manifests: nothing is repeated here.

Called by `fer_sizing.simulate`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fer_contract as contract
from fer_sizing.errors import SizingError

Manifests = Sequence[dict[str, Any]]

_SUFFIXES: Final = {"m": 1e-3, "": 1.0, "k": 1e3}

_OBJECTIVE_RULE: Final = "fer:latency_objective_seconds"


@dataclass(frozen=True)
class Policy:
    """How fast one direction may go: the larger of the two, within the period."""

    stabilization_s: int
    percent: int
    pods: int
    period_s: int


@dataclass(frozen=True)
class Scaling:
    """The HorizontalPodAutoscaler."""

    min_replicas: int
    max_replicas: int
    targets: dict[str, float]
    """Average value of a pod that is aimed at, by metric."""
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
        """Of fer_preprocess on a CPU: one per core, two at least."""
        return max(2, self.cores)


@dataclass(frozen=True)
class QueueLimits:
    """fer_preprocess's, from its config.pbtxt."""

    requests: int
    wait_s: float


def read_quantity(text: str | int) -> float:
    """A number as Kubernetes writes it: `2800m` -> 2.8.

    Raises:
        SizingError: it isn't one of the kind that is used here.
    """
    match = re.fullmatch(r"([0-9.]+)([mk]?)", str(text))
    if match is None:
        raise SizingError(f"expected a quantity like 4 or 2800m, found {text!r}")
    return float(match[1]) * _SUFFIXES[match[2]]


def find_one(manifests: Manifests, kind: str) -> dict[str, Any]:
    """The only manifest of a kind.

    Raises:
        SizingError: there is none, or more than one.
    """
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    if len(found) != 1:
        raise SizingError(
            f"expected one {kind} in the rendered chart, found {len(found)}: simulate one pool, scaled by hpa"
        )
    return found[0]


def read_scaling(manifests: Manifests) -> Scaling:
    """The autoscaler of a rendered chart."""
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
        raise SizingError(f"expected the larger of a Percent and a Pods policy, found {behavior}")
    return Policy(
        stabilization_s=behavior["stabilizationWindowSeconds"],
        percent=by_type["Percent"]["value"],
        pods=by_type["Pods"]["value"],
        period_s=by_type["Pods"]["periodSeconds"],
    )


def read_pod(manifests: Manifests) -> Pod:
    """The server's pod of a rendered chart."""
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
    """The latency objective of the chart's alerts, s."""
    groups = find_one(manifests, "PrometheusRule")["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"] if rule.get("record") == _OBJECTIVE_RULE]
    match = re.fullmatch(r"vector\(([0-9.]+)\)", rules[0]["expr"]) if rules else None
    if match is None:
        raise SizingError(f"expected one rule {_OBJECTIVE_RULE} with vector(SECONDS) in the chart's PrometheusRule")
    return float(match[1])


def read_queue_limits() -> QueueLimits:
    """The limits of fer_preprocess's queue."""
    config = Path(contract.__file__).with_name(contract.PREPROCESS_MODEL) / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    figures = [re.search(rf"{name}: (\d+)", text) for name in ("max_queue_size", "default_timeout_microseconds")]
    size, timeout = (int(figure[1]) if figure else None for figure in figures)
    if size is None or timeout is None:
        raise SizingError(f"expected max_queue_size and default_timeout_microseconds in {config}")
    return QueueLimits(size, timeout / 1e6)
