"""Small data that tests share: a FER2013 of a few drawn faces, a recipe, and an address where nobody answers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

RECIPE_TOML = """
seed = 1
[network]
backbone = "repconv"
[network.repconv]
stem_channels = 16
stages = [[16]]
[augmentation]
view_px = 40
full_view_epochs = 1
flip_probability = 0.5
rotation_deg = 5.0
scale = 0.1
[loss]
label_smoothing = 0.1
[optimisation]
optimiser = "sgd"
epochs = 2
batch_size = 8
learning_rate = 0.05
warmup_epochs = 1.0
momentum = 0.9
weight_decay = 1e-4
average_decay = 0.9
"""
"""A recipe that trains in a second."""


def draw_images(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Stripes of another width in each image, under noise that uses all grays: uint8, (count, 48, 48)."""
    rng = np.random.default_rng(seed)
    stripes = np.sin((1 + np.arange(count))[:, None, None] * np.arange(48)[None, :, None] / 9)
    return (128 + 90 * stripes + rng.normal(0, 40, (count, 48, 48))).clip(0, 255).astype(np.uint8)


def write_fer2013(folder: Path, public_test: int = 14, training: int = 1) -> Path:
    """Writes a `fer2013.csv`: Training rows, PublicTest rows, and the first of these again in PrivateTest."""
    images = draw_images(public_test)
    rows = [(0, images[0], "PrivateTest")]
    rows += [((index + 1) % 7, image, "Training") for index, image in enumerate(draw_images(training, seed=1))]
    rows += [(index % 7, image, "PublicTest") for index, image in enumerate(images)]
    lines = [f"{label},{' '.join(map(str, image.ravel()))},{usage}" for label, image, usage in rows]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines, ""]), encoding="utf-8")
    return folder


@contextmanager
def closed_address() -> Iterator[str]:
    """`host:port` on the loopback on which nothing listens, and nothing can start to meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        host, port = holder.getsockname()
        yield f"{host}:{port}"


def fer_train(*words: object) -> int:
    """Runs `fer-train` in this process, and returns its exit code."""
    from fer_training.cli import main

    return main([str(word) for word in words])
