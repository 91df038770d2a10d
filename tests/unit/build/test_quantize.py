"""fer_build.quantize and calibrate: FP16 and INT8 files, and the gates in front of them."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from small_classifier import draw_crops, draw_sure_crops, write_crops, write_small_classifier

from fer_build import int8 as calibrate_command
from fer_build import quantize as quantize_command
from fer_build.classifier_file import read_classifier
from fer_build.errors import ContractError, FacesFileError, GateError, RangesError
from fer_build.fp16 import to_fp16
from fer_build.int8 import METHODS, measure_ranges, read_ranges
from fer_build.quantize import quantize
from fer_build.release import RELEASED_ONNX, name_precision
from fer_runtimes import RUNTIMES, open_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small classifier with its ranges and faces whose labels are its own answers."""
    folder = tmp_path_factory.mktemp("small")
    whole = write_small_classifier(folder / "small.onnx")
    measure_ranges(whole, read_classifier(whole).sha256, draw_crops(512), "percentile").write(
        folder / "int8_ranges.json"
    )
    return folder


@pytest.fixture(scope="module")
def crops(folder):
    return draw_sure_crops(folder / "small.onnx")


def classify(path, faces, runtime="onnxruntime"):
    return open_classifier(path, runtime, threads=1)(faces)


def make(folder, tmp_path, precision, crops, **change):
    out = tmp_path / f"{precision}.onnx"
    options = {"ranges": folder / "int8_ranges.json", "crops": crops} | change
    return out, quantize(folder / "small.onnx", precision, out, **options)


def nodes_of(path, kind):
    return [node for node in onnx.load(path).graph.node if node.op_type == kind]


def test_fp16_keeps_pixels_and_probabilities_and_halves_the_weights(folder, tmp_path, crops):
    out, _ = make(folder, tmp_path, "fp16", crops)
    model = onnx.load(out)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds.pop("mean") == kinds.pop("spread") == TensorProto.FLOAT
    assert set(kinds.values()) == {TensorProto.FLOAT16}
    assert len(kinds) == 6
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert [node.input[0] for node in nodes_of(out, "Softmax")] == ["logits/float"]
    difference = np.abs(classify(out, crops.faces) - classify(folder / "small.onnx", crops.faces)).max()
    assert 0 < difference < 0.01


def test_a_weight_too_large_for_fp16_is_named(tmp_path):
    whole = write_small_classifier(tmp_path / "small.onnx", scale=1e6)
    with pytest.raises(ContractError, match="weight kernel1 is too large for float16"):
        quantize(whole, "fp16", tmp_path / "out.onnx", crops=draw_crops(8))


def test_int8_quantises_the_inputs_and_weights_of_each_layer_and_no_bias(folder, tmp_path, crops):
    out, _ = make(folder, tmp_path, "int8", crops)
    model = onnx.load(out)
    made_by = {node.output[0]: node for node in model.graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 3
    for layer in layers:
        features, weights = (made_by[name] for name in layer.input[:2])
        assert (features.op_type, weights.op_type) == ("DequantizeLinear", "DequantizeLinear")
        stored = constants[weights.input[0]]
        assert stored.dtype == np.int8
        assert constants[weights.input[1]].shape == (len(stored),)  # a scale for each output channel
        assert not np.any(constants[weights.input[2]])  # symmetric: zero is zero
        assert not np.any(constants[features.input[2]])
        assert constants[layer.input[2]].dtype == np.float32
    # Nothing stands between a convolution and its activation function.
    assert [made_by[node.input[0]].op_type for node in nodes_of(out, "Relu")] == ["Conv", "Conv"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_answers_nearly_as_float32(folder, tmp_path, crops, runtime):
    out, _ = make(folder, tmp_path, "int8", crops)
    differences = np.abs(classify(out, crops.faces, runtime) - classify(folder / "small.onnx", crops.faces))
    assert 0 < differences.mean() < 0.02


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_smaller_file_fits_the_contract_and_tells_its_origin(folder, tmp_path, crops, precision):
    out, said = make(folder, tmp_path, precision, crops)
    classifier = read_classifier(out)
    assert classifier.precision == precision
    assert classifier.version == f"small-{precision}+{classifier.sha256[:8]}"
    assert classifier.metadata["fer.made_of"] == read_classifier(folder / "small.onnx").sha256
    gate = json.loads(classifier.metadata["fer.gate"])
    assert set(gate) == set(RUNTIMES)
    assert "fer.metrics" not in classifier.metadata  # those are the float32 file's
    assert ("fer.calibration" in classifier.metadata) == (precision == "int8")
    for found in gate.values():
        assert found["images"] == len(crops.labels)
        assert found["accuracy"] >= 0.997  # of labels that are the float32 file's own answers
        assert found["accuracy_lost"] == pytest.approx(1 - found["accuracy"])
    assert said.startswith(f"wrote {out}: 0.0 MB\n{precision} by onnxruntime, ")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_second_run_does_nothing_and_a_dry_run_neither(folder, tmp_path, crops, precision):
    out, said = make(folder, tmp_path, precision, crops, dry_run=True)
    assert said.startswith("would write ")
    assert list(tmp_path.iterdir()) == []
    make(folder, tmp_path, precision, crops)
    before = out.stat().st_mtime_ns
    assert make(folder, tmp_path, precision, crops)[1].startswith(f"{out} is up to date: ")
    assert out.stat().st_mtime_ns == before


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_gate_measured_once_is_known_for_the_same_graph_only(folder, tmp_path, crops, precision):
    measured, _ = make(folder, tmp_path, precision, crops)
    again = tmp_path / "again.onnx"
    ranges = folder / "int8_ranges.json"
    quantize(folder / "small.onnx", precision, again, ranges=ranges, measured=measured)
    assert again.read_bytes() == measured.read_bytes()
    other = write_small_classifier(tmp_path / "other.onnx", scale=1.01)
    measure_ranges(other, read_classifier(other).sha256, draw_crops(512), "minmax").write(tmp_path / "other.json")
    for unknown in (measured, tmp_path / "missing.onnx", other):
        with pytest.raises(GateError, match=f"{precision} of this file has never passed its gate: measure it with"):
            quantize(other, precision, again, ranges=tmp_path / "other.json", measured=unknown)


def test_a_file_that_loses_too_much_is_not_written(folder, tmp_path, crops):
    """The ranges are a hundredth of the true ones, so that nearly all features are cut off."""
    ranges = json.loads((folder / "int8_ranges.json").read_text())
    ranges["ranges"] = {name: [low / 100, high / 100] for name, (low, high) in ranges["ranges"].items()}
    (tmp_path / "cut.json").write_text(json.dumps(ranges))
    with pytest.raises(GateError, match=r"(?s)int8 does not pass its gate.*accuracy lost .* fails by 0\.\d+\nmacro-F1"):
        make(folder, tmp_path, "int8", crops, ranges=tmp_path / "cut.json")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.json"]


def test_the_faces_of_the_ranges_do_not_measure_the_gate(folder, tmp_path):
    with pytest.raises(FacesFileError, match="cannot be measured on the faces that the ranges were"):
        make(folder, tmp_path, "int8", draw_crops(512))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_float32_file_is_not_replaced(folder, tmp_path, crops, precision):
    whole = write_small_classifier(tmp_path / "small.onnx")
    ranges = folder / "int8_ranges.json"
    with pytest.raises(ContractError, match=r"small\.onnx: would replace the float32 file; give another --out"):
        quantize(whole, precision, tmp_path / "." / "small.onnx", ranges=ranges, crops=crops)


def test_scales_and_casts_stay_float32_in_fp16(tmp_path):
    """A network that enlarges its features and casts them to float32 in between."""
    whole = write_small_classifier(tmp_path / "small.onnx")
    model = onnx.load(whole)
    resize = onnx.helper.make_node("Resize", ["relu1", "", "scales"], ["enlarged"])
    cast = onnx.helper.make_node("Cast", ["enlarged"], ["relu1_again"], to=TensorProto.FLOAT)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    index = [node.output[0] for node in model.graph.node].index("relu1") + 1
    model.graph.node.insert(index, resize)
    model.graph.node.insert(index + 1, cast)
    model.graph.node[index + 2].input[0] = "relu1_again"
    onnx.save(model, whole)
    faces = draw_crops(20)
    out = tmp_path / "half.onnx"
    onnx.save(to_fp16(onnx.load(whole)), out)
    difference = np.abs(classify(out, faces.faces) - classify(whole, faces.faces)).max()
    assert 0 < difference < 0.01


def test_a_graph_that_can_not_be_quantised_is_named(folder, tmp_path, crops):
    whole = write_small_classifier(tmp_path / "small.onnx")
    model = onnx.load(whole)
    kept = [node for node in model.graph.node if node.op_type not in ("Conv", "Gemm")]
    kept[next(i for i, node in enumerate(kept) if node.op_type == "Relu")].input[0] = "views"
    kept[[node.op_type for node in kept].index("Relu", 4)].input[0] = "relu1"
    mean = next(i for i, node in enumerate(kept) if node.op_type == "ReduceMean")
    kept.insert(mean + 1, onnx.helper.make_node("Expand", ["features", "shape"], ["logits"]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 7]), "shape"))
    onnx.save(model, whole)
    ranges = json.loads((folder / "int8_ranges.json").read_text())
    ranges["onnx_sha256"] = read_classifier(whole).sha256
    (tmp_path / "int8_ranges.json").write_text(json.dumps(ranges))
    with pytest.raises(
        ContractError, match=r"small\.onnx: this graph cannot be converted to INT8: it has no layer to quantise"
    ):
        quantize(whole, "int8", tmp_path / "out.onnx", crops=crops)


def test_what_is_no_float32_file_is_refused(folder, tmp_path, crops):
    half, _ = make(folder, tmp_path, "fp16", crops)
    with pytest.raises(ContractError, match=r"fp16\.onnx: is fp16 already; give the float32 file"):
        quantize(half, "int8", tmp_path / "out.onnx", crops=crops)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_ranges_around_zero(folder, method):
    whole = folder / "small.onnx"
    found = measure_ranges(whole, "0" * 64, draw_crops(512), method)
    assert {"views", "relu1", "features"} <= set(found.ranges)
    for low, high in found.ranges.values():
        assert low <= 0 < high
    assert (found.images, found.method, found.source) == (512, method, "drawn stripes")


def test_percentiles_cut_off_what_minmax_keeps(folder):
    whole, faces = folder / "small.onnx", draw_crops(512)
    ranges = {
        method: measure_ranges(whole, "", faces, method).ranges["relu1"][1] for method in ("minmax", "percentile")
    }
    assert 0.5 * ranges["minmax"] < ranges["percentile"] < ranges["minmax"]


def test_too_few_faces_do_not_calibrate(folder):
    with pytest.raises(RangesError, match="measured on 512 faces at least, not 511"):
        measure_ranges(folder / "small.onnx", "", draw_crops(511), "minmax")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read .* make it with fer-build calibrate"),
        ("not JSON", "not a file of ranges for INT8"),
        ("[]", "not a file of ranges for INT8"),
        ('{"ranges": {"views": 3}}', "not a file of ranges for INT8"),
        (
            '{"ranges": {}, "images": 511, "method": "minmax", "onnx_sha256": "", "faces_sha256": "", "source": ""}',
            "measured on 511 faces, fewer than 512",
        ),
    ],
)
def test_what_is_no_file_of_ranges_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "int8_ranges.json").write_text(content)
    with pytest.raises(RangesError, match=f"int8_ranges.json: {message}"):
        read_ranges(tmp_path / "int8_ranges.json")


def test_ranges_of_another_file_is_refused(folder, tmp_path, crops):
    other = write_small_classifier(tmp_path / "other.onnx", scale=1.01)
    with pytest.raises(RangesError, match=r"int8_ranges.json: measured in another file than .*other\.onnx"):
        quantize(other, "int8", tmp_path / "out.onnx", ranges=folder / "int8_ranges.json", crops=crops)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_released_files_are_what_the_commands_make_of_the_float32_one(tmp_path, precision):
    """Anybody can make them again without a picture: the ranges and the figures are there."""
    released = name_precision(RELEASED_ONNX, precision)
    quantize(RELEASED_ONNX, precision, tmp_path / "again.onnx", measured=released)
    assert (tmp_path / "again.onnx").read_bytes() == released.read_bytes()


def test_the_commands_go_through_files(folder, tmp_path, crops, capsys):
    write_crops(tmp_path / "training.npz", draw_crops(512))
    write_crops(tmp_path / "validation.npz", crops)
    small = write_small_classifier(tmp_path / "small.onnx")
    assert calibrate_command.main(["--onnx", str(small), "--faces", str(tmp_path / "training.npz")]) == 0
    quantising = ["--precision", "int8", "--onnx", str(small)]
    assert quantize_command.main([*quantising, "--faces", str(tmp_path / "validation.npz")]) == 0
    assert f"wrote {tmp_path / 'small_int8.onnx'}: " in capsys.readouterr().out
    assert read_classifier(tmp_path / "small_int8.onnx").precision == "int8"
    assert quantize_command.main([*quantising, "--faces", str(tmp_path / "missing.npz")]) == 2
    assert quantize_command.main(quantising) == 0  # its figures are known now
    (tmp_path / "small_int8.onnx").unlink()
    assert quantize_command.main(quantising) == 7
    calibrating = ["--onnx", str(small), "--faces", str(tmp_path / "training.npz")]
    assert calibrate_command.main(calibrating) == 0
    assert f"{tmp_path / 'int8_ranges.json'} is up to date: percentile over 512 faces of" in capsys.readouterr().out
    assert calibrate_command.main([*calibrating, "--method", "minmax", "--dry-run"]) == 0
    assert "would write " in capsys.readouterr().out
