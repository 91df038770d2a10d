"""The networks that can stand before the classifier's last layer, by name.

To add one, write it in a file of its own here, as a `Backbone`, and name it in `_FACTORIES`: recipes, commands and the
export know it by that name. Each network is written from its source on plain PyTorch, with random weights, and exports
to ONNX opset 17. One of them has weights to start from: see `dlib_weights`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from fer_training.backbones.attention import ATTENTIONS, check_attention
from fer_training.backbones.backbone import Backbone, early_strides
from fer_training.backbones.dlib_resnet import DlibResNet
from fer_training.backbones.efficientnet import EfficientNet
from fer_training.backbones.mobilenet import LARGE, SMALL, MobileNetV3
from fer_training.backbones.regions import with_local_regions
from fer_training.backbones.repconv import RepConvNet
from fer_training.backbones.resnet import BasicBlock, Bottleneck, MultiscaleResNet, ResNet

__all__ = ["ATTENTIONS", "BACKBONES", "REPCONV", "Backbone", "build_backbone", "early_strides", "with_local_regions"]

REPCONV: Final = "repconv"
"""The backbone whose shape a recipe gives in full."""

_FACTORIES: Final[dict[str, Callable[..., Backbone]]] = {
    REPCONV: RepConvNet,
    "mobilenet_v3_small": partial(MobileNetV3, SMALL),
    "mobilenet_v3_large": partial(MobileNetV3, LARGE),
    "efficientnet_b0": EfficientNet,
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet50_multiscale": partial(MultiscaleResNet, Bottleneck, (3, 4, 6, 3)),
    "dlib_resnet23": partial(DlibResNet, (3, 4, 3, 1)),
    "dlib_resnet27": partial(DlibResNet, (3, 4, 3, 3)),
    "dlib_resnet29": partial(DlibResNet, (3, 4, 3, 3, 1)),
}
"""Each is called with `channels`, `input_px`, `attention` and `width` by keyword."""

BACKBONES: Final[tuple[str, ...]] = tuple(_FACTORIES)


def build_backbone(
    name: str,
    *,
    channels: int,
    input_px: int,
    attention: str = "none",
    width: float = 1.0,
    shape: Mapping[str, Any] | None = None,
) -> Backbone:
    """Build a backbone with fresh weights, drawn from PyTorch's global generator.

    Args:
        name: One of `BACKBONES`.
        channels: Channels of the faces, for example 1 for gray.
        input_px: Side of the faces, from 32; small ones are halved less often, see `early_strides`. The backbone also
            takes somewhat smaller crops of them.
        attention: One of `ATTENTIONS`. The papers' networks: "se" for MobileNetV3 and EfficientNet, "none" for ResNet.
        width: Factor on the channels of every layer, which are rounded to multiples of 8.
        shape: What `repconv` needs besides, by keyword: the fields of `recipe.RepconvRecipe`. None for all others.

    Raises:
        ValueError: The name or the attention is not known, or `input_px` is below 32.
    """
    if name not in _FACTORIES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, but is {name!r}.")
    check_attention(attention)
    factory = _FACTORIES[name]
    return factory(channels=channels, input_px=input_px, attention=attention, width=width, **(shape or {}))
