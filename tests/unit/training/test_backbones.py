import copy
import io
import math
import warnings

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import onnx
import onnxruntime
import torch
from torch import nn

from fer_training.backbones import ATTENTIONS, BACKBONES, build_backbone, early_strides, with_local_regions
from fer_training.backbones.attention import (
    ChannelAttention,
    EfficientChannelAttention,
    SpatialAttention,
    build_attention,
)
from fer_training.backbones.backbone import scale
from fer_training.backbones.mobilenet import InvertedResidual
from fer_training.backbones.regions import REGIONS, LocalRegions, crop

PAPERS = {"mobilenet_v3_small": "se", "mobilenet_v3_large": "se", "efficientnet_b0": "se"}
"""Attention of the paper's network; the others have none."""
OURS = tuple(name for name in BACKBONES if name.startswith(("mobilenet", "efficientnet", "resnet")))
LANDMARKS = {"left_eye": [(15.2, 17.9)], "right_eye": [(32.2, 18.3)], "mouth": [(16.5, 36.1), (30.3, 36.5)]}
"""Means on FER2013, (x, y) in pixels of 48."""
LARGEST_STD_PX = 5


def faces(count=2, size_px=32, channels=1, seed=1):
    return torch.randn(count, channels, size_px, size_px, generator=torch.Generator().manual_seed(seed))


def small(name, attention="none", size_px=48):
    torch.manual_seed(0)
    return build_backbone(name, channels=1, input_px=size_px, attention=attention, width=0.25)


def stir(network):
    """Gives batch norms the statistics of use and factors other than the first 0 and 1, so that every branch counts."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
        norm.momentum = None  # the statistics become the mean over the batches below
    with torch.no_grad():
        network.train()(faces(4, 48, seed=2))
    return network.eval()


def count_parameters(name, attention, channels=3, input_px=224, width=1.0):
    with torch.device("meta"):
        network = build_backbone(name, channels=channels, input_px=input_px, attention=attention, width=width)
    return sum(parameter.numel() for parameter in network.parameters())


def assert_close(actual, expected, tolerance=1e-4):
    """Equal up to the tolerance, as a part of the largest number."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", [*OURS, "dlib_resnet23"])
def test_every_weight_of_every_backbone_learns(name, attention):
    network = stir(small(name, attention)).train()
    features = network(faces(4))
    assert features.shape == (4, network.features)
    assert features.dtype == torch.float32
    (features * faces(4, features.shape[1])[:, 0, 0]).sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


# Parameters of the published 224 px networks for ImageNet, less those of the layers after the average:
#   MobileNetV3-Small   2,542,856 - (576 * 1024 + 1024) - (1024 * 1000 + 1000)
#   MobileNetV3-Large   5,483,032 - (960 * 1280 + 1280) - (1280 * 1000 + 1000)
#   EfficientNet-B0     5,288,548 - (1280 * 1000 + 1000)
#   ResNet-18          11,689,512 - (512 * 1000 + 1000)
#   ResNet-50          25,557,032 - (2048 * 1000 + 1000)
# The papers round them to 2.5 M, 5.4 M, 5.3 M, 11.69 M and 25.56 M (the last two as CBAM's paper gives them).
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v3_small", 927_008),
        ("mobilenet_v3_large", 2_971_952),
        ("efficientnet_b0", 4_007_548),
        ("resnet18", 11_176_512),
        ("resnet50", 23_508_032),
    ],
)
def test_at_the_papers_settings_a_backbone_has_the_papers_parameters(name, expected):
    assert count_parameters(name, PAPERS.get(name, "none")) == pytest.approx(expected, rel=0.005)


# CBAM's paper (table 4): with SE or CBAM, ResNet-18 grows from 11.69 M to 11.78 M, ResNet-50 from 25.56 M to 28.09 M.
@pytest.mark.parametrize("attention", ["se", "cbam"])
@pytest.mark.parametrize(("name", "millions"), [("resnet18", 0.09), ("resnet50", 2.53)])
def test_attention_costs_a_resnet_what_its_paper_says(name, millions, attention):
    cost = count_parameters(name, attention) - count_parameters(name, "none")
    assert cost / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("name", OURS)
def test_attentions_are_different_networks_and_eca_costs_almost_nothing(name):
    counts = {attention: count_parameters(name, attention, width=0.5) for attention in ATTENTIONS}
    assert len(set(counts.values())) == len(ATTENTIONS)
    assert 0 < counts["eca"] - counts["none"] < 200


def test_the_multiscale_resnet_adds_three_projections():
    added = count_parameters("resnet50_multiscale", "cbam") - count_parameters("resnet50", "cbam")
    assert added == (512 + 1024 + 2048) * 512 + 3 * 2 * 512


def test_the_multiscale_vector_holds_every_scale():
    network = stir(small("resnet50_multiscale"))
    whole = network(faces())
    for scale_index in range(3):
        changed = copy.deepcopy(network)
        nn.init.zeros_(changed.projections[scale_index][1].weight)
        differs = (changed(faces()) != whole).any(dim=0).nonzero().flatten().tolist()
        third = network.features // 3
        assert differs
        assert set(differs) <= set(range(scale_index * third, (scale_index + 1) * third))


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("input_px", "last_px", "crop_px", "last_of_crop_px"),
    [(48, 6, 32, 4), (64, 8, 43, 6), (96, 6, 72, 5), (224, 7, 160, 5)],
)
def test_small_images_and_crops_of_them_keep_a_useful_last_map(name, input_px, last_px, crop_px, last_of_crop_px):
    network = small(name, size_px=input_px).eval()
    for size_px, expected in [(input_px, last_px), (crop_px, last_of_crop_px)]:
        maps = network.stages(network.stem(faces(1, size_px)))
        assert maps.shape[2:] == (expected, expected)
    assert network(faces(1, crop_px)).shape == (1, network.features)


@pytest.mark.parametrize(
    ("input_px", "strides"), [(32, (1, 1)), (95, (1, 1)), (96, (2, 1)), (191, (2, 1)), (192, (2, 2)), (512, (2, 2))]
)
def test_early_strides_follow_the_input(input_px, strides):
    assert early_strides(input_px) == strides


@pytest.mark.parametrize(("wanted", "expected"), [(3, 8), (64, 64), (60, 64), (59, 56), (18, 24), (11, 16), (320, 320)])
def test_widths_are_multiples_of_eight_that_lose_at_most_a_tenth(wanted, expected):
    assert scale(wanted * 4, 0.25) == expected


def test_width_scales_the_channels_of_every_layer():
    for name in OURS:
        assert count_parameters(name, "none", width=0.5) < 0.35 * count_parameters(name, "none")
        for weight in (w for w in small(name).parameters() if w.ndim == 4):
            assert weight.shape[0] % 8 == 0


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_blocks_of_a_resnet_start_as_their_shortcuts(name):
    network = small(name)
    block = network.stages[0][1]
    features = faces(2, 6).relu().expand(-1, network.stage_channels[0], -1, -1)
    assert torch.equal(block(features), features)


@pytest.mark.parametrize("name", [*OURS, "dlib_resnet23"])
def test_kernels_start_with_hes_spread(name):
    torch.manual_seed(0)
    network = build_backbone(name, channels=1, input_px=48, width=0.5)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000:
            fan_in = layer.weight[0].numel()
            variance = layer.weight.var().item() * fan_in
            # 2 before an activation, 1 before none
            assert min(abs(variance - 2) / 2, abs(variance - 1)) < 0.2


def test_weights_come_from_torchs_generator():
    for name in ("mobilenet_v3_small", "resnet18"):
        first, second = (small(name, "cbam").state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)
        other = build_backbone(name, channels=1, input_px=48, attention="cbam", width=0.25).state_dict()
        assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", [*OURS, "dlib_resnet23"])
def test_copies_and_memory_formats_change_nothing(name):
    network = stir(with_local_regions(small(name, "cbam"), 1))
    expected = network(faces())
    changed = copy.deepcopy(network).to(memory_format=torch.channels_last)
    assert_close(changed(faces().to(memory_format=torch.channels_last)), expected)
    for parameter in changed.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(network(faces()), expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_bfloat16_stays_near(attention):
    network = stir(with_local_regions(small("resnet18", attention), 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = network(faces()).float()
    assert_close(halved, network(faces()), tolerance=0.1)


# Each name once, and among them each attention; SE with its hard gate and with its smooth one.
@pytest.mark.parametrize(
    ("name", "attention", "regions"),
    [
        ("mobilenet_v3_small", "se", True),
        ("mobilenet_v3_large", "cbam", False),
        ("efficientnet_b0", "se", False),
        ("resnet18", "eca", False),
        ("resnet50", "none", False),
        ("resnet50_multiscale", "cbam", False),
    ],
)
def test_onnx_runtime_answers_as_pytorch_does(name, attention, regions):
    network = small(name, attention)
    network = stir(with_local_regions(network, 1) if regions else network)
    model = export(network)
    assert not {node.op_type for node in model.graph.node} & {"Shape", "If", "Loop", "BatchNormalization", "ArgMax"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        inputs = faces(count, 48, seed=count)
        (actual,) = session.run(None, {"FACES": inputs.numpy()})
        with torch.no_grad():
            assert_close(torch.from_numpy(actual), network(inputs))


def export(network):
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # see onnx_file.write_onnx
        torch.onnx.export(
            network,
            (torch.zeros(2, 1, 48, 48),),
            stream,
            dynamo=False,
            opset_version=17,
            input_names=["FACES"],
            output_names=["FEATURES"],
            dynamic_axes={"FACES": {0: "N"}, "FEATURES": {0: "N"}},
        )
    model = onnx.load_from_string(stream.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("attention", ["se", "eca", "cbam"])
def test_attention_weakens_features_and_never_turns_them_round(attention):
    torch.manual_seed(0)
    features = torch.randn(2, 32, 6, 6)
    share = build_attention(attention, 32)(features) / features
    assert share.min() > 0
    assert share.max() < 1
    assert share.std() > 0


@pytest.mark.parametrize(("name", "per_channel"), [("se", True), ("eca", True), ("cbam", False)])
def test_only_cbam_tells_positions_apart(name, per_channel):
    torch.manual_seed(0)
    features = torch.randn(2, 32, 6, 6)
    share = build_attention(name, 32)(features) / features
    assert (share.std(dim=(2, 3)).max() < 1e-5) == per_channel


def test_se_weighs_by_averages_and_cbam_by_peaks_too():
    torch.manual_seed(0)
    flat = torch.ones(1, 32, 6, 6)
    peaked = torch.zeros(1, 32, 6, 6)
    peaked[..., 0, 0] = 36  # the same averages
    for attention, same in [(build_attention("se", 32), True), (ChannelAttention(32), False)]:
        weights_of_flat, weights_of_peaked = attention(flat)[..., 0, 0], attention(peaked)[..., 0, 0] / 36
        assert torch.allclose(weights_of_flat, weights_of_peaked, atol=1e-5) == same


def test_cbam_weighs_a_position_by_the_average_and_by_the_peak_of_its_channels():
    torch.manual_seed(0)
    attention = SpatialAttention()
    ones = torch.ones(1, 4, 6, 6)
    same_average = torch.tensor([4.0, 0.0, 0.0, 0.0]).view(1, 4, 1, 1) * ones
    same_peak = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 4, 1, 1) * ones
    weights = attention(ones)[:, 0]
    assert not torch.allclose(weights, attention(same_average)[:, 0] / 4, atol=1e-3)
    assert not torch.allclose(weights, attention(same_peak)[:, 0], atol=1e-3)


@pytest.mark.parametrize(("channels_out", "stride", "adds"), [(8, 1, True), (8, 2, False), (16, 1, False)])
def test_an_inverted_residual_adds_its_input_where_shapes_allow(channels_out, stride, adds):
    block = InvertedResidual(8, 32, channels_out, 3, stride, activation=nn.SiLU, attention=nn.Identity()).eval()
    features = torch.randn(2, 8, 6, 6)
    branch = block.body(features)
    assert torch.equal(block(features), features + branch if adds else branch)


# ECA's paper: 3 for the 64 channels of a first stage, 5 for 256, 7 for 2048; |log2(C) / 2 + 1 / 2| made odd.
@pytest.mark.parametrize(("channels", "size"), [(16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (2048, 7)])
def test_eca_looks_at_as_many_neighbours_as_its_formula_says(channels, size):
    assert EfficientChannelAttention(channels).weigh.kernel_size == (size,)
    assert abs(size - (math.log2(channels) / 2 + 0.5)) <= 1  # an odd number is never further away


def test_regions_hold_their_landmarks():
    assert list(REGIONS) == list(LANDMARKS)
    margin = 2 * LARGEST_STD_PX
    for name, points in LANDMARKS.items():
        region = REGIONS[name]
        for x, y in points:
            assert region.left <= x - margin
            assert x + margin <= region.right
            assert region.top <= y - margin
            assert y + margin <= region.bottom


@pytest.mark.parametrize("size_px", [32, 48, 64, 96, 224])
def test_a_crop_is_the_same_part_of_any_size(size_px):
    axis = (torch.arange(size_px) + 0.5) / size_px * 48  # pixel centres in the 48 px frame
    image = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]  # (1, 2, H, W), x and y
    for region in REGIONS.values():
        x, y = crop(image, region)[0]
        for low, high, coordinates in [(region.left, region.right, x), (region.top, region.bottom, y)]:
            assert coordinates.min() == pytest.approx(low, abs=1.5 * 48 / size_px)
            assert coordinates.max() == pytest.approx(high, abs=1.5 * 48 / size_px)


def test_a_change_of_the_mouth_changes_the_mouths_features_only():
    network = stir(LocalRegions(1, features=16))
    before = faces(2, 48)
    after = before.clone()
    after[:, :, 33:40, 14:33] = 0  # the mean mouth, below the eyes' regions
    changed = (network(before) != network(after)).any(dim=0)
    assert changed.shape == (48,)
    assert not changed[:32].any()
    assert changed[32:].all()


def test_a_region_can_withdraw():
    network = stir(LocalRegions(1, features=16))
    before = network(faces(2, 48))
    nn.init.constant_(network.gates["left_eye"].bias, -100.0)
    after = network(faces(2, 48))
    assert after[:, :16].abs().max() < 1e-6
    assert before[:, :16].abs().max() > 0.01
    assert torch.equal(before[:, 16:], after[:, 16:])


@pytest.mark.parametrize("name", OURS)
def test_any_backbone_gets_regions(name):
    backbone = small(name)
    network = stir(with_local_regions(backbone, 1, features=16))
    features = network(faces(2, 48))
    assert features.shape == (2, network.features) == (2, backbone.features + 3 * 16)
    torch.testing.assert_close(features[:, : backbone.features], backbone(faces(2, 48)))


def test_every_weight_of_the_regions_learns():
    network = stir(LocalRegions(1, features=16)).train()
    network(faces(4, 48)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"backbone must be one of repconv, mobilenet_v3_small, .*resnet50.*, but is 'vgg'"
    ):
        build_backbone("vgg", channels=1, input_px=48)
    for name in OURS:
        with pytest.raises(ValueError, match=r"attention must be one of none, se, eca, cbam, but is 'self'"):
            build_backbone(name, channels=1, input_px=48, attention="self")
        with pytest.raises(ValueError, match=r"input_px must be at least 32, but is 28"):
            build_backbone(name, channels=1, input_px=28)
