import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.network import Classifier, normalise


@pytest.fixture
def network(recipe):
    torch.manual_seed(0)
    return Classifier(recipe.network, classes=7).eval()


@pytest.mark.parametrize("size_px", [40, 48])
def test_any_view_gets_seven_logits(network, size_px):
    assert network(torch.zeros(3, 1, size_px, size_px)).shape == (3, 7)


def test_the_stem_and_every_stage_but_the_first_halve_the_resolution(network):
    assert network.backbone.layers(torch.zeros(1, 1, 48, 48)).shape == (1, 16, 12, 12)


def test_an_answer_does_not_depend_on_the_other_faces_in_the_batch(network):
    faces = torch.randn(4, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(faces)[2:3], network(faces[2:3]), rtol=1e-4, atol=1e-5)


def test_pixels_are_centred_on_mid_gray():
    pixels = torch.tensor([[[[0, 128, 192]]]], dtype=torch.uint8)
    assert normalise(pixels).flatten().tolist() == [-2.0, 0.0, 1.0]
