"""The palette of all that is drawn: everyone tells the labels apart, and reads what is written on them."""

import itertools

import numpy as np
import pytest

from fer_client._drawing import BACKGROUND, FAINT_TEXT, TEXT, colors_of, text_on

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
COLORS = colors_of(LABELS)

VISION = {
    "normal": np.eye(3),
    "without red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "without green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "without blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""How linear RGB is seen. Source: Machado, Oliveira and Fernandes, A physiologically-based model for simulation of
color vision deficiency, 2009, severity 1."""
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(axis=1)


def linear(color):
    """Linear RGB, (3,), of `#RRGGBB`. Source: IEC 61966-2-1 (sRGB)."""
    encoded = np.array([int(color[index : index + 2], 16) for index in (1, 3, 5)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """Source: WCAG 2.2."""
    darker, lighter = sorted(float(TO_XYZ[1] @ linear(color)) for color in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(color, vision):
    """CIELAB, (3,), as somebody sees a colour. Source: CIE 15."""
    xyz = TO_XYZ @ np.clip(np.asarray(VISION[vision]) @ linear(color), 0, 1) / WHITE
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def difference(one, other):
    """CIEDE2000 of two colours in CIELAB. Source: Sharma, Wu and Dalal, 2005, with its numbers of equations dropped."""
    (light_1, a_1, b_1), (light_2, a_2, b_2) = one, other
    mean = (np.hypot(a_1, b_1) + np.hypot(a_2, b_2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25**7))
    chroma_1, chroma_2 = np.hypot(stretch * a_1, b_1), np.hypot(stretch * a_2, b_2)
    hue_1, hue_2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a_1, b_1), (a_2, b_2)))
    turn = (hue_2 - hue_1 + 180) % 360 - 180
    light, chroma, hue = (light_1 + light_2) / 2, (chroma_1 + chroma_2) / 2, hue_1 + turn / 2
    angles = ((1, -30, -0.17), (2, 0, 0.24), (3, 6, 0.32), (4, -63, -0.2))
    weight = 1 + sum(share * np.cos(np.radians(times * hue + shift)) for times, shift, share in angles)
    parts = (
        (light_2 - light_1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)),
        (chroma_2 - chroma_1) / (1 + 0.045 * chroma),
        2 * np.sqrt(chroma_1 * chroma_2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight),
    )
    bend = np.sin(np.radians(60 * np.exp(-(((hue % 360 - 275) / 25) ** 2)))) * np.sqrt(chroma**7 / (chroma**7 + 25**7))
    return np.sqrt(sum(part**2 for part in parts) - 2 * bend * parts[1] * parts[2])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ],
)
def test_differences_are_those_of_the_paper(one, other, expected):
    assert difference(one, other) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("vision", VISION)
def test_everyone_tells_the_labels_apart(vision):
    pairs = itertools.combinations(COLORS.values(), 2)
    worst = min((float(difference(lab(a, vision), lab(b, vision))), a, b) for a, b in pairs)
    assert worst[0] >= 10, worst


def test_the_measure_finds_colours_that_are_alike():
    """The former colours of fear and surprise, to somebody without green."""
    assert difference(lab("#b794f6", "without green"), lab("#56aef0", "without green")) < 2


@pytest.mark.parametrize("color", COLORS.values())
def test_colours_stand_out_and_their_text_can_be_read(color):
    assert contrast(color, BACKGROUND) >= 3
    assert contrast(color, "#FFFFFF") >= 2  # Lines of the plot, which are thick; its strip has the names.
    assert contrast(color, text_on(color)) >= 4.5


@pytest.mark.parametrize("color", [TEXT, FAINT_TEXT])
def test_the_panel_can_be_read(color):
    assert contrast(color, BACKGROUND) >= 4.5


def test_labels_of_another_model_have_colours_of_their_own():
    labels = ("happy", *(f"label {number}" for number in range(8)))
    colors = colors_of(labels)
    assert len(set(colors.values())) == len(labels)
    assert colors["happy"] == COLORS["happy"]
    assert all(contrast(color, text_on(color)) >= 4.5 for color in colors.values())
