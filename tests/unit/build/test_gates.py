"""fer_build.gates: how far a smaller file may differ from the float32 one."""

import numpy as np
import pytest

import fer_contract as contract
from fer_build.errors import GateError
from fer_build.faces_file import LabelledCrops
from fer_build.gates import compare, format_table, macro_f1, read_gate, require, write_gate
from fer_runtimes import RUNTIMES

COUNT = 2000


def sure_of(answers):
    """Probabilities that answer so: 0.94 for the answer, 0.01 for the others."""
    return np.where(np.eye(7, dtype=bool)[answers], np.float32(0.94), np.float32(0.01))


def by_each_runtime(found):
    return dict.fromkeys(RUNTIMES, found)


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
        require(precision, by_each_runtime(found))
    else:
        with pytest.raises(GateError, match=rf"(?s){precision} does not pass its gate.*fails by 0\.0005"):
            require(precision, by_each_runtime(found))


def test_macro_f1_alone_can_fail_a_gate(crops):
    """A rare class is lost, which the accuracy hardly shows."""
    labels = np.zeros(COUNT, np.int64)
    labels[:5] = 1
    rare = LabelledCrops(crops.faces, labels, "nothing")
    found = compare(sure_of(labels), sure_of(np.zeros(COUNT, np.int64)), rare)
    assert found.accuracy_lost < 0.003
    with pytest.raises(GateError, match=r"(?s)accuracy lost .*passes.*macro-F1 lost .*fails by"):
        require("int8", by_each_runtime(found))


def test_one_runtime_that_fails_is_enough_and_all_are_shown(crops):
    good, bad = (compare(sure_of(crops.labels), sure_of(answer(crops.labels, wrong)), crops) for wrong in (0, 50))
    with pytest.raises(GateError, match=r"(?s)int8 by onnxruntime.*passes.*int8 by openvino.*fails by 0\.0220"):
        require("int8", {"onnxruntime": good, "openvino": bad})
    with pytest.raises(GateError, match="was not measured by openvino"):
        require("int8", {"onnxruntime": good})


def test_few_faces_prove_nothing(crops):
    few = LabelledCrops(crops.faces[:499], crops.labels[:499], "nothing")
    found = compare(sure_of(few.labels), sure_of(few.labels), few)
    with pytest.raises(GateError, match="was measured on 499 faces, and takes 500 at least"):
        require("fp16", by_each_runtime(found))


def test_figures_survive_the_metadata(crops):
    found = by_each_runtime(compare(sure_of(answer(crops.labels, 3)), sure_of(crops.labels), crops))
    assert read_gate(write_gate(found)) == found


@pytest.mark.parametrize("written", ["passed", "[]", '{"onnxruntime": 1}', '{"onnxruntime": {"images": 1}}'])
def test_other_metadata_are_told_apart(written):
    with pytest.raises(ValueError):  # noqa: PT011 - the message is Python's
        read_gate(written)


def test_gaining_passes(crops):
    found = compare(sure_of(answer(crops.labels, 100)), sure_of(crops.labels), crops)
    assert found.accuracy_lost < 0
    require("int8", by_each_runtime(found))
    assert "int8 by openvino, 2000 faces of nothing" in format_table("int8", "openvino", found)


def test_a_class_that_nobody_has_counts_zero():
    labels = np.arange(len(contract.LABELS) - 1)
    assert macro_f1(labels, labels) == pytest.approx(6 / 7)
