"""A Deployment under load: the requests, the servers that come and go, the rollout and the autoscaler.

Time goes in steps of a second for everything but the requests, which have their own times. In a server, a request waits
in the order of arrival for the first free instance of fer_preprocess, behind one queue with limits. What comes after
preprocessing takes a fraction of it and is part of the work.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fer_sizing.autoscaler import SYNC_S, Autoscaler
from fer_sizing.chart import Pod, QueueLimits, Scaling

Floats = npt.NDArray[np.float64]

WINDOW_S: Final = 60
"""Length of the rates and averages that the autoscaler gets: [1m] in prometheus-adapter-values.yaml."""

SCRAPE_S: Final = 15
"""The PodMonitor's interval."""

NEVER: Final = float("inf")


@dataclass(frozen=True)
class Day:
    """The load that is assumed: a smooth curve over the day, and one spike."""

    peak_per_s: float
    """Images per second at 14:00, without the spike."""
    night_share: float = 0.15
    """Share of the peak that comes at 2:00."""
    spike_factor: float = 3.0
    """The factor by which the spike multiplies the curve."""
    spike_at_h: float = 16.0
    spike_rise_s: float = 60.0
    spike_s: float = 900.0
    """How long the spike stays up; then it falls as fast as it rose."""

    def rate(self, second_of_day: npt.ArrayLike) -> Floats:
        """Return the expected images per second at these seconds of the day."""
        second = np.asarray(second_of_day, np.float64)
        wave = (1 - np.cos(2 * np.pi * (second / 3600 - 2) / 24)) / 2  # 0 at 2:00, 1 at 14:00
        curve = self.peak_per_s * (self.night_share + (1 - self.night_share) * wave)
        start, rise = 3600 * self.spike_at_h, self.spike_rise_s
        corners = [start, start + rise, start + rise + self.spike_s, start + 2 * rise + self.spike_s]
        factor = np.interp(second, corners, [1.0, self.spike_factor, self.spike_factor, 1.0])
        return np.asarray(curve * factor, np.float64)


def count_arrivals(rate: Floats, generator: np.random.Generator) -> npt.NDArray[Any]:
    """Return how many images come in each second (Poisson), int64, of the shape of `rate`."""
    return generator.poisson(rate)


@dataclass
class Counters:
    """What Triton has counted since the start, and how many wait now."""

    at_s: float
    requests: int
    waited_s: float
    worked_s: float
    pending: int


@dataclass
class Server:
    """A pod from its creation to its end."""

    instances: int
    limits: QueueLimits
    created_s: float
    ready_s: float
    routed_s: float
    """When requests begin to come: proxies have heard of it."""
    scrape_phase_s: float
    generation: int = 0
    unrouted_s: float = NEVER
    sigterm_s: float = NEVER
    killed_s: float = NEVER
    _free: list[float] = field(default_factory=list)
    _starts: deque[float] = field(default_factory=deque)
    _requests: int = 0
    _waited_s: float = 0.0
    _worked_s: float = 0.0
    _samples: deque[Counters] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Let all instances be free when it is ready."""
        self._free = [self.ready_s] * self.instances

    @property
    def is_ending(self) -> bool:
        """Whether it has been told to end."""
        return self.sigterm_s < NEVER

    def gone_s(self) -> float:
        """Return when its last process is gone, drained or killed; `NEVER` unless it is ending."""
        return min(max(self.sigterm_s, *self._free), self.killed_s) if self.is_ending else NEVER

    def offer(self, now_s: float, work_s: float) -> float | None:
        """Take a request of so much work. Return the seconds to its answer, or None where it gets none."""
        if now_s >= self.sigterm_s:
            return None  # the port is closed
        starts = self._starts
        while starts and starts[0] <= now_s:
            starts.popleft()
        start_s = max(now_s, self._free[0])
        end_s = start_s + work_s
        if start_s > now_s:
            if len(starts) >= self.limits.requests or start_s - now_s > self.limits.wait_s:
                return None  # 503
            if end_s > self.killed_s:
                return None  # it would never be finished
            starts.append(start_s)
        heapq.heapreplace(self._free, end_s)
        self._requests += 1
        self._waited_s += start_s - now_s
        self._worked_s += work_s
        return end_s - now_s

    def scrape(self, now_s: float) -> None:
        """Let Prometheus read the counters, if it is this server's turn."""
        if now_s < self.ready_s or (now_s - self.scrape_phase_s) % SCRAPE_S:
            return
        pending = sum(start > now_s for start in self._starts)
        self._samples.append(Counters(now_s, self._requests, self._waited_s, self._worked_s, pending))
        while self._samples[0].at_s <= now_s - WINDOW_S:
            self._samples.popleft()

    def metrics(self, now_s: float) -> dict[str, float] | None:
        """Return what the autoscaler is told of this pod, by metric; None while there are too few samples."""
        samples = [sample for sample in self._samples if sample.at_s > now_s - WINDOW_S]
        if len(samples) < 2:  # no rate
            return None
        first, last = samples[0], samples[-1]
        requests = last.requests - first.requests
        return {
            "fer_preprocess_busy_instances": (last.worked_s - first.worked_s) / (last.at_s - first.at_s),
            "fer_preprocess_queue_milliseconds": 1000 * (last.waited_s - first.waited_s) / max(requests, 1),
            "fer_preprocess_pending_requests": sum(sample.pending for sample in samples) / len(samples),
            # Not simulated: the classifier is far from full while preprocessing is the bottleneck.
            "fer_classifier_queue_milliseconds": 0.0,
            "fer_classifier_pending_requests": 0.0,
        }


@dataclass(frozen=True)
class Assumptions:
    """What no manifest says and nobody measured on a cluster here. Each is a guess on the cautious side."""

    start_s: tuple[float, float] = (30.0, 60.0)
    """Seconds from the order of a pod to its readiness, with the image on the node already. Uniform."""
    propagation_s: tuple[float, float] = (1.0, 10.0)
    """Seconds until all proxies and clients know of a pod's coming or going. Uniform."""
    work_variation: float = 0.5
    """Standard deviation of an image's work, as a part of its mean. Log-normal."""


@dataclass(frozen=True)
class Service:
    """What is simulated."""

    pod: Pod
    limits: QueueLimits
    work_s: float
    """Mean seconds of one core that an image takes."""
    objective_s: float
    scaling: Scaling | None = None
    """The autoscaler; None where the number of replicas is fixed."""
    assumptions: Assumptions = Assumptions()


@dataclass
class Series:
    """What happened in each second."""

    offered: Floats
    late: Floats
    shed: Floats
    """Images refused with 503 by a full queue."""
    refused: Floats
    """Images sent to a server that had closed its port, or to none."""
    pods: Floats
    """Pods that cost something: starting, serving and ending ones."""
    serving: Floats

    @classmethod
    def of(cls, seconds: int) -> "Series":
        """Return series of so many seconds, all zero."""
        return cls(*(np.zeros(seconds) for _ in range(6)))

    @property
    def lost(self) -> Floats:
        """Images that were never answered."""
        return self.shed + self.refused


class Cluster:
    """A Deployment of servers under load."""

    def __init__(self, service: Service, replicas: int, seed: int) -> None:
        """Start with so many servers, all of them ready."""
        self._service = service
        self._rng = np.random.default_rng(seed)
        self._autoscaler = Autoscaler(service.scaling) if service.scaling else None
        self._generation = 0
        self.replicas = replicas
        self.servers = [self._start(-SCRAPE_S * 10.0, start_s=0.0) for _ in range(replicas)]

    def run(self, arrivals: Callable[[int], int], seconds: int, rollout_at_s: int | None = None) -> Series:
        """Let time pass.

        Args:
            arrivals: Returns how many images come in a second, by its number.
            seconds: How much time.
            rollout_at_s: When a new version is rolled out; None for never.
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
        """Do what the Deployment's controller does: first the number, then the version."""
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
