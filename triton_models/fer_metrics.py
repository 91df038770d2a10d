"""What the preprocessing models report on Triton's `/metrics`: images, faces, refusals, time per stage.

A counter of Triton lives in the server's process, and raising one from a model costs a message to it (tried: 50 us, a
hundredth of what a small image costs in all). So requests add up numbers here, and a thread passes them on.

Runs inside Triton's Python backend only, which alone offers `triton_python_backend_utils`.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import triton_python_backend_utils as pb_utils

REPORT_EVERY_S: Final = 0.25
"""How far `/metrics` may lag behind: far less than anybody scrapes."""

_FAMILIES: Final = {
    "fer_images_total": "Images answered, with or without a face",
    "fer_faces_total": "Faces found and answered",
    "fer_faces_left_out_total": "Faces found beyond the largest that one answer has room for",
    "fer_images_without_face_total": "Images answered in which there is no face",
    "fer_images_refused_total": "Images refused as bad input, by reason",
    "fer_images_failed_total": "Images that the server failed on",
    "fer_stage_duration_us_total": "Microseconds spent on images, by stage",
}

_Series = tuple[str, str]
"""Name of a family, and the value of its second label; empty where it has none."""


class ImageCounters:
    """The counters of one model instance. All instances of a model add to the same series."""

    def __init__(self, model: str, refusals: tuple[str, ...], stages: tuple[str, ...], *, counts_faces: bool) -> None:
        """Register the series, so that each is there, as 0, before its first event.

        Args:
            model: Name of the model, which is the label `model`.
            refusals: The reasons that there are.
            stages: The stages that an image passes.
            counts_faces: Whether the model looks for faces.
        """
        names = ["fer_images_total", "fer_images_failed_total"]
        if counts_faces:
            names += ["fer_faces_total", "fer_faces_left_out_total", "fer_images_without_face_total"]
        labels: dict[_Series, dict[str, str]] = {(name, ""): {} for name in names}
        labels |= {("fer_images_refused_total", reason): {"reason": reason} for reason in refusals}
        labels |= {("fer_stage_duration_us_total", stage): {"stage": stage} for stage in stages}
        self._families = {
            name: pb_utils.MetricFamily(name, description, pb_utils.MetricFamily.COUNTER)
            for name, description in _FAMILIES.items()
        }
        self._metrics: Mapping[_Series, Any] = {
            series: self._families[series[0]].Metric({"model": model, **more}) for series, more in labels.items()
        }
        self._pending: Counter[_Series] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._reporter = threading.Thread(target=self._report_for_ever, name="counters", daemon=True)
        self._reporter.start()

    def count_answered(self, durations_us: Mapping[str, int], faces: int | None = None, left_out: int = 0) -> None:
        """Count an image that was answered.

        Args:
            durations_us: By stage.
            faces: How many are in the answer; None in a model that does not look for them.
            left_out: How many more were found.
        """
        with self._lock:
            self._pending["fer_images_total", ""] += 1
            if faces is not None:
                self._pending["fer_faces_total", ""] += faces
                self._pending["fer_faces_left_out_total", ""] += left_out
                self._pending["fer_images_without_face_total", ""] += not faces
            for stage, duration in durations_us.items():
                self._pending["fer_stage_duration_us_total", stage] += duration

    def count_refused(self, reason: str) -> None:
        """Count an image that was refused."""
        with self._lock:
            self._pending["fer_images_refused_total", reason] += 1

    def count_failed(self) -> None:
        """Count an image that the server failed on."""
        with self._lock:
            self._pending["fer_images_failed_total", ""] += 1

    def close(self) -> None:
        """Report the rest."""
        self._stop.set()
        self._reporter.join()
        self._report()

    def _report_for_ever(self) -> None:
        while not self._stop.wait(REPORT_EVERY_S):
            self._report()

    def _report(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, Counter()
        for series, count in pending.items():
            if count:
                self._metrics[series].increment(count)


def publish_model_info(manifest: Path) -> tuple[Any, Any] | None:
    """Publish which model is served as the labels of a series whose value is 1: `fer_model_info`.

    Args:
        manifest: The manifest.json of the assembled repository.

    Returns:
        What has to be kept for as long as the series shall be there; None where the repository is not assembled.
    """
    try:
        served = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    family = pb_utils.MetricFamily("fer_model_info", "The model that is served; always 1", pb_utils.MetricFamily.GAUGE)
    labels = {"version": "model_version", "precision": "precision", "runtime": "runtime"}
    metric = family.Metric({label: served[key] for label, key in labels.items()})
    metric.set(1)
    return family, metric


class StageClock:
    """A clock of the time that one image spends in each stage."""

    def __init__(self) -> None:
        """Start the first stage."""
        self.durations_us: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def finish(self, stage: str) -> None:
        """End `stage`, and start the next one."""
        now = time.perf_counter_ns()
        self.durations_us[stage] = self.durations_us.get(stage, 0) + (now - self._last) // 1000
        self._last = now
