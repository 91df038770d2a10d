"""One training run: its state, and how an epoch changes it. Driven by `train`."""

import copy
import time

import numpy as np
import torch
from torch.nn import functional

from fer_contract import FACE_SIZE_PX
from fer_training.augmentation import augment
from fer_training.checkpoint import Checkpoint, EpochRecord, Origin
from fer_training.errors import DataError
from fer_training.faces import LabelledFaces, TrainingData
from fer_training.metrics import negative_log_likelihood
from fer_training.network import Classifier
from fer_training.optimisation import build_optimiser, learning_rate, update_average
from fer_training.prediction import predict_logits, softmax
from fer_training.recipe import Recipe


class TrainingRun:
    """The network, its moving average, the optimiser and the history, with all images on the training device."""

    def __init__(
        self, recipe: Recipe, data: TrainingData, device: torch.device, autocast_type: torch.dtype = torch.float32
    ) -> None:
        """Starts at epoch 0 with weights drawn from the recipe's seed.

        Raises:
            DataError: there are fewer training images than one batch.
        """
        self.recipe = recipe
        self.history: list[EpochRecord] = []
        self._steps_per_epoch = len(data.training) // recipe.optimisation.batch_size
        if not self._steps_per_epoch:
            raise DataError(
                f"{len(data.training)} training images are fewer than one batch of {recipe.optimisation.batch_size}. "
                "Give more images, or a smaller optimisation.batch_size."
            )
        self._device = device
        self._autocast_type = autocast_type
        self._images, self._labels = _to_device(data.training, device)
        self._validation = data.validation
        torch.manual_seed(recipe.seed)
        self._network = Classifier(recipe.network).to(device)
        # Faster than the default layout on a CPU with AVX-512; the export does not see it.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = copy.deepcopy(self._network)
        self._optimiser = build_optimiser(self._network, recipe.optimisation)

    @property
    def finished(self) -> bool:
        """Whether all epochs of the recipe are done."""
        return len(self.history) >= self.recipe.optimisation.epochs

    def train_epoch(self) -> EpochRecord:
        """Trains one epoch, evaluates the averaged network on PublicTest, and adds both to the history."""
        started, cpu_started = time.perf_counter(), time.process_time()
        epoch = len(self.history)
        full_view = epoch >= self.recipe.optimisation.epochs - self.recipe.augmentation.full_view_epochs
        view_px = FACE_SIZE_PX if full_view else self.recipe.augmentation.view_px
        loss = self._train_batches(epoch * self._steps_per_epoch, view_px)
        trained = time.perf_counter()
        accuracy, nll = self._evaluate()
        elapsed_before, cpu_before = (
            (self.history[-1].elapsed_s, self.history[-1].cpu_s) if self.history else (0.0, 0.0)
        )
        record = EpochRecord(
            epoch=epoch + 1,
            view_px=view_px,
            train_loss=loss,
            public_accuracy=accuracy,
            public_nll=nll,
            images_per_s=self._steps_per_epoch * self.recipe.optimisation.batch_size / (trained - started),
            elapsed_s=elapsed_before + time.perf_counter() - started,
            cpu_s=cpu_before + time.process_time() - cpu_started,
        )
        self.history.append(record)
        return record

    def _train_batches(self, first_step: int, view_px: int) -> float:
        """One pass over the images in a new random order, without the last incomplete batch. Returns the mean loss."""
        recipe = self.recipe.optimisation
        order = torch.randperm(len(self._labels), device=self._device)
        batches = order[: self._steps_per_epoch * recipe.batch_size].view(-1, recipe.batch_size)
        total = torch.zeros((), device=self._device)
        self._network.train()
        for step, batch in enumerate(batches, start=first_step):
            for group in self._optimiser.param_groups:
                group["lr"] = learning_rate(recipe, step, self._steps_per_epoch)
            views = augment(self._images[batch], self.recipe.augmentation, view_px)
            views = views.contiguous(memory_format=torch.channels_last)
            with torch.autocast(self._device.type, self._autocast_type, self._autocast_type != torch.float32):
                logits = self._network(views).float()
            loss = functional.cross_entropy(logits, self._labels[batch], label_smoothing=recipe.label_smoothing)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            update_average(self._average, self._network, recipe.average_decay, step)
            total += loss.detach()
        return float(total) / len(batches)

    def _evaluate(self) -> tuple[float, float]:
        """Accuracy and negative log likelihood of the averaged network on PublicTest, in float32."""
        probabilities = softmax(predict_logits(self._average, self._validation.images))
        labels = self._validation.labels
        return float(np.mean(probabilities.argmax(axis=1) == labels)), negative_log_likelihood(probabilities, labels)

    def to_checkpoint(self, origin: Origin) -> Checkpoint:
        """The state after the last epoch. It shares its tensors with the run: save it before training on."""
        rng = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self._device)
        return Checkpoint(
            recipe=self.recipe,
            origin=origin,
            history=self.history,
            network=self._network.state_dict(),
            average=self._average.state_dict(),
            optimiser=self._optimiser.state_dict(),
            rng=rng,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to a checkpoint's state, of the same recipe and device type, random numbers included."""
        self.history = list(checkpoint.history)
        self._network.load_state_dict(checkpoint.network)
        self._average.load_state_dict(checkpoint.average)
        self._optimiser.load_state_dict(checkpoint.optimiser)
        torch.set_rng_state(checkpoint.rng["cpu"])
        if self._device.type == "cuda" and "cuda" in checkpoint.rng:
            torch.cuda.set_rng_state(checkpoint.rng["cuda"], self._device)


def _to_device(faces: LabelledFaces, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """All images, uint8, (N, 1, 48, 48), and labels, int64, (N,). FER2013 is 65 MB: it fits anywhere."""
    images = torch.from_numpy(faces.images).unsqueeze(1)
    return images.to(device), torch.from_numpy(faces.labels).to(device)
