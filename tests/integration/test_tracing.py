"""OpenTelemetry: a real server sends its spans to a collector, here a small HTTP server that keeps what it gets."""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tritonclient.http
from pictures import image_tensor

from fer_contract import FER_MODEL, PREPROCESS_MODEL
from fer_serve.server import EmbeddedTriton

Span = dict[str, Any]


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, in JSON, as Triton 2.51 sends it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.spans: list[Span] = []
        self.services: set[str] = set()
        threading.Thread(target=self.serve_forever, name="collector").start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def trace(self, trace_id: str, spans: int) -> list[Span]:
        """The spans of a trace, once there are as many."""
        deadline = time.monotonic() + 20
        while len(found := [span for span in self.spans if span["traceId"] == trace_id]) < spans:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found

    def receive(self, body: bytes) -> None:
        for of_resource in json.loads(body)["resourceSpans"]:
            attributes = of_resource["resource"]["attributes"]
            self.services |= {a["value"]["stringValue"] for a in attributes if a["key"] == "service.name"}
            self.spans += [span for of_scope in of_resource["scopeSpans"] for span in of_scope["spans"]]


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.receive(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running
        running.shutdown()


class TracingTriton(EmbeddedTriton):
    """A server with the flags of OBSERVABILITY.md, which traces requests that ask for it and no others."""

    def __init__(self, repository: Path, collector: Collector) -> None:
        super().__init__(repository, exit_timeout_s=2)
        self._collector = collector

    def _flags(self, backends: Path) -> list[str]:
        return [
            *super()._flags(backends),
            "--trace-config=mode=opentelemetry",
            "--trace-config=level=TIMESTAMPS",
            "--trace-config=rate=0",
            f"--trace-config=opentelemetry,url={self._collector.url}",
            "--trace-config=opentelemetry,resource=service.name=fer-triton",
            "--trace-config=opentelemetry,bsp_schedule_delay=200",
        ]


@pytest.fixture(scope="module")
def traced(repository: Path, collector: Collector) -> Iterator[EmbeddedTriton]:
    with TracingTriton(repository, collector) as server:
        yield server


def send(server: EmbeddedTriton, image: bytes, **headers: str) -> None:
    with tritonclient.http.InferenceServerClient(server.http_url) as client:
        client.infer(FER_MODEL, [image_tensor(tritonclient.http, image)], headers=headers)


def test_a_request_with_a_trace_context_is_traced_through_all_models(traced, collector, astronaut):
    trace_id, caller = secrets.token_hex(16), secrets.token_hex(8)
    send(traced, astronaut)  # one that asks for nothing
    send(traced, astronaut, traceparent=f"00-{trace_id}-{caller}-01")
    spans = collector.trace(trace_id, spans=4)

    by_id = {span["spanId"]: span for span in spans}
    parents = {span["name"]: by_id[span["parentSpanId"]]["name"] for span in spans if span.get("parentSpanId") in by_id}
    assert parents[PREPROCESS_MODEL] == FER_MODEL
    assert parents[FER_MODEL] == "InferRequest"
    (outermost,) = [span for span in spans if span["name"] == "InferRequest"]
    assert outermost["parentSpanId"] == caller
    computed_in = {by_id[span["parentSpanId"]]["name"] for span in spans if span["name"] == "compute"}
    assert computed_in == {PREPROCESS_MODEL}
    assert {span["traceId"] for span in collector.spans} == {trace_id}, "nobody asked for the others"
    assert collector.services == {"fer-triton"}


def test_spans_have_no_content_of_images(traced, collector, astronaut):
    trace_id = secrets.token_hex(16)
    send(traced, astronaut, traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-01")
    keys = {a["key"] for span in collector.trace(trace_id, spans=4) for a in span.get("attributes", [])}
    assert keys <= {
        f"triton.{name}" for name in ("model_name", "model_version", "trace_id", "trace_parent_id", "request_id")
    }
