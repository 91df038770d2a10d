"""Triton's `/metrics`, read before, during and after a test: what the server itself says about the load."""

from __future__ import annotations

import re
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fer_contract as contract

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
"""A metric's name, its model (or empty), and what else tells series of it apart (a reason, a stage, a GPU)."""


@dataclass(frozen=True)
class Sample:
    """All servers' metrics at one moment, those of the same series added.

    Attributes:
        at_s: When, seconds since 1970.
        values: By series.
    """

    at_s: float
    values: Mapping[Series, float]


def read_metrics(urls: Sequence[str], at_s: float) -> Sample:
    """Ask each server once. Raises OSError or ValueError where one does not answer with metrics."""
    values: dict[Series, float] = defaultdict(float)
    for url in urls:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - a URL that the user gave
            text = answer.read().decode("utf-8", "replace")
        if "nv_inference_" not in text:
            raise ValueError("what answers there are no metrics of Triton")
        for name, labels, value in _WANTED.findall(text):
            if name.endswith(("_bucket", "_info")):
                continue
            known = dict(_LABEL.findall(labels))
            rest = [known[label] for label in ("reason", "stage", "gpu_uuid") if label in known]
            values[name, known.get("model", ""), rest[0] if rest else ""] += float(value)
    return Sample(at_s, dict(values))


def change(before: Sample, after: Sample) -> dict[str, Any]:
    """What the server did between two moments.

    Returns:
        `models`: for each model that was asked, requests, failures by reason, images or faces, executions, mean batch,
        and milliseconds per request in the queue and computing. `counters`: ours. `restarted`: whether a counter fell,
        which means that the server began anew; all is counted from there then.
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
    """The mean of a gauge over samples and its series, or None where it is not reported."""
    values = [value for sample in samples for key, value in sample.values.items() if key[0] == name]
    return sum(values) / len(values) if values else None


def _counts(name: str) -> bool:
    """Whether a metric only grows."""
    return name.startswith(("nv_inference_request_s", "nv_inference_count", "nv_inference_exec"))
