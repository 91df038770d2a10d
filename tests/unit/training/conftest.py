"""Small data and a small recipe for the training room's tests."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from fer_training.faces import DropReport, LabelledFaces, TrainingData
from fer_training.recipe import Recipe, recipe_from_table


def draw_faces(per_class: int, seed: int) -> LabelledFaces:
    """Stripes of one frequency per class under noise: easy to tell apart, also mirrored and cropped."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(7), per_class))
    phase = rng.uniform(0, 2 * np.pi, (len(labels), 1, 1))
    stripes = np.sin((labels[:, None, None] + 1) * np.arange(48)[None, :, None] / 6 + phase)
    images = 128 + 60 * stripes + rng.normal(0, 10, (len(labels), 48, 48))
    return LabelledFaces(images.clip(0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks as small as these spend most of their time waiting for a second thread, where other work runs too."""
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> TrainingData:
    return TrainingData(draw_faces(16, seed=0), draw_faces(4, seed=1), DropReport(112, {}))


def describe_recipe() -> dict[str, Any]:
    """A recipe that trains in a second, as TOML would give it."""
    return {
        "name": "tiny",
        "seed": 3,
        "network": {
            "backbone": "repconv",
            "attention": "se",
            "dropout": 0.1,
            "repconv": {"stem_channels": 8, "stages": [[8, 8], [16, 16]]},
        },
        "augmentation": {
            "view_px": 40,
            "full_view_epochs": 1,
            "flip_probability": 0.5,
            "rotation_deg": 5.0,
            "scale": 0.05,
            "shift_px": 1.0,
            "brightness": 0.1,
            "contrast": 0.1,
            "erasing_probability": 0.2,
            "erasing_side": 0.3,
        },
        "loss": {"label_smoothing": 0.05},
        "optimisation": {
            "optimiser": "sgd",
            "epochs": 4,
            "batch_size": 16,
            "learning_rate": 0.1,
            "warmup_epochs": 0.5,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "average_decay": 0.8,
        },
    }


@pytest.fixture
def recipe_table() -> dict[str, Any]:
    """A recipe for a test to spoil."""
    return describe_recipe()


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return recipe_from_table(describe_recipe(), "tiny.toml")
