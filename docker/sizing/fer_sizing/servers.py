"""One server: fer_preprocess's instances behind one queue with limits. Called by `fer_sizing.cluster`.

A request waits in the order of arrival for the first free instance. What comes after preprocessing takes a fraction of
it and is part of the work.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from fer_sizing.rendered import QueueLimits

WINDOW_S: Final = 60
"""Of the rates and averages that the autoscaler gets: [1m] in prometheus-adapter-values.yaml."""

SCRAPE_S: Final = 15
"""The PodMonitor's interval."""

NEVER: Final = float("inf")


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
    """From then on requests come: proxies have heard of it."""
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
        """All instances are free when it is ready."""
        self._free = [self.ready_s] * self.instances

    @property
    def is_ending(self) -> bool:
        """Whether it has been told to end."""
        return self.sigterm_s < NEVER

    def gone_s(self) -> float:
        """When its last process is gone, once it is ending: drained, or killed."""
        return min(max(self.sigterm_s, *self._free), self.killed_s) if self.is_ending else NEVER

    def offer(self, now_s: float, work_s: float) -> float | None:
        """A request comes, which takes an instance so long. Returns the seconds until it is answered, None if never."""
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
        """Prometheus reads the counters, if it is this server's turn."""
        if now_s < self.ready_s or (now_s - self.scrape_phase_s) % SCRAPE_S:
            return
        pending = sum(start > now_s for start in self._starts)
        self._samples.append(Counters(now_s, self._requests, self._waited_s, self._worked_s, pending))
        while self._samples[0].at_s <= now_s - WINDOW_S:
            self._samples.popleft()

    def metrics(self, now_s: float) -> dict[str, float] | None:
        """What the autoscaler is told of this pod, by the metrics' names; None while it has too few samples."""
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
