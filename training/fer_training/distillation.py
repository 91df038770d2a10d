"""Teachers: networks trained before, whose answers a student learns from. Used by `training_run`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnxruntime
import torch

from fer_contract import LABELS
from fer_training.checkpoint import load_checkpoint
from fer_training.errors import CheckpointError, ModelFileError, RecipeError
from fer_training.network import Classifier
from fer_training.prediction import build_network, open_onnx, predict_onnx
from fer_training.recipe import ONNX_SUFFIX, DistillationRecipe, Recipe

KEPT_BATCH: Final = 256
SMALLEST_PROBABILITY: Final = 1e-9


@dataclass(frozen=True)
class Teacher:
    """A network that answers, and what it is known by."""

    name: str
    """As the recipe has it."""
    sha256: str
    """Of a run's averaged weights, or of the ONNX file."""
    network: Classifier | onnxruntime.InferenceSession


class Teachers:
    """Several teachers, who answer together: with the mean of their probabilities at the temperature.

    That is the temperature of what a teacher answers: an ONNX file's probabilities are calibrated already.
    """

    def __init__(
        self,
        networks: Sequence[Classifier | onnxruntime.InferenceSession],
        recipe: DistillationRecipe,
        device: torch.device,
    ) -> None:
        """Moves the networks to the device; they are not trained. ONNX files answer on the CPU."""
        self._networks = [
            network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            for network in networks
            if isinstance(network, Classifier)
        ]
        self._files = [network for network in networks if not isinstance(network, Classifier)]
        self._temperature = recipe.temperature

    @torch.no_grad()
    def answer(self, views: torch.Tensor) -> torch.Tensor:
        """Probabilities at the temperature, of the networks that are no ONNX files.

        Args:
            views: float32, (N, 1, H, W), normalised.

        Returns:
            float32, (N, C).
        """
        return torch.stack([self._soften(network(views).float()) for network in self._networks]).mean(dim=0)

    @torch.no_grad()
    def answer_plain(self, images: torch.Tensor) -> torch.Tensor:
        """The mean of the answers of all teachers to each whole image and its mirror image.

        Args:
            images: uint8, (N, 1, 48, 48), of any number.

        Returns:
            float32, (N, C).
        """
        answers, everyone = [], [*self._networks, *self._files]
        for start in range(0, len(images), KEPT_BATCH):
            batch = images[start : start + KEPT_BATCH]
            found = [self._ask(teacher, view) for teacher in everyone for view in (batch, batch.flip(3))]
            answers.append(torch.stack(found).mean(dim=0))
        return torch.cat(answers)

    def _ask(self, teacher: Classifier | onnxruntime.InferenceSession, images: torch.Tensor) -> torch.Tensor:
        """One teacher's answer: uint8, (N, 1, 48, 48) -> float32, (N, C)."""
        if isinstance(teacher, Classifier):
            views = teacher.preprocess(images).contiguous(memory_format=torch.channels_last)
            return self._soften(teacher(views).float())
        probabilities = torch.from_numpy(predict_onnx(teacher, images.squeeze(1).cpu().numpy())).to(images.device)
        return self._soften(probabilities.clamp_min(SMALLEST_PROBABILITY).log())

    def _soften(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits / self._temperature, dim=1)


def load_teachers(recipe: Recipe, runs_dir: Path, class_names: tuple[str, ...]) -> list[Teacher]:
    """Reads the teachers that a recipe names.

    Args:
        recipe: the student's.
        runs_dir: holds `<name>/checkpoint.pt` of each run, and each ONNX file.
        class_names: the student's classes.

    Raises:
        CheckpointError: a run is missing, unfinished, of other classes, or equalises histograms where the student does
            not, so that they can't look at the same view; or an ONNX file is not usable.
        RecipeError: an ONNX file is to look at augmented views: it takes whole faces alone.
    """
    distillation = recipe.distillation
    if distillation is None:
        return []
    return [
        _load_file(name, distillation, runs_dir, class_names)
        if name.endswith(ONNX_SUFFIX)
        else _load_run(name, recipe, runs_dir, class_names)
        for name in distillation.teachers
    ]


def _load_run(name: str, recipe: Recipe, runs_dir: Path, class_names: tuple[str, ...]) -> Teacher:
    path = runs_dir / name / "checkpoint.pt"
    checkpoint = load_checkpoint(path)
    checkpoint.require_finished(path)
    if checkpoint.class_names != class_names:
        raise CheckpointError(f"{path}: its classes are {', '.join(checkpoint.class_names)}, not the data's.")
    if checkpoint.recipe.network.equalise != recipe.network.equalise:
        raise CheckpointError(f"{path}: network.equalise must be the same for teacher and student.")
    return Teacher(name, checkpoint.hash_weights(), build_network(checkpoint))


def _load_file(name: str, distillation: DistillationRecipe, runs_dir: Path, class_names: tuple[str, ...]) -> Teacher:
    path = runs_dir / name
    if distillation.views != "plain":
        raise RecipeError(f"distillation.views must be 'plain' for {path.name}: an ONNX file takes whole faces alone.")
    if class_names != LABELS:
        raise CheckpointError(f"{path}: its classes are {', '.join(LABELS)}, not the data's.")
    try:
        session = open_onnx(path)
    except ModelFileError as error:
        raise CheckpointError(str(error)) from error
    return Teacher(name, hashlib.sha256(path.read_bytes()).hexdigest(), session)
