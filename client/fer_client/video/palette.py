"""One colour for each label, the same in the plot and in the annotated video.

They are told apart by colour-blind people too. Source: Okabe and Ito, Color Universal Design, 2008.
"""

from collections.abc import Sequence
from typing import Final

_OF_LABEL: Final = {
    "angry": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happy": "#E69F00",
    "sad": "#0072B2",
    "surprise": "#56B4E9",
    "neutral": "#8C8C8C",
}
_OTHERS: Final = ("#8DD3C7", "#BEBADA", "#FB8072", "#B3DE69", "#FCCDE5", "#BC80BD", "#CCEBC5", "#A6761D")
"""For labels that a model of another kind may serve. They come round again where there are more."""


def colors_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour, `#RRGGBB`, for each label."""
    unknown = [label for label in labels if label not in _OF_LABEL]
    return {label: _OF_LABEL.get(label) or _OTHERS[unknown.index(label) % len(_OTHERS)] for label in labels}
