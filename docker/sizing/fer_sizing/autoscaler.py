"""The HorizontalPodAutoscaler's algorithm for Pods metrics.

Source: k8s.io/kubernetes 1.37, pkg/controller/podautoscaler, replica_calculator.go
(calcPlainMetricReplicas) and horizontal.go (stabilisation, rates).
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from fer_sizing.chart import Policy, Scaling

SYNC_S: Final = 15
"""Seconds between decisions: --horizontal-pod-autoscaler-sync-period."""

TOLERANCE: Final = 0.1
"""Distance from 1 at which the ratio changes nothing: --horizontal-pod-autoscaler-tolerance."""


class Autoscaler:
    """Decides how many replicas there should be, and remembers what it did, because its rate limits need that."""

    def __init__(self, scaling: Scaling) -> None:
        """Start without a past, for one Deployment."""
        self._scaling = scaling
        self._wanted: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, now_s: float, replicas: int, metrics: Mapping[str, Sequence[float]], missing: int) -> int:
        """Return the number of replicas from now on.

        Args:
            now_s: The time.
            replicas: How many the Deployment has been told to have.
            metrics: Values by the metric's name, one for each pod that has one.
            missing: How many pods have no values, because they have just been started.
        """
        proposals = [
            propose(replicas, metrics[name], target, missing) for name, target in self._scaling.targets.items()
        ]
        wanted = min(max(*proposals, self._scaling.min_replicas), self._scaling.max_replicas)
        decided = self._limit_rate(now_s, replicas, self._stabilize(now_s, replicas, wanted))
        if decided != replicas:
            self._changes.append((now_s, decided - replicas))
        return decided

    def _stabilize(self, now_s: float, replicas: int, wanted: int) -> int:
        """Go down only to the highest of what was wanted lately, up only to the lowest."""
        self._wanted.append((now_s, wanted))
        longest = max(self._scaling.up.stabilization_s, self._scaling.down.stabilization_s)
        while self._wanted[0][0] < now_s - longest:
            self._wanted.popleft()
        up = min(number for at, number in self._wanted if at >= now_s - self._scaling.up.stabilization_s)
        down = max(number for at, number in self._wanted if at >= now_s - self._scaling.down.stabilization_s)
        return min(max(replicas, up), max(down, up))

    def _limit_rate(self, now_s: float, replicas: int, wanted: int) -> int:
        if wanted > replicas:
            before = replicas - self._changed(now_s, self._scaling.up, 1)
            return min(
                wanted, max(before + self._scaling.up.pods, math.ceil(before * (1 + self._scaling.up.percent / 100)))
            )
        before = replicas - self._changed(now_s, self._scaling.down, -1)
        limit = min(before - self._scaling.down.pods, math.floor(before * (1 - self._scaling.down.percent / 100)))
        return max(wanted, min(replicas, limit))

    def _changed(self, now_s: float, policy: Policy, sign: int) -> int:
        """Return by how much the number has changed in one direction within the policy's period."""
        while self._changes and self._changes[0][0] < now_s - 1800:  # the longest period there may be
            self._changes.popleft()
        return sum(by for at, by in self._changes if at > now_s - policy.period_s and by * sign > 0)


def propose(replicas: int, values: Sequence[float], target: float, missing: int) -> int:
    """Return the number of replicas that one metric asks for.

    Args:
        replicas: How many there are now.
        values: The values of the pods that have one.
        target: The average that is aimed at.
        missing: How many pods have no value. To go up they count as idle, to go down as just right.
    """
    if not values:
        return replicas
    ratio = sum(values) / len(values) / target
    if not missing:
        return replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(ratio * len(values))
    pods = len(values) + missing
    assumed = target if ratio < 1 else 0.0
    careful = (sum(values) + assumed * missing) / pods / target
    if abs(careful - 1) <= TOLERANCE or (ratio < 1) != (careful < 1):
        return replicas
    proposed = math.ceil(careful * pods)
    return replicas if (proposed > replicas) != (careful > 1) else proposed
