"""One training run: its state, and how an epoch changes it. Driven by `train`.

On a GPU a step is recorded once and replayed: a small network's step is some hundred kernels of a few microseconds
each, and launching them takes longer than they do. As one CUDA graph they follow each other without Python in between.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import torch
from torch import nn

from fer_contract import FACE_SIZE_PX
from fer_training.augmentation import Mixup, augment, degrade
from fer_training.checkpoint import Checkpoint, EpochRecord, Origin
from fer_training.distillation import Teachers
from fer_training.errors import DataError
from fer_training.faces import VOTES, LabelledFaces, TrainingData
from fer_training.losses import WITHOUT_VOTES, build_targets, distillation_loss, list_class_weights, soft_cross_entropy
from fer_training.network import Classifier
from fer_training.optimisation import (
    average_weight,
    build_optimiser,
    learning_rate,
    place_learning_rate,
    refresh_statistics,
    set_learning_rate,
    update_average,
)
from fer_training.prediction import accuracy_and_nll
from fer_training.recipe import Recipe

Watch = Callable[[Iterable[torch.Tensor]], Iterable[torch.Tensor]]
"""Passes the batches of an epoch through, for example to show a progress bar."""


class TrainingRun:
    """The network, its moving average, the optimiser and the history, with all images on the training device."""

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        device: torch.device,
        autocast_type: torch.dtype = torch.float32,
        *,
        teachers: Teachers | None = None,
        initial_weights: Mapping[str, torch.Tensor] | None = None,
        compiled: bool = False,
    ) -> None:
        """Prepare the run, at epoch 0.

        Args:
            recipe: The recipe to train by.
            data: The images to train on, and to watch the run on.
            device: The device to train on.
            autocast_type: Number format of the convolutions; float32, bfloat16, or on CUDA float16.
            teachers: Those of the recipe's distillation; None if it has none.
            initial_weights: Weights to start from; None draws them from the recipe's seed.
            compiled: Whether PyTorch compiles the network: slow to start, and faster on some machines.

        Raises:
            DataError: There are fewer training images than one batch, or no votes where the recipe needs them.
            RecipeError: The recipe has a weight for a class that the data does not have.
        """
        self.recipe = recipe
        self.history: list[EpochRecord] = []
        self._device = device
        self._autocast_type = autocast_type
        self._class_names = data.training.class_names
        self._validation = data.validation
        self._steps_per_epoch = len(data.training) // recipe.optimisation.batch_size
        self._place_images(data.training)
        self._teachers = teachers
        self._plain_answers = None
        if teachers is not None and recipe.distillation is not None and recipe.distillation.views == "plain":
            self._plain_answers = teachers.answer_plain(self._images)
        self._build_networks(initial_weights)
        self._score = torch.compile(self._network.score_with_votes) if compiled else self._network.score_with_votes
        self._optimiser = build_optimiser(self._network, recipe.optimisation)
        self._scaler = torch.amp.GradScaler(device.type, enabled=autocast_type == torch.float16)
        # What changes from step to step, as tensors: a recorded step reads them anew.
        self._average_weight = torch.zeros((), device=device)
        self._loss = torch.zeros((), device=device)
        # float16's scaler decides after each step on the CPU whether its gradients were finite: nothing to record.
        self._records_steps = device.type == "cuda" and not self._scaler.is_enabled()
        self._steps: dict[tuple[int, bool], Callable[[torch.Tensor], None]] = {}

    def _place_images(self, training: LabelledFaces) -> None:
        """Check the training images and put them, and what is to be answered to them, on the device.

        Raises:
            DataError: There are too few images, or no votes.
            RecipeError: The recipe has a weight for a class that the data does not have.
        """
        loss, device = self.recipe.loss, self._device
        if not self._steps_per_epoch:
            batch_size = self.recipe.optimisation.batch_size
            raise DataError(
                f"{len(training)} training images are fewer than one batch of {batch_size}. "
                "Give more images, or a smaller optimisation.batch_size."
            )
        if loss.votes_auxiliary and training.votes is None:
            raise DataError(f"{self.recipe.name}: its loss.votes_auxiliary needs FER+ votes. {WITHOUT_VOTES}")
        # All of it on the device: FER2013 is 65 MB.
        self._images = torch.from_numpy(training.images).unsqueeze(1).to(device)  # (N, 1, 48, 48)
        self._targets = torch.from_numpy(build_targets(training, loss)).to(device)  # (N, C)
        self._votes = None
        if loss.votes_auxiliary and training.votes is not None:
            self._votes = torch.from_numpy(training.votes).to(device)  # (N, 10)
        self._class_weights = None
        if loss.class_weights:
            weights = list_class_weights(training.class_names, loss.class_weights)
            self._class_weights = torch.tensor(weights, device=device)

    def _build_networks(self, initial_weights: Mapping[str, torch.Tensor] | None) -> None:
        """Build the network and its moving average, from the given weights or the recipe's seed."""
        torch.manual_seed(self.recipe.seed)
        votes = len(VOTES) if self.recipe.loss.votes_auxiliary else 0
        self._network = Classifier(self.recipe.network, len(self._class_names), votes).to(self._device)
        if initial_weights is not None:
            # What is missing starts anew: the last layers where the backbone is from elsewhere, or that for FER+ votes.
            self._network.load_state_dict({**self._network.state_dict(), **initial_weights})
        # Faster than the default layout on a CPU with AVX-512; the export does not see it.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = copy.deepcopy(self._network)

    @property
    def finished(self) -> bool:
        """Tell whether all epochs of the recipe are done."""
        return len(self.history) >= self.recipe.optimisation.epochs

    def train_epoch(self, watch: Watch | None = None) -> EpochRecord:
        """Train one epoch, evaluate the averaged network on the validation images, and add both to the history."""
        started, cpu_started = time.perf_counter(), time.process_time()
        recipe, epoch = self.recipe, len(self.history)
        full_view = epoch >= recipe.optimisation.epochs - recipe.augmentation.full_view_epochs
        view_px = FACE_SIZE_PX if full_view else recipe.augmentation.view_px
        first_step = epoch * self._steps_per_epoch
        # Without gradients the optimiser leaves weights alone; the batch norms' statistics adapt all the same.
        self._network.backbone.requires_grad_(epoch >= recipe.optimisation.frozen_epochs)
        loss = self._train_batches(first_step, view_px, watch)
        trained = time.perf_counter()
        if recipe.optimisation.fresh_statistics and epoch + 1 == recipe.optimisation.epochs:
            refresh_statistics(self._average, self._images)
        accuracy, nll = accuracy_and_nll(self._average, self._validation)
        elapsed_before, cpu_before = (
            (self.history[-1].elapsed_s, self.history[-1].cpu_s) if self.history else (0.0, 0.0)
        )
        record = EpochRecord(
            epoch=epoch + 1,
            view_px=view_px,
            learning_rate=learning_rate(recipe.optimisation, first_step, self._steps_per_epoch),
            train_loss=loss,
            validation_accuracy=accuracy,
            validation_nll=nll,
            images_per_s=self._steps_per_epoch * recipe.optimisation.batch_size / (trained - started),
            elapsed_s=elapsed_before + time.perf_counter() - started,
            cpu_s=cpu_before + time.process_time() - cpu_started,
        )
        self.history.append(record)
        return record

    def _train_batches(self, first_step: int, view_px: int, watch: Watch | None) -> float:
        """Train on all images in a new random order, without the last incomplete batch, and return the mean loss."""
        recipe = self.recipe.optimisation
        order = torch.randperm(len(self._images), device=self._device)
        batches: Iterable[torch.Tensor] = order[: self._steps_per_epoch * recipe.batch_size].view(-1, recipe.batch_size)
        step = self._step_at(view_px)
        self._loss.zero_()
        self._network.train()
        for number, batch in enumerate(watch(batches) if watch else batches, start=first_step):
            set_learning_rate(self._optimiser, learning_rate(recipe, number, self._steps_per_epoch))
            self._average_weight.fill_(average_weight(recipe.average_decay, number))
            step(batch)
        return float(self._loss) / self._steps_per_epoch

    def _step_at(self, view_px: int) -> Callable[[torch.Tensor], None]:
        """Return the step for views of one size, with or without the backbone's gradients; on a GPU it is recorded."""
        key = view_px, len(self.history) < self.recipe.optimisation.frozen_epochs
        if key not in self._steps:
            step = partial(self._take_step, view_px=view_px)
            self._steps[key] = GraphedStep(step) if self._records_steps else step
        return self._steps[key]

    def _take_step(self, batch: torch.Tensor, *, view_px: int) -> None:
        """Learn from one batch, given by the numbers of its images, int64, (B,), and add its loss to the epoch's."""
        self._optimiser.zero_grad()
        loss = self._compute_loss(batch, view_px)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.recipe.optimisation.gradient_clip:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self._network.parameters(), self.recipe.optimisation.gradient_clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        update_average(self._average, self._network, self._average_weight)
        self._loss += loss.detach()

    def _compute_loss(self, batch: torch.Tensor, view_px: int) -> torch.Tensor:
        """Compute the loss of one batch, given by the numbers of its images: int64, (B,)."""
        recipe = self.recipe
        views = augment(self._network.preprocess(self._images[batch]), recipe.augmentation, view_px)
        if recipe.capture is not None:
            views = degrade(views, recipe.capture)
        targets = self._targets[batch]
        votes = None if self._votes is None else self._votes[batch]
        answers = None if self._plain_answers is None else self._plain_answers[batch]
        if recipe.augmentation.mixup_alpha:
            mixup = Mixup(len(batch), recipe.augmentation.mixup_alpha, self._device)
            views, targets = mixup.mix(views), mixup.mix(targets)
            votes = None if votes is None else mixup.mix(votes)
            answers = None if answers is None else mixup.mix(answers)
        views = views.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, self._autocast_type, self._autocast_type != torch.float32):
            logits, votes_logits = self._score(views)
            if self._teachers is not None and answers is None:
                answers = self._teachers.answer(views)
        logits = logits.float()
        loss = soft_cross_entropy(logits, targets, self._class_weights, recipe.loss.focal_gamma)
        if recipe.distillation is not None and answers is not None:
            distance = distillation_loss(logits, answers, recipe.distillation.temperature)
            loss = torch.lerp(loss, distance, recipe.distillation.weight)
        if votes is not None and votes_logits is not None:
            loss = loss + recipe.loss.votes_auxiliary * soft_cross_entropy(votes_logits.float(), votes)
        return loss

    def to_checkpoint(self, origin: Origin) -> Checkpoint:
        """Return the state after the last epoch. It shares its tensors with the run: save it before training on."""
        rng = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self._device)
        return Checkpoint(
            recipe=self.recipe,
            origin=origin,
            class_names=self._class_names,
            history=self.history,
            network=self._network.state_dict(),
            average=self._average.state_dict(),
            optimiser=self._optimiser.state_dict(),
            rng=rng,
            scaler=self._scaler.state_dict(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint's state, of the same recipe and device type, random numbers included."""
        self.history = list(checkpoint.history)
        self._network.load_state_dict(checkpoint.network)
        self._average.load_state_dict(checkpoint.average)
        self._optimiser.load_state_dict(checkpoint.optimiser)
        place_learning_rate(self._optimiser, self._device)
        self._scaler.load_state_dict(checkpoint.scaler)
        torch.set_rng_state(checkpoint.rng["cpu"])
        if self._device.type == "cuda" and "cuda" in checkpoint.rng:
            torch.cuda.set_rng_state(checkpoint.rng["cuda"], self._device)


EAGER_STEPS: Final = 3
"""Steps that run as they are before the recording, so that libraries have chosen their kernels and got buffers."""


class GraphedStep:
    """A step on a batch, the first few times as it is, then as one CUDA graph.

    What the step reads and writes besides the batch has to be tensors that stay where they are. The batch's size, and
    the path through the step's code, have to be the same every time. Random numbers go on from replay to replay.
    """

    def __init__(self, step: Callable[[torch.Tensor], None]) -> None:
        """Wrap a step on a batch, int64, (B,), the numbers of its images, on the GPU."""
        self._step = step
        self._taken = 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch = torch.empty(0)

    def __call__(self, batch: torch.Tensor) -> None:
        """Take one step."""
        if self._taken < EAGER_STEPS:
            self._taken += 1
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._step(batch)
            torch.cuda.current_stream().wait_stream(self._stream)
            return
        if self._graph is None:
            self._batch = batch.clone()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):  # Records, and computes nothing.
                self._step(self._batch)
        self._batch.copy_(batch)
        self._graph.replay()
