"""Teachers: networks trained before, or what they answered then, from which a student learns. Used by `train`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import onnxruntime
import torch

from fer_contract import LABELS
from fer_training.checkpoint import CHECKPOINT_NAME, load_finished
from fer_training.errors import CheckpointError, ModelFileError, RecipeError
from fer_training.faces import LabelledFaces
from fer_training.network import Classifier
from fer_training.onnx_classifier import ONNX_SUFFIX, open_onnx, predict_onnx
from fer_training.prediction import build_network
from fer_training.recipe import LOGITS_SUFFIX, DistillationRecipe, Recipe
from fer_training.teacher_logits import TeacherLogits, load_teacher_logits

KEPT_BATCH: Final = 256
SMALLEST_PROBABILITY: Final = 1e-9

Answerer: TypeAlias = Classifier | onnxruntime.InferenceSession | TeacherLogits
"""A network, an exported file, or what a network has answered before."""


@dataclass(frozen=True)
class Teacher:
    """One teacher, and how the recipe and a checkpoint name it."""

    name: str
    """The name in the recipe."""
    sha256: str
    """Hash of a run's averaged weights, or of the file."""
    answerer: Answerer


class Teachers:
    """Several teachers that answer together, with the mean of their probabilities at the temperature.

    The temperature is applied to what a teacher answers; an ONNX file has its own temperature already.
    """

    def __init__(
        self,
        answerers: Sequence[Answerer],
        recipe: DistillationRecipe,
        device: torch.device,
    ) -> None:
        """Move the networks to the device; they are not trained. ONNX files answer on the CPU."""
        self._networks = [
            teacher.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            for teacher in answerers
            if isinstance(teacher, Classifier)
        ]
        self._files = [teacher for teacher in answerers if isinstance(teacher, onnxruntime.InferenceSession)]
        self._kept = [teacher for teacher in answerers if isinstance(teacher, TeacherLogits)]
        self._temperature = recipe.temperature

    @torch.no_grad()
    def answer(self, views: torch.Tensor) -> torch.Tensor:
        """Return the probabilities at the temperature, of the teachers that are networks.

        Args:
            views: float32, (N, 1, H, W), normalised.

        Returns:
            float32, (N, C).
        """
        return torch.stack([self._soften(network(views).float()) for network in self._networks]).mean(dim=0)

    @torch.no_grad()
    def answer_plain(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of the answers of all teachers to each whole image and its mirror image.

        Args:
            images: uint8, (N, 1, 48, 48): all training images, in their order, where there are kept answers.

        Returns:
            float32, (N, C).
        """
        answers = [self._answer_now(teacher, images) for teacher in (*self._networks, *self._files)]
        for kept in self._kept:
            logits = torch.from_numpy(kept.logits).to(images.device)
            answers.append(self._soften(logits).mean(dim=0))
        return torch.stack(answers).mean(dim=0)

    def _answer_now(self, teacher: Classifier | onnxruntime.InferenceSession, images: torch.Tensor) -> torch.Tensor:
        """Return one teacher's mean answer to each image and its mirror image: float32, (N, C)."""
        batches = torch.split(images, KEPT_BATCH)
        return torch.cat([(self._ask(teacher, batch) + self._ask(teacher, batch.flip(3))) / 2 for batch in batches])

    def _ask(self, teacher: Classifier | onnxruntime.InferenceSession, images: torch.Tensor) -> torch.Tensor:
        """Return one teacher's answer: uint8, (N, 1, 48, 48) -> float32, (N, C)."""
        if isinstance(teacher, Classifier):
            views = teacher.preprocess(images).contiguous(memory_format=torch.channels_last)
            return self._soften(teacher(views).float())
        probabilities = torch.from_numpy(predict_onnx(teacher, images.squeeze(1).cpu().numpy())).to(images.device)
        return self._soften(probabilities.clamp_min(SMALLEST_PROBABILITY).log())

    def _soften(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits / self._temperature, dim=-1)


def load_teachers(recipe: Recipe, runs_dir: Path, faces: LabelledFaces) -> list[Teacher]:
    """Read the teachers that a student's recipe names: in `runs_dir`, `<name>/checkpoint.pt` of runs, and files.

    Raises:
        CheckpointError: A run is missing, unfinished, of other classes, or equalises histograms where the student does
            not, so that they cannot look at the same augmented view; or an ONNX file is not usable; or answers were
            kept of other images.
        RecipeError: An ONNX file or kept answers are to be of augmented views: they are of whole faces alone.
    """
    distillation = recipe.distillation
    if distillation is None:
        return []
    teachers = []
    for name in distillation.teachers:
        if not name.endswith((ONNX_SUFFIX, LOGITS_SUFFIX)):
            teachers.append(_load_run(name, recipe, distillation, runs_dir, faces.class_names))
            continue
        if distillation.views != "plain":
            raise RecipeError(f"distillation.views must be 'plain' for {name}: it answers to whole faces alone.")
        if name.endswith(ONNX_SUFFIX):
            teachers.append(_load_file(name, runs_dir, faces.class_names))
        else:
            teachers.append(_load_logits(name, runs_dir, faces))
    return teachers


def _load_run(
    name: str, recipe: Recipe, distillation: DistillationRecipe, runs_dir: Path, class_names: tuple[str, ...]
) -> Teacher:
    path = runs_dir / name / CHECKPOINT_NAME
    checkpoint = load_finished(path, class_names)
    if distillation.views == "augmented" and checkpoint.recipe.network.equalise != recipe.network.equalise:
        raise CheckpointError(f"{path}: network.equalise must be the same for teacher and student, or views plain.")
    return Teacher(name, checkpoint.hash_weights(), build_network(checkpoint))


def _load_file(name: str, runs_dir: Path, class_names: tuple[str, ...]) -> Teacher:
    path = runs_dir / name
    if class_names != LABELS:
        raise CheckpointError(f"{path}: its classes are {', '.join(LABELS)}, not the data's.")
    try:
        session = open_onnx(path)
    except ModelFileError as error:
        raise CheckpointError(str(error)) from error
    return Teacher(name, _hash_file(path), session)


def _load_logits(name: str, runs_dir: Path, faces: LabelledFaces) -> Teacher:
    path = runs_dir / name
    answers = load_teacher_logits(path)
    if answers.class_names != faces.class_names:
        raise CheckpointError(f"{path}: its classes are {', '.join(answers.class_names)}, not the data's.")
    if answers.data_sha256 != faces.sha256() or answers.logits.shape[1] != len(faces):
        raise CheckpointError(f"{path}: its answers are to other images, labels or votes than these. Write it anew.")
    return Teacher(name, _hash_file(path), answers)


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
