"""Triton's `/metrics`, read before, during and after a test: what the server itself says about the load.

Beside them, how busy the machine is that the test runs on.
"""

from __future__ import annotations

import re
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gevent
import psutil

import fer_contract as contract

_EVERY_S: Final = 2.0
"""Interval at which Triton renews its figures of CPU and GPU."""
_TIMEOUT_S: Final = 5.0
_WANTED: Final = re.compile(r"^((?:nv_inference|nv_cpu|nv_gpu|fer)_\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

MODELS: Final = (
    contract.FER_MODEL,
    contract.PREPROCESS_MODEL,
    contract.CLASSIFIER_MODEL,
    contract.POSTPROCESS_MODEL,
)

Series = tuple[str, str, str]
"""Name of a metric, its model (or empty), and what else distinguishes its series: a reason, a stage, or a GPU."""


@dataclass(frozen=True)
class Sample:
    """The metrics of all servers at one moment, with equal series added up.

    Attributes:
        at_s: Moment, in seconds since 1970.
        values: Values by series.
    """

    at_s: float
    values: Mapping[Series, float]


def read_metrics(urls: Sequence[str], at_s: float) -> Sample:
    """Ask each server once. Raises OSError or ValueError where one of them does not answer with metrics."""
    values: dict[Series, float] = defaultdict(float)
    for url in urls:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - a URL that the user gave
            text = answer.read().decode("utf-8", "replace")
        if "nv_inference_" not in text:
            raise ValueError("the answer has no metrics of Triton")
        for name, labels, value in _WANTED.findall(text):
            if name.endswith(("_bucket", "_info")):
                continue
            known = dict(_LABEL.findall(labels))
            rest = [known[label] for label in ("reason", "stage", "gpu_uuid") if label in known]
            values[name, known.get("model", ""), rest[0] if rest else ""] += float(value)
    return Sample(at_s, dict(values))


def change(before: Sample, after: Sample) -> dict[str, Any]:
    """Return what the server did between two moments, in plain values.

    Returns:
        `models`: for each model that was asked, requests, failures by reason, images or faces, executions, mean batch,
        and milliseconds per request in the queue and computing. `counters`: the project's own counters. `restarted`:
        whether a counter fell, so that the server must have started again; then everything is counted from there.
    """
    restarted = any(value < before.values.get(key, 0.0) for key, value in after.values.items() if _counts(key[0]))

    def added(name: str, model: str, rest: str | None = None) -> float:
        return sum(
            value - (0.0 if restarted else before.values.get(key, 0.0))
            for key, value in after.values.items()
            if key[:2] == (name, model) and rest in (None, key[2])
        )

    models = {}
    for model in MODELS:
        succeeded = added("nv_inference_request_success", model)
        failed = {
            key[2] or "any": count
            for key in after.values
            if key[:2] == ("nv_inference_request_failure", model) and (count := added(*key)) > 0
        }
        if succeeded or failed:
            models[model] = _model(succeeded, failed, model, added)
    counters = [
        {"name": name, "model": model, "label": rest, "added": added(name, model, rest)}
        for name, model, rest in sorted(after.values)
        if name.startswith("fer_") and added(name, model, rest) > 0
    ]
    return {
        "seconds": round(after.at_s - before.at_s, 1),
        "models": models,
        "counters": counters,
        "restarted": restarted,
    }


def _model(succeeded: float, failed: Mapping[str, float], model: str, added: Any) -> dict[str, Any]:
    executions, rows = added("nv_inference_exec_count", model), added("nv_inference_count", model)
    result: dict[str, Any] = {"requests": succeeded, "failures": dict(failed), "rows": rows, "executions": executions}
    result["mean_batch"] = round(rows / executions, 3) if executions else None
    for name in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        total_us = added(f"nv_inference_{name}_duration_us", model)
        result[f"{name}_ms"] = round(total_us / succeeded / 1000, 3) if succeeded else None
    return result


def gauge_mean(samples: Sequence[Sample], name: str) -> float | None:
    """Return the mean of a gauge over samples and series; None where the server does not report it."""
    values = [value for sample in samples for key, value in sample.values.items() if key[0] == name]
    return sum(values) / len(values) if values else None


def _counts(name: str) -> bool:
    """Return whether a metric only grows."""
    return name.startswith(("nv_inference_request_s", "nv_inference_count", "nv_inference_exec"))


@dataclass(frozen=True)
class MachineSample:
    """How busy this machine was.

    Attributes:
        at_s: Moment, in seconds since 1970.
        cores: Cores in use, by all processes.
    """

    at_s: float
    cores: float


class Sampler:
    """Takes samples in the background.

    Attributes:
        server: Samples of the server's metrics; empty where they cannot be read.
        machine: Samples of this machine.
        problem: Reason why the metrics cannot be read, or None.
    """

    def __init__(self, urls: Sequence[str], clock: Callable[[], float]) -> None:
        """Prepare to read the metrics at `urls`; none are read where it is empty."""
        self.server: list[Sample] = []
        self.machine: list[MachineSample] = []
        self.problem: str | None = None if urls else "--metrics-url none"
        self._urls = urls
        self._clock = clock
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        """Take the first sample now, and more in the background."""
        if self._greenlet is None:
            self._read_server()
            self._greenlet = gevent.spawn(self._sample_for_ever)

    def stop(self) -> None:
        """Stop, and take the last sample."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
            self._read_server()

    def _sample_for_ever(self) -> None:
        psutil.cpu_percent()  # It counts from the last call of the same thread, which here is a greenlet.
        while True:
            gevent.sleep(_EVERY_S)
            cores = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
            self.machine.append(MachineSample(self._clock(), cores))
            self._read_server()

    def _read_server(self) -> None:
        if not self._urls:
            return
        try:
            self.server.append(read_metrics(self._urls, self._clock()))
            self.problem = None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)  # What urllib raises hides the reason in angle brackets.
            self.problem = f"{', '.join(self._urls)} cannot be read ({reason}): give --metrics-url"
