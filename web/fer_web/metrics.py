"""What Prometheus reads."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts of one service. Paths are counted by the route that they belong to, so that their number is bounded."""

    def __init__(self) -> None:
        """Count from zero."""
        self._registry = CollectorRegistry()
        self.requests = Counter("fer_web_requests", "Requests answered.", ["route", "status"], registry=self._registry)
        self.request_seconds = Histogram(
            "fer_web_request_seconds", "From a request's head to the end of its answer.", ["route"],
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.images = Counter(
            "fer_web_images", "Pictures asked about: `answered`, or the kind of problem.", ["outcome"],
            registry=self._registry,
        )  # fmt: skip
        self.faces = Counter("fer_web_faces", "Faces answered.", registry=self._registry)
        self.inference_seconds = Histogram(
            "fer_web_inference_seconds", "What the model server took for a picture.",
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.wait_seconds = Histogram(
            "fer_web_wait_seconds", "What a picture waited for its turn.", buckets=_SECONDS, registry=self._registry
        )
        self.in_flight = Gauge("fer_web_requests_in_flight", "Requests with pictures.", registry=self._registry)
        self.buffered_bytes = Gauge("fer_web_buffered_bytes", "Of request bodies held.", registry=self._registry)

    def render(self) -> bytes:
        """Return Prometheus' text."""
        return generate_latest(self._registry)
