import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_contract import LABELS
from fer_training.errors import DataError, RecipeError
from fer_training.faces import VOTES, LabelledFaces
from fer_training.losses import build_targets, distillation_loss, list_class_weights, soft_cross_entropy
from fer_training.recipe import LossRecipe

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
TARGETS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])


def faces(labels, votes=None, class_names=LABELS):
    images = np.zeros((len(labels), 48, 48), np.uint8)
    votes = None if votes is None else np.array(votes, np.float32)
    return LabelledFaces(images, np.array(labels), class_names, votes)


def cast_votes(**parts):
    return [parts.get(vote, 0.0) for vote in VOTES]


def test_a_label_becomes_a_distribution_and_smoothing_shares_some_of_it():
    targets = build_targets(faces([3, 6]), LossRecipe(label_smoothing=0.07))
    assert targets.dtype == np.float32
    assert targets[0, 3] == pytest.approx(0.94)
    assert targets[1].sum() == pytest.approx(1)
    assert targets[0, 0] == pytest.approx(0.01)


def test_votes_join_the_label_under_its_own_names():
    voted = faces([LABELS.index("happy")], [cast_votes(sadness=0.5, anger=0.3, contempt=0.2)])
    (target,) = build_targets(voted, LossRecipe(votes_as_labels=0.4))
    # What is left of the votes without contempt is 0.8: 5/8 sad, 3/8 angry.
    expected = {"happy": 0.6, "sad": 0.4 * 5 / 8, "angry": 0.4 * 3 / 8}
    assert dict(zip(LABELS, target.tolist(), strict=True)) == pytest.approx(dict.fromkeys(LABELS, 0) | expected)


def test_a_face_without_a_vote_for_any_class_keeps_its_label():
    (target,) = build_targets(faces([2], [cast_votes(NF=1.0)]), LossRecipe(votes_as_labels=0.5))
    assert target.tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_votes_as_labels_need_votes():
    with pytest.raises(DataError, match=r"votes_as_labels needs FER\+ votes"):
        build_targets(faces([2]), LossRecipe(votes_as_labels=0.5))


def test_the_loss_is_the_cross_entropy():
    expected = torch.nn.functional.cross_entropy(LOGITS, TARGETS)
    torch.testing.assert_close(soft_cross_entropy(LOGITS, TARGETS), expected)


def test_class_weights_weigh_images_and_keep_the_scale():
    losses = torch.stack([soft_cross_entropy(LOGITS[i : i + 1], TARGETS[i : i + 1]) for i in range(2)])
    weighted = soft_cross_entropy(LOGITS, TARGETS, torch.tensor([1.0, 3.0, 1.0]))
    torch.testing.assert_close(weighted, (losses[0] + 2 * losses[1]) / 3)  # half of a class of 3, half of one of 1


def test_focal_loss_counts_what_is_already_right_for_little():
    easy = torch.tensor([[math.log(9.0), 0.0]])  # 0.9 for the target
    target = torch.tensor([[1.0, 0.0]])
    assert soft_cross_entropy(easy, target, focal_gamma=2.0).item() == pytest.approx(-math.log(0.9) * 0.01, rel=1e-4)


def test_class_weights_follow_the_order_of_the_data_and_know_its_names():
    assert list_class_weights(("anger", "fear"), {"fear": 1.5}) == [1.0, 1.5]
    with pytest.raises(RecipeError, match="names 'disgust', which the data does not have. Its classes are anger, fear"):
        list_class_weights(("anger", "fear"), {"disgust": 2.0})


def test_a_student_that_answers_as_its_teachers_has_nothing_to_learn():
    teachers = torch.softmax(LOGITS / 3, dim=1)
    assert distillation_loss(LOGITS, teachers, 3.0).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(LOGITS + torch.tensor([0.0, 1.0, 0.0]), teachers, 3.0) > 0.01


def test_the_gradient_of_distillation_hardly_depends_on_the_temperature():
    gradients = []
    for temperature in (3.0, 6.0):
        student = torch.zeros(1, 3, requires_grad=True)
        distillation_loss(
            student, torch.softmax(torch.tensor([[0.3, 0.0, 0.0]]) / temperature, 1), temperature
        ).backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.05, atol=1e-4)
