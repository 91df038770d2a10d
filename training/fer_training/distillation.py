"""Teachers: networks trained before, whose answers a student learns from. Used by `training_run`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from fer_training.checkpoint import Checkpoint, load_checkpoint
from fer_training.errors import CheckpointError
from fer_training.network import Classifier
from fer_training.prediction import build_network
from fer_training.recipe import DistillationRecipe, Recipe

KEPT_BATCH: Final = 256


class Teachers:
    """Networks of finished runs, which answer together: with the mean of their probabilities at the temperature."""

    def __init__(self, networks: Sequence[Classifier], recipe: DistillationRecipe, device: torch.device) -> None:
        """Moves the networks to the device; they are not trained."""
        self._networks = [
            network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            for network in networks
        ]
        self._temperature = recipe.temperature

    @torch.no_grad()
    def answer(self, views: torch.Tensor) -> torch.Tensor:
        """Probabilities at the temperature: float32, (N, 1, H, W), normalised -> float32, (N, C)."""
        answers = [torch.softmax(network(views).float() / self._temperature, dim=1) for network in self._networks]
        return torch.stack(answers).mean(dim=0)

    @torch.no_grad()
    def answer_plain(self, images: torch.Tensor) -> torch.Tensor:
        """The mean of the answers to each whole image and its mirror image.

        Args:
            images: uint8, (N, 1, 48, 48), of any number.

        Returns:
            float32, (N, C).
        """
        answers = []
        for start in range(0, len(images), KEPT_BATCH):
            batch = images[start : start + KEPT_BATCH]
            views = self._networks[0].preprocess(batch).contiguous(memory_format=torch.channels_last)
            answers.append((self.answer(views) + self.answer(views.flip(3))) / 2)
        return torch.cat(answers)


def load_teachers(recipe: Recipe, runs_dir: Path, class_names: tuple[str, ...]) -> list[Checkpoint]:
    """Reads the checkpoints of the teachers that a recipe names.

    Args:
        recipe: the student's.
        runs_dir: holds `<name>/checkpoint.pt` of each.
        class_names: the student's classes.

    Raises:
        CheckpointError: one is missing, unfinished, of other classes, or equalises histograms where the student does
            not, so that they can't look at the same view.
    """
    checkpoints = []
    for name in recipe.distillation.teachers if recipe.distillation else ():
        path = runs_dir / name / "checkpoint.pt"
        checkpoint = load_checkpoint(path)
        checkpoint.require_finished(path)
        if checkpoint.class_names != class_names:
            raise CheckpointError(f"{path}: its classes are {', '.join(checkpoint.class_names)}, not the data's.")
        if checkpoint.recipe.network.equalise != recipe.network.equalise:
            raise CheckpointError(f"{path}: network.equalise must be the same for teacher and student.")
        checkpoints.append(checkpoint)
    return checkpoints


def build_teachers(checkpoints: Sequence[Checkpoint], recipe: DistillationRecipe, device: torch.device) -> Teachers:
    """The teachers of some checkpoints, with their averaged weights."""
    return Teachers([build_network(checkpoint) for checkpoint in checkpoints], recipe, device)
