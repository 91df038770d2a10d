"""How fast an ONNX file is on one CPU thread. Used by `export`."""

import statistics
import time
from pathlib import Path
from typing import Final

import numpy as np

from fer_contract import FACE_SIZE_PX
from fer_training.prediction import open_onnx, predict_onnx

SPEED_BATCH: Final = 16
WARMUP_BATCHES: Final = 10
MEASURED_BATCHES: Final = 200


def measure_images_per_s(path: Path) -> float:
    """Images per second in ONNX Runtime on one thread, in batches of 16: the median of 200 batches of noise.

    A second is one of the thread's own CPU time, so that other work on the machine counts only for the caches it takes.
    """
    session = open_onnx(path, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (SPEED_BATCH, FACE_SIZE_PX, FACE_SIZE_PX), dtype=np.uint8)
    times_s = []
    for _ in range(WARMUP_BATCHES + MEASURED_BATCHES):
        started = time.process_time()
        predict_onnx(session, images)
        times_s.append(time.process_time() - started)
    return SPEED_BATCH / statistics.median(times_s[WARMUP_BATCHES:])
