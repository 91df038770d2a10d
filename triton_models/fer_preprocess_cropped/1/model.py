"""The model `fer_preprocess_cropped`: one encoded face crop in, the classifier's 48x48 gray face out."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.dont_write_bytecode = True  # Triton takes a __pycache__ in the repository's root for a model
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # that root, for fer_*.py

import fer_adapter
import fer_contract as contract
import fer_faces
import fer_process
import fer_quality
from fer_images import REFUSALS
from fer_metrics import ImageCounters, StageClock
from fer_settings import Settings


class TritonPythonModel:
    """Each instance answers one request at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings in config.pbtxt."""
        fer_process.set_up_process()
        self._limits = fer_adapter.image_limits(Settings(args))
        stages = (fer_faces.DECODE,)
        self._counters = ImageCounters(contract.PREPROCESS_CROPPED_MODEL, REFUSALS, stages, counts_faces=False)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response per request, in order."""
        return [fer_adapter.answer(request, self._tensors, self._counters) for request in requests]

    def finalize(self) -> None:
        """Report what was counted last."""
        self._counters.close()

    def _tensors(self, image: bytes, clock: StageClock) -> Mapping[str, np.ndarray[Any, Any]]:
        crop, image_size = fer_faces.read_face_crop(image, self._limits)
        clock.finish(fer_faces.DECODE)
        quality = np.array([fer_quality.measure_crop(crop[0, 0])], np.float32)
        return {contract.FACES: crop, contract.IMAGE_SIZE: image_size, contract.QUALITY: quality}
