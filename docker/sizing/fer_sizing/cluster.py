"""Servers that come and go: the Deployment, its rollout, the autoscaler and the requests.

Called by `fer_sizing.scenarios`. Time goes in steps of a second for everything but the requests, which have their own
times.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fer_sizing.arrivals import Floats
from fer_sizing.autoscaler import SYNC_S, Autoscaler
from fer_sizing.rendered import Pod, QueueLimits, Scaling
from fer_sizing.servers import SCRAPE_S, Server


@dataclass(frozen=True)
class Assumptions:
    """What no manifest says and nobody measured on a cluster here. Each is a guess on the cautious side."""

    start_s: tuple[float, float] = (30.0, 60.0)
    """From the order to readiness: scheduling, an image that is on the node, assembling, loading, probes. Uniform."""
    propagation_s: tuple[float, float] = (1.0, 10.0)
    """Until all proxies and clients know of a pod's coming or going. Uniform."""
    work_variation: float = 0.5
    """Standard deviation of an image's work, as a part of its mean. Log-normal."""


@dataclass(frozen=True)
class Service:
    """What is simulated."""

    pod: Pod
    limits: QueueLimits
    work_s: float
    """Mean seconds of one core for an image."""
    objective_s: float
    scaling: Scaling | None = None
    """None: the number of replicas is fixed."""
    assumptions: Assumptions = Assumptions()


@dataclass
class Series:
    """What happened, by second."""

    offered: Floats
    late: Floats
    shed: Floats
    """Refused with 503 by a full queue."""
    refused: Floats
    """Sent to a server that had closed its port, or to none."""
    pods: Floats
    """All that cost something: starting, serving and ending."""
    serving: Floats

    @classmethod
    def of(cls, seconds: int) -> "Series":
        """Nothing yet."""
        return cls(*(np.zeros(seconds) for _ in range(6)))

    @property
    def lost(self) -> Floats:
        """Never answered."""
        return self.shed + self.refused


class Cluster:
    """A Deployment of servers under load."""

    def __init__(self, service: Service, replicas: int, seed: int) -> None:
        """Starts with so many servers, all of them ready."""
        self._service = service
        self._rng = np.random.default_rng(seed)
        self._autoscaler = Autoscaler(service.scaling) if service.scaling else None
        self._generation = 0
        self.replicas = replicas
        self.servers = [self._start(-SCRAPE_S * 10.0, start_s=0.0) for _ in range(replicas)]

    def run(self, arrivals: Callable[[int], int], seconds: int, rollout_at_s: int | None = None) -> Series:
        """Lets so much time pass.

        Args:
            arrivals: how many images come in a second.
            seconds: how long.
            rollout_at_s: when a new version is rolled out.
        """
        series = Series.of(seconds)
        for second in range(seconds):
            if second == rollout_at_s:
                self._generation += 1
            self._step(second)
            series.pods[second] = len(self.servers)
            self._serve(second, arrivals(second), series)
        return series

    def _step(self, now_s: int) -> None:
        self.servers = [server for server in self.servers if server.gone_s() > now_s]
        for server in self.servers:
            server.scrape(now_s)
        if self._autoscaler and now_s % SYNC_S == 0:
            staying = [server for server in self.servers if not server.is_ending]
            told = [metrics for metrics in (server.metrics(now_s) for server in staying) if metrics]
            by_name = {name: [metrics[name] for metrics in told] for name in (told[0] if told else ())}
            if by_name:
                self.replicas = self._autoscaler.decide(now_s, self.replicas, by_name, len(staying) - len(told))
        self._reconcile(now_s)

    def _reconcile(self, now_s: int) -> None:
        """What the Deployment's controller does: first the number, then the version."""
        pod = self._service.pod
        staying = [server for server in self.servers if not server.is_ending]
        old = [server for server in staying if server.generation < self._generation]
        limit = self.replicas + (pod.max_surge if old else 0)
        current = len(staying) - len(old)
        for _ in range(min(limit - len(staying), self.replicas - current)):
            self.servers.append(self._start(now_s))
        available = [server for server in staying if now_s >= server.ready_s + pod.min_ready_s]
        if old:
            spare = len(available) - (self.replicas - pod.max_unavailable)
            ending = sorted(old, key=lambda server: server in available)[: max(0, spare)]
        else:  # those that are not ready first, then the youngest
            surplus = len(staying) - self.replicas
            ending = sorted(staying, key=lambda server: (server.ready_s <= now_s, -server.created_s))[: max(0, surplus)]
        for server in ending:
            self._end(server, now_s)

    def _start(self, now_s: float, start_s: float | None = None) -> Server:
        assumed = self._service.assumptions
        ready_s = now_s + (self._rng.uniform(*assumed.start_s) if start_s is None else start_s)
        return Server(
            instances=self._service.pod.instances,
            limits=self._service.limits,
            created_s=now_s,
            ready_s=ready_s,
            routed_s=ready_s + self._rng.uniform(*assumed.propagation_s),
            scrape_phase_s=float(self._rng.integers(SCRAPE_S)),
            generation=self._generation,
        )

    def _end(self, server: Server, now_s: float) -> None:
        pod = self._service.pod
        server.unrouted_s = now_s + self._rng.uniform(*self._service.assumptions.propagation_s)
        server.sigterm_s = now_s + pod.pre_stop_s
        server.killed_s = now_s + pod.grace_s

    def _serve(self, second: int, images: int, series: Series) -> None:
        routed = [server for server in self.servers if server.routed_s <= second < server.unrouted_s]
        series.serving[second] = len(routed)
        series.offered[second] = images
        if not routed:
            series.refused[second] = images
            return
        variation = np.log1p(self._service.assumptions.work_variation**2)
        # As when all are busy: 2 instances on one core take twice as long.
        slowdown = self._service.pod.instances / self._service.pod.cores
        mean = np.log(self._service.work_s * slowdown) - variation / 2
        times = second + np.sort(self._rng.random(images))
        works = self._rng.lognormal(mean, np.sqrt(variation), images)
        picks = self._rng.integers(len(routed), size=images)
        objective_s, late, shed, refused = self._service.objective_s, 0, 0, 0
        for now_s, work_s, pick in zip(times.tolist(), works.tolist(), picks.tolist(), strict=True):
            server = routed[pick]
            took_s = server.offer(now_s, work_s)
            if took_s is None:
                refused += now_s >= server.sigterm_s
                shed += now_s < server.sigterm_s
            elif took_s > objective_s:
                late += 1
        series.late[second], series.shed[second], series.refused[second] = late, shed, refused
