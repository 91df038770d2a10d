"""Training targets and losses. Used by `training_run`."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from fer_contract import LABELS
from fer_training.errors import DataError, RecipeError
from fer_training.faces import VOTES, LabelledFaces, contract_name
from fer_training.recipe import LossRecipe

WITHOUT_VOTES: Final = (
    "Only FER2013 has them, with fer2013new.csv beside fer2013.csv. For other data take a recipe without votes, "
    "such as training/recipes/own.toml."
)


def build_targets(faces: LabelledFaces, recipe: LossRecipe) -> npt.NDArray[np.float32]:
    """Return the distribution over classes that each face is trained towards.

    Args:
        faces: The faces, with votes if the recipe makes labels of them.
        recipe: The part that votes make, and the label smoothing.

    Returns:
        float32, (N, classes), rows sum to 1.

    Raises:
        DataError: The recipe makes labels of votes, and there are none, or the classes are not the contract's.
    """
    classes = len(faces.class_names)
    targets = np.eye(classes, dtype=np.float32)[faces.labels]
    if recipe.votes_as_labels:
        if faces.votes is None or faces.class_names != LABELS:
            raise DataError(f"loss.votes_as_labels needs FER+ votes. {WITHOUT_VOTES}")
        targets += recipe.votes_as_labels * (_votes_to_labels(faces.votes, targets) - targets)
    return (1 - recipe.label_smoothing) * targets + recipe.label_smoothing / classes


def _votes_to_labels(votes: npt.NDArray[np.float32], otherwise: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the votes for the seven classes as parts of 1, float32 (N, 7); without votes, rows of `otherwise`."""
    columns = {contract_name(vote): column for column, vote in enumerate(VOTES)}
    chosen = votes[:, [columns[label] for label in LABELS]]
    total = chosen.sum(axis=1, keepdims=True)
    shares: npt.NDArray[np.float32] = np.where(total > 0, chosen / np.maximum(total, 1e-9), otherwise)
    return shares


def list_class_weights(class_names: tuple[str, ...], weights: Mapping[str, float]) -> list[float]:
    """Return the weight of each class, 1 where the recipe names none.

    Raises:
        RecipeError: The recipe names a class that the data does not have.
    """
    unknown = [name for name in weights if name not in class_names]
    if unknown:
        raise RecipeError(
            f"loss.class_weights names {unknown[0]!r}, which the data does not have. Its classes are "
            f"{', '.join(class_names)}."
        )
    return [weights.get(name, 1.0) for name in class_names]


def soft_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None, focal_gamma: float = 0.0
) -> torch.Tensor:
    """Compute the cross-entropy with distributions as targets, averaged over the batch.

    Args:
        logits: float32, (N, C).
        targets: float32, (N, C), rows sum to 1.
        class_weights: float32, (C,): how much an image of each class weighs; one of several classes weighs their mean.
            The average is over the weights, so that they shift attention and not the learning rate.
        focal_gamma: Images count (1 - p)^gamma, with p the probability that the network gives to the target.
            Source: Lin et al., Focal Loss for Dense Object Detection, 2017.

    Returns:
        float32, ().
    """
    logs = functional.log_softmax(logits, dim=1)
    losses = -(targets * logs).sum(dim=1)
    if focal_gamma:
        losses = losses * (1 - (targets * logs.exp()).sum(dim=1)) ** focal_gamma
    if class_weights is None:
        return losses.mean()
    weights = targets @ class_weights
    return (losses * weights).sum() / weights.sum()


def distillation_loss(logits: torch.Tensor, teachers: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute the divergence of the student's answer from the teachers', both softened.

    Multiplied by the temperature's square, so that its gradient is as large as the labels' at any temperature.
    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015.

    Args:
        logits: The student's, float32, (N, C).
        teachers: Probabilities at that temperature, float32, (N, C).
        temperature: The number that the student's logits are divided by.

    Returns:
        float32, ().
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    return functional.kl_div(student, teachers, reduction="batchmean") * temperature**2
