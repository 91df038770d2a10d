import csv
import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.checkpoint import load_checkpoint
from fer_training.errors import CheckpointError, DataError, OutputExistsError, RecipeError
from fer_training.faces import LabelledFaces
from fer_training.network import Classifier
from fer_training.optimisation import (
    average_weight,
    build_optimiser,
    choose_autocast_type,
    learning_rate,
    set_learning_rate,
    update_average,
)
from fer_training.train import format_progress, train

CPU = torch.device("cpu")


def interrupt_after(epoch):
    """A callback that does to a run what Ctrl-C does."""

    def on_epoch(record):
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return on_epoch


def test_a_run_learns_and_leaves_a_checkpoint_and_a_log(tmp_path, recipe, data):
    records = []
    path = train(recipe, data, tmp_path / "run", device=CPU, on_epoch=records.append)
    assert path == tmp_path / "run" / "checkpoint.pt"
    assert records[-1].validation_accuracy > 0.5  # by chance 0.14
    assert records[-1].train_loss < records[0].train_loss
    assert [record.view_px for record in records] == [40, 40, 40, 48]
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    assert [row["epoch"] for row in log] == ["1", "2", "3", "4"]
    assert float(log[-1]["validation_accuracy"]) == pytest.approx(records[-1].validation_accuracy, abs=1e-4)
    checkpoint = load_checkpoint(path)
    assert checkpoint.recipe == recipe
    assert checkpoint.history == records
    assert checkpoint.origin.data_sha256 == data.training.sha256()
    assert checkpoint.origin.dropped == data.dropped


def test_an_interrupted_run_ends_with_the_same_weights_as_one_that_was_not(tmp_path, recipe, data):
    whole = load_checkpoint(train(recipe, data, tmp_path / "whole", device=CPU))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "parts", device=CPU, on_epoch=interrupt_after(2))
    torch.rand(7)  # whatever else draws random numbers in between
    resumed = load_checkpoint(train(recipe, data, tmp_path / "parts", device=CPU, resume=True))
    for states in ("network", "average"):
        for name, expected in getattr(whole, states).items():
            assert torch.equal(getattr(resumed, states)[name], expected), f"{states} {name}"
    assert [r.train_loss for r in resumed.history] == [r.train_loss for r in whole.history]
    with (tmp_path / "parts" / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_the_seed_decides_the_run(tmp_path, recipe, data):
    short = dataclasses.replace(recipe, optimisation=dataclasses.replace(recipe.optimisation, epochs=1))
    losses = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        path = train(dataclasses.replace(short, seed=seed), data, tmp_path / name, device=CPU)
        losses.append(load_checkpoint(path).history[0].train_loss)
    assert losses[0] == losses[1] != losses[2]


def test_an_existing_run_is_not_overwritten(tmp_path, recipe, data):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path, device=CPU, on_epoch=interrupt_after(1))
    with pytest.raises(OutputExistsError, match=r"checkpoint.pt exists already. Add --resume"):
        train(recipe, data, tmp_path, device=CPU)


def test_only_a_run_of_the_same_recipe_and_data_is_resumed(tmp_path, recipe, data):
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: cannot be read .* Give a checkpoint.pt of fer-train"):
        train(recipe, data, tmp_path, device=CPU, resume=True)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path, device=CPU, on_epoch=interrupt_after(1))
    with pytest.raises(CheckpointError, match="is of another recipe than --recipe names"):
        train(dataclasses.replace(recipe, seed=9), data, tmp_path, device=CPU, resume=True)
    fewer = LabelledFaces(data.training.images[:-1], data.training.labels[:-1])
    with pytest.raises(CheckpointError, match="is of other images than are given"):
        train(recipe, dataclasses.replace(data, training=fewer), tmp_path, device=CPU, resume=True)


def test_fewer_images_than_a_batch_are_refused(tmp_path, recipe, data):
    few = LabelledFaces(data.training.images[:15], data.training.labels[:15])
    with pytest.raises(DataError, match="15 training images are fewer than one batch of 16"):
        train(recipe, dataclasses.replace(data, training=few), tmp_path, device=CPU)


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"broken", b"\x80\x02]}q.", b"PK\x03\x04" + bytes(40), None]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    if content is None:
        torch.save({"weights": torch.zeros(2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: is not a checkpoint"):
        load_checkpoint(path)


def test_a_kill_while_writing_leaves_the_last_checkpoint_whole(tmp_path, recipe, data, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path, device=CPU, on_epoch=interrupt_after(1))
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pt")

    def write_half(table, file):
        file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", write_half)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path / "checkpoint.pt").history == checkpoint.history


def test_the_learning_rate_warms_up_and_falls_to_zero(recipe):
    recipe = dataclasses.replace(recipe.optimisation, epochs=10, warmup_epochs=2.0, learning_rate=1.0)
    rates = [learning_rate(recipe, step, steps_per_epoch=5) for step in range(50)]
    assert rates[:11] == pytest.approx([*(step / 11 for step in range(1, 11)), 1.0])
    assert rates[30] == pytest.approx(0.5)  # half of the 40 steps after the warm-up
    assert 0 < rates[-1] < 0.002
    assert np.all(np.diff(rates[10:]) < 0)


def test_only_kernels_and_matrices_decay_and_the_backbone_has_a_rate_of_its_own(recipe):
    network = Classifier(recipe.network, 7, votes=10)
    slow = dataclasses.replace(recipe.optimisation, backbone_rate=0.25)
    optimiser = build_optimiser(network, slow)
    set_learning_rate(optimiser, 0.8)
    settings = {
        parameter: (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    assert len(settings) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        rate = 0.2 if name.startswith("backbone.") else 0.8
        decays = "kernel_" in name or (name.endswith("weight") and "norm" not in name)
        assert settings[parameter] == (pytest.approx(rate), 1e-4 if decays else 0.0), name


def test_frozen_epochs_leave_the_backbone_alone_and_the_last_layers_learn(tmp_path, recipe, data):
    frozen = dataclasses.replace(recipe, optimisation=dataclasses.replace(recipe.optimisation, frozen_epochs=2))
    torch.manual_seed(recipe.seed)
    start = Classifier(recipe.network, 7)
    changed = []

    def note_changes(record):
        weights = load_checkpoint(tmp_path / "run" / "checkpoint.pt").network
        names = (name for name, weight in start.named_parameters() if not torch.equal(weights[name], weight))
        changed.append({name.partition(".")[0] for name in names})

    train(frozen, data, tmp_path / "run", device=CPU, on_epoch=note_changes)
    assert changed == [{"head"}, {"head"}, {"backbone", "head"}, {"backbone", "head"}]


def test_a_run_interrupted_while_frozen_ends_as_one_that_was_not(tmp_path, recipe, data):
    frozen = dataclasses.replace(recipe, optimisation=dataclasses.replace(recipe.optimisation, frozen_epochs=2))
    whole = load_checkpoint(train(frozen, data, tmp_path / "whole", device=CPU))
    with pytest.raises(KeyboardInterrupt):
        train(frozen, data, tmp_path / "parts", device=CPU, on_epoch=interrupt_after(1))
    resumed = load_checkpoint(train(frozen, data, tmp_path / "parts", device=CPU, resume=True))
    assert resumed.hash_weights() == whole.hash_weights()


def test_the_average_starts_near_the_network_and_then_follows_slowly():
    average, network = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(average.weight, 0.0)
    torch.nn.init.constant_(network.weight, 1.0)
    update_average(average, network, torch.tensor(average_weight(decay=0.9, step=0)))
    assert average.weight.item() == pytest.approx(0.9)
    update_average(average, network, torch.tensor(average_weight(decay=0.9, step=1000)))
    assert average.weight.item() == pytest.approx(0.91)


@pytest.mark.parametrize(
    ("precision", "capabilities", "expected"),
    [
        ("auto", {"avx512_bf16": True}, torch.bfloat16),
        ("auto", {"amx_bf16": True}, torch.bfloat16),
        ("auto", {"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ("bf16", {}, torch.bfloat16),
        ("fp32", {"avx512_bf16": True}, torch.float32),
    ],
)
def test_bfloat16_is_chosen_where_the_cpu_has_it(monkeypatch, precision, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_autocast_type(precision, CPU) == expected


def test_bfloat16_trains_too(tmp_path, recipe, data):
    recipe = dataclasses.replace(recipe, optimisation=dataclasses.replace(recipe.optimisation, epochs=2))
    checkpoint = load_checkpoint(train(recipe, data, tmp_path, device=CPU, precision="bf16"))
    assert checkpoint.origin.precision == "bfloat16"
    assert all(weight.dtype != torch.bfloat16 for weight in checkpoint.average.values())
    assert checkpoint.history[1].train_loss < checkpoint.history[0].train_loss


def test_a_progress_line_says_what_is_left(tmp_path, recipe, data):
    records = []
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path, device=CPU, on_epoch=lambda r: (records.append(r), interrupt_after(1)(r)))
    record = dataclasses.replace(records[0], train_loss=1.5, validation_accuracy=0.5, elapsed_s=65.0)
    line = format_progress(record, epochs=4)
    assert line.startswith("epoch 1/4  40 px  loss 1.5000  accuracy 50.00%")
    assert line.endswith("1:05 gone, 3:15 to go")


def continue_from(recipe, name, **network):
    """The recipe of one epoch that changes next to nothing, from the weights of a run."""
    still = dataclasses.replace(recipe.optimisation, epochs=1, learning_rate=1e-6)
    other = dataclasses.replace(recipe.network, **network)
    return dataclasses.replace(recipe, name="next", starts_from=name, optimisation=still, network=other)


def test_a_run_starts_from_the_weights_that_its_recipe_names(tmp_path, recipe, data):
    start = load_checkpoint(train(recipe, data, tmp_path / "tiny", device=CPU))
    path = train(continue_from(recipe, "tiny", dropout=0.0), data, tmp_path / "next", device=CPU, runs_dir=tmp_path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.average["head.weight"] == pytest.approx(start.average["head.weight"], abs=1e-3)
    assert checkpoint.origin.starts_from_sha256 == start.hash_weights()
    untrained = train(continue_from(recipe, ""), data, tmp_path / "untrained", device=CPU)
    assert checkpoint.history[0].validation_nll < load_checkpoint(untrained).history[0].validation_nll - 0.5


def test_a_run_starts_only_from_a_finished_one_of_the_same_network(tmp_path, recipe, data):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "tiny", device=CPU, on_epoch=interrupt_after(1))
    with pytest.raises(CheckpointError, match="epoch 1 of 4"):
        train(continue_from(recipe, "tiny"), data, tmp_path / "next", device=CPU, runs_dir=tmp_path)
    train(recipe, data, tmp_path / "tiny", device=CPU, resume=True)
    with pytest.raises(CheckpointError, match="its network is not the recipe's"):
        train(continue_from(recipe, "tiny", attention="eca"), data, tmp_path / "next", device=CPU, runs_dir=tmp_path)
    renamed = dataclasses.replace(data.training, class_names=tuple("abcdefg"))
    others = dataclasses.replace(data, training=renamed)
    with pytest.raises(CheckpointError, match="not the data's"):
        train(continue_from(recipe, "tiny"), others, tmp_path / "next", device=CPU, runs_dir=tmp_path)


def test_a_run_whose_loss_is_no_number_any_more_ends_and_keeps_what_it_had(tmp_path, recipe, data):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path, device=CPU, on_epoch=interrupt_after(1))
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pt")
    broken = {**checkpoint.network, "head.bias": torch.full((7,), math.nan)}
    dataclasses.replace(checkpoint, network=broken).save(tmp_path / "checkpoint.pt")
    with pytest.raises(RecipeError, match=r"tiny: the loss of epoch 2 is nan, .* Lower optimisation.learning_rate"):
        train(recipe, data, tmp_path, device=CPU, resume=True)
    assert len(load_checkpoint(tmp_path / "checkpoint.pt").history) == 1


def test_a_run_is_not_resumed_on_another_kind_of_device(tmp_path, recipe, data):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path, device=CPU, on_epoch=interrupt_after(1))
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pt")
    on_gpu = {**checkpoint.rng, "cuda": checkpoint.rng["cpu"]}
    dataclasses.replace(checkpoint, rng=on_gpu).save(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="was trained on another kind of device. Give its --device"):
        train(recipe, data, tmp_path, device=CPU, resume=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path, recipe, data):
    with pytest.raises(RecipeError, match="--device cuda: PyTorch finds no NVIDIA GPU. Give --device cpu"):
        train(recipe, data, tmp_path, device=torch.device("cuda"))
