"""The model `fer_preprocess`: one encoded image in, its faces out. A thin adapter between Triton and `fer_faces`.

Under configs/cpu.pbtxt it also classifies the faces; under config.pbtxt it passes them on to `fer_classifier`.
"""

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
import fer_runtimes
from fer_detector import open_network
from fer_images import REFUSALS
from fer_metrics import ImageCounters, StageClock, publish_model_info
from fer_search import FaceSearch, SearchSettings
from fer_settings import Settings

_CLASSIFY = "classify"
"""The stage behind those of `fer_faces`, where it is one of this process."""
_NO_FACE = np.zeros((1, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX), np.uint8)
"""`fer_classifier` accepts 1 to 64 faces, so an image without any sends this; `fer_postprocess` drops its result."""
_NO_PROBABILITIES = np.zeros((0, len(contract.LABELS)), np.float32)


class TritonPythonModel:
    """Each instance answers one request at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings, load the networks and run each once, so that no request pays for it."""
        settings = Settings(args)
        fer_process.set_up_process()
        self._limits = fer_adapter.image_limits(settings)
        self._detector = FaceSearch(
            open_network(settings.read("detector", str)),
            SearchSettings(
                side_px=settings.read("detector_side_px", int),
                second_look_px=settings.read("detector_second_look_px", int),
                min_score=settings.read("detector_min_score", float),
            ),
        )
        self._detector.detect(np.zeros((240, 320, 3), np.uint8))
        stages: tuple[str, ...] = fer_faces.STAGES
        self._classify: fer_runtimes.Classify | None = None
        if contract.PROBABILITIES in settings.outputs:
            runtime, threads = settings.read("runtime", str), settings.read("threads", int)
            self._classify = fer_runtimes.open_served_classifier(runtime, threads)
            stages += (_CLASSIFY,)
        self._counters = ImageCounters(contract.PREPROCESS_MODEL, REFUSALS, stages, counts_faces=True)
        self._info = publish_model_info(Path(__file__).resolve().parents[2] / "manifest.json")
        fer_process.end_set_up()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response per request, in order."""
        return [fer_adapter.answer(request, self._tensors, self._counters) for request in requests]

    def finalize(self) -> None:
        """Report what was counted last."""
        self._counters.close()

    def _tensors(self, image: bytes, clock: StageClock) -> Mapping[str, np.ndarray[Any, Any]]:
        faces = fer_faces.find_faces(image, self._detector, self._limits, clock.finish)
        count = len(faces.boxes)
        tensors: dict[str, np.ndarray[Any, Any]] = {
            contract.BOXES: faces.boxes,
            contract.LANDMARKS: faces.landmarks,
            contract.DETECTION_SCORES: faces.scores,
            contract.IMAGE_SIZE: faces.image_size,
            contract.FACES_FOUND: np.array([faces.found], np.int32),
            contract.QUALITY: faces.quality,
        }
        if self._classify is None:
            tensors[contract.FACES] = faces.crops if count else _NO_FACE
            tensors[contract.FACE_COUNT] = np.array([count], np.int32)
        else:
            tensors[contract.PROBABILITIES] = self._classify(faces.crops) if count else _NO_PROBABILITIES
            clock.finish(_CLASSIFY)
        return tensors
