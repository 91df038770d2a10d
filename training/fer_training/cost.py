"""Cost of a network: its size, its arithmetic, and the speed of its ONNX file. Used by `export` and `prune`."""

import copy
import statistics
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from fer_contract import FACE_SIZE_PX
from fer_training.backbones.repconv import reparameterise
from fer_training.network import Classifier
from fer_training.onnx_classifier import open_onnx, predict_onnx

SPEED_BATCH: Final = 16
WARMUP_BATCHES: Final = 10
MEASURED_BATCHES: Final = 200


def count_parameters(network: nn.Module) -> int:
    """Count all weights of the network, in the form that it has."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.inference_mode()
def count_macs(network: Classifier) -> int:
    """Count the multiply-accumulates of all convolutions and linear layers for one face, in the exported form."""
    exported = copy.deepcopy(network).eval()
    reparameterise(exported)
    total = 0

    def add(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        total += output.numel() * weight[0].numel()  # (C_in / groups, k, k) or (C_in,) for each output value

    for layer in exported.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)
    exported(torch.zeros(1, 1, FACE_SIZE_PX, FACE_SIZE_PX))
    return total


def describe_speed(path: Path) -> dict[str, Any]:
    """Measure an ONNX file in ONNX Runtime on one CPU thread: images/s, the median of 200 batches of noise.

    A second is one of the thread's own CPU time, so that other work on the machine counts only for the caches it takes.
    """
    session = open_onnx(path, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (SPEED_BATCH, FACE_SIZE_PX, FACE_SIZE_PX), dtype=np.uint8)
    times_s = []
    for _ in range(WARMUP_BATCHES + MEASURED_BATCHES):
        started = time.process_time()
        predict_onnx(session, images)
        times_s.append(time.process_time() - started)
    images_per_s = SPEED_BATCH / statistics.median(times_s[WARMUP_BATCHES:])
    return {"runtime": "onnxruntime", "threads": 1, "batch": SPEED_BATCH, "images_per_s": images_per_s}
