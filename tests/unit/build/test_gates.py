"""fer_build.gates: how far a smaller file may differ from the float32 one."""

import numpy as np
import pytest

import fer_contract as contract
from fer_build.errors import GateError
from fer_build.faces_file import LabelledCrops
from fer_build.gates import compare, format_table, macro_f1, require

COUNT = 2000


def sure_of(answers):
    """Probabilities that answer so: 0.94 for the answer, 0.01 for the others."""
    return np.where(np.eye(7, dtype=bool)[answers], np.float32(0.94), np.float32(0.01))


@pytest.fixture
def crops():
    labels = np.arange(COUNT) % 7
    return LabelledCrops(np.zeros((COUNT, 1, 48, 48), np.uint8), labels, "nothing")


def answer(labels, wrong):
    """The labels, but for so many that are answered with the next class."""
    answers = labels.copy()
    answers[:wrong] = (answers[:wrong] + 1) % 7
    return answers


def test_a_comparison_counts_what_was_lost(crops):
    found = compare(sure_of(answer(crops.labels, 100)), sure_of(answer(crops.labels, 106)), crops)
    assert found.images == COUNT
    assert found.accuracy == pytest.approx(1 - 106 / COUNT)
    assert found.accuracy_lost == pytest.approx(6 / COUNT)
    assert found.macro_f1_lost == pytest.approx(6 / COUNT, rel=0.1)
    assert found.agreement == pytest.approx(1 - 6 / COUNT)
    assert found.largest_difference == pytest.approx(0.93)
    assert found.mean_difference == pytest.approx(6 * 2 * 0.93 / (7 * COUNT))


def test_macro_f1_is_the_mean_over_the_classes():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
    answers = np.array([0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 0])
    # angry: 3 right of 4 answered and 4 labelled; disgust: 2 right of 3 and 2; neutral: none of 0 and 1.
    assert macro_f1(answers, labels) == pytest.approx((6 / 8 + 4 / 5 + 1 + 1 + 1 + 1 + 0) / 7)


@pytest.mark.parametrize(
    ("precision", "wrong", "passes"),
    [("fp16", 2, True), ("fp16", 3, False), ("int8", 6, True), ("int8", 7, False)],
)
def test_a_gate_lets_pass_what_it_allows_and_no_more(crops, precision, wrong, passes):
    found = compare(sure_of(crops.labels), sure_of(answer(crops.labels, wrong)), crops)
    if passes:
        require(precision, "onnxruntime", found)
    else:
        with pytest.raises(GateError, match=rf"(?s){precision} does not pass its gate.*fails by 0\.0005"):
            require(precision, "onnxruntime", found)


def test_macro_f1_alone_can_fail_a_gate(crops):
    """A rare class is lost, which the accuracy hardly shows."""
    labels = np.zeros(COUNT, np.int64)
    labels[:5] = 1
    rare = LabelledCrops(crops.faces, labels, "nothing")
    found = compare(sure_of(labels), sure_of(np.zeros(COUNT, np.int64)), rare)
    assert found.accuracy_lost < 0.003
    with pytest.raises(GateError, match=r"(?s)accuracy lost .*passes.*macro-F1 lost .*fails by"):
        require("int8", "onnxruntime", found)


def test_gaining_passes(crops):
    found = compare(sure_of(answer(crops.labels, 100)), sure_of(crops.labels), crops)
    assert found.accuracy_lost < 0
    require("int8", "openvino", found)
    assert "int8 by openvino, 2000 faces of nothing" in format_table("int8", "openvino", found)


def test_every_class_of_the_contract_counts(crops):
    assert macro_f1(crops.labels, crops.labels) == 1
    assert len(contract.LABELS) == 7
