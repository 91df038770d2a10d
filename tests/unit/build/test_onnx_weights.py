"""ONNX files that keep weights in other files: read as one, or refused in a line; and what is served is one file."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from small_classifier import draw_crops, write_small_classifier

import fer_contract as contract
from fer_build.assemble import assemble
from fer_build.assemble import main as assemble_command
from fer_build.classifier_file import read_classifier
from fer_build.errors import ContractError, RepositoryError
from fer_build.int8 import measure_ranges
from fer_build.manifest import read_manifest, write_manifest
from fer_build.onnx_weights import INSIDE, list_parts, read_onnx
from fer_build.quantize import quantize
from fer_build.release import RELEASED_ONNX
from fer_build.verify import verify


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """small.onnx, and its weights in small.onnx.data beside it."""
    folder = tmp_path / "split"
    folder.mkdir()
    return split_weights(write_small_classifier(folder / "small.onnx"))


def split_weights(path: Path, location: str | None = None) -> Path:
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location=location or f"{path.name}.data", size_threshold=0)
    return path


def name_another(path: Path, **entries: str) -> None:
    """Changes what the first weight says of its place; an empty word takes the entry away."""
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    told = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in told.items():
        if value:
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def answers(file: Path | bytes) -> np.ndarray:
    (rows,) = onnxruntime.InferenceSession(file).run(None, {contract.FACES: draw_crops(8).faces})
    return rows


def test_a_file_without_parts_is_read_to_the_byte():
    assert read_onnx(RELEASED_ONNX) == RELEASED_ONNX.read_bytes()
    assert list_parts(RELEASED_ONNX) == []


def test_weights_beside_it_are_put_into_it(split, tmp_path):
    whole = write_small_classifier(tmp_path / "whole.onnx")
    assert list_parts(split) == ["small.onnx.data"]
    content = read_onnx(split)
    assert np.array_equal(answers(content), answers(whole))
    expected = {t.name: numpy_helper.to_array(t) for t in onnx.load(whole).graph.initializer}
    for tensor in onnx.load_from_string(content).graph.initializer:
        assert np.array_equal(numpy_helper.to_array(tensor), expected[tensor.name])
    (tmp_path / "alone.onnx").write_bytes(content)
    assert list_parts(tmp_path / "alone.onnx") == []
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)


def test_the_version_is_of_the_weights_too(split):
    first = read_classifier(split)
    assert first.sha256 == hashlib.sha256(read_onnx(split)).hexdigest()
    data = split.with_name("small.onnx.data")
    changed = bytearray(data.read_bytes())
    changed[-20] ^= 1
    data.write_bytes(changed)
    assert read_classifier(split).version != first.version


def test_what_is_assembled_needs_no_other_file(split, tmp_path):
    manifest, _ = assemble(tmp_path / "repository", split, runtime="onnxruntime")
    served = tmp_path / "repository" / "fer_classifier" / "1" / "model.onnx"
    assert manifest["onnx_sha256"] == hashlib.sha256(served.read_bytes()).hexdigest()
    assert manifest["model_version"].endswith(manifest["onnx_sha256"][:8])
    expected = answers(split)
    shutil.rmtree(split.parent)
    assert np.array_equal(answers(served), expected)
    verify(tmp_path / "repository")


def test_a_repository_whose_weights_are_elsewhere_is_not_verified(split, tmp_path):
    """As they were once assembled: the ONNX file without its part, and a manifest that does not know of one."""
    repository = tmp_path / "repository"
    manifest, _ = assemble(repository, split, runtime="onnxruntime")
    served = repository / "fer_classifier" / "1" / "model.onnx"
    shutil.copyfile(split, served)
    hashes = manifest["sha256"] | {"fer_classifier/1/model.onnx": hashlib.sha256(served.read_bytes()).hexdigest()}
    write_manifest(repository, read_manifest(repository) | {"sha256": hashes})
    with pytest.raises(RepositoryError, match=r"model.onnx keeps its weights in small.onnx.data, which is not served"):
        verify(repository)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda p: p.with_name("small.onnx.data").unlink(), "'small.onnx.data', which is missing: put it beside"),
        (lambda p: p.with_name("small.onnx.data").write_bytes(b""), "which has 0 bytes, fewer than it should: copy"),
        (lambda p: name_another(p, location="../other"), "'../other', which is not in its own folder: export it"),
        (lambda p: name_another(p, location="a/../../other"), "which is not in its own folder"),
        (lambda p: name_another(p, location="..\\other"), "which is not in its own folder"),
        (lambda p: name_another(p, location="/etc/hostname"), "'/etc/hostname', which is not in its own folder"),
        (lambda p: name_another(p, location="C:\\weights"), "which is not in its own folder"),
        (lambda p: name_another(p, location=""), "keeps weights in the file '', which is not in its own folder"),
        (lambda p: name_another(p, location="."), "which is missing"),
        (lambda p: name_another(p, offset="99999999"), "fewer than it should"),
        (lambda p: name_another(p, offset="-8"), "fewer than it should"),
        (lambda p: name_another(p, length="many"), "fewer than it should"),
        (lambda p: name_another(p, length="7"), "not an ONNX file that ONNX Runtime can load"),
    ],
)
def test_parts_that_can_t_be_taken_are_named_in_one_line(split, capsys, spoil, complaint):
    spoil(split)
    with pytest.raises(ContractError, match=complaint.replace("\\", ".")) as refusal:
        read_classifier(split)
    assert "\n" not in str(refusal.value)
    assert assemble_command(["--onnx", str(split), "--out", str(split.parent / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (split.parent / "out").exists()


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(split, tmp_path):
    data = split.with_name("small.onnx.data")
    data.rename(split.parent / "weights")
    data.symlink_to("weights")
    assert read_classifier(split)
    (split.parent / "weights").rename(tmp_path / "weights")
    data.unlink()
    data.symlink_to(tmp_path / "weights")
    with pytest.raises(ContractError, match="which is not in its own folder"):
        read_classifier(split)


def test_a_part_in_a_folder_of_its_own_is_taken(tmp_path):
    path = write_small_classifier(tmp_path / "small.onnx")
    (tmp_path / "weights").mkdir()
    split_weights(path, "weights/all.bin")
    assert read_classifier(path)


def test_the_bound_counts_what_is_read_more_than_once(split, monkeypatch):
    size = split.stat().st_size + split.with_name("small.onnx.data").stat().st_size
    monkeypatch.setattr("fer_build.onnx_weights.MAX_BYTES", size)
    read_onnx(split)
    monkeypatch.setattr("fer_build.onnx_weights.MAX_BYTES", size // 2)
    with pytest.raises(ContractError, match="has more than 0 MiB with all its weights"):
        read_onnx(split)


@pytest.mark.parametrize("kept", [0.0005, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(tmp_path, kept):
    content = RELEASED_ONNX.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ContractError, match="cut.onnx: not an ONNX file"):
        read_classifier(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 JFIF", bytes(1000), b"<html>", b"\x0b" * 5000])
def test_what_is_something_else_is_refused(tmp_path, content):
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(ContractError, match="other.onnx: not an ONNX file"):
        read_classifier(tmp_path / "other.onnx")


def external(name: str, values: np.ndarray, folder: Path) -> TensorProto:
    tensor = numpy_helper.from_array(values, name)
    (folder / f"{name}.bin").write_bytes(tensor.raw_data)
    set_external_data(tensor, f"{name}.bin")
    tensor.ClearField("raw_data")
    return tensor


def test_weights_are_found_in_attributes_branches_functions_and_sparse_tensors(tmp_path):
    values = np.arange(4, dtype=np.float32)
    constant = helper.make_node("Constant", [], ["c"], value=external("constant", values, tmp_path))
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [4])],
        [external("branch", values, tmp_path)],
    )
    choice = helper.make_node("If", ["yes"], ["i"], then_branch=branch, else_branch=branch)
    sparse = helper.make_sparse_tensor(
        external("sparse", values, tmp_path), external("indices", np.arange(4, dtype=np.int64), tmp_path), [9]
    )
    graph = helper.make_graph([constant, choice], "g", [], [], sparse_initializer=[sparse])
    inside = helper.make_node("Constant", [], ["f"], value=external("function", values, tmp_path))
    function = helper.make_function("own", "F", [], ["f"], [inside], [helper.make_opsetid("", 17)])
    model = helper.make_model(graph, functions=[function])
    model.training_info.add().initialization.initializer.append(external("training", values, tmp_path))
    path = tmp_path / "nested.onnx"
    path.write_bytes(model.SerializeToString())
    names = ["branch", "constant", "function", "indices", "sparse", "training"]
    assert list_parts(path) == [f"{name}.bin" for name in names]
    content = read_onnx(path)
    assert content.count(values.tobytes()) == 6  # both branches
    (tmp_path / "whole.onnx").write_bytes(content)
    assert list_parts(tmp_path / "whole.onnx") == []
    onnx.load_from_string(content)


def test_the_fields_that_are_followed_are_all_that_lead_to_tensors():
    """Against the package `onnx`, which this room's reader does without."""
    leading = {"TensorProto"}
    messages = {name: getattr(onnx, name).DESCRIPTOR for name in INSIDE}
    for name, descriptor in messages.items():
        fields = {f.number: f.message_type.name for f in descriptor.fields if f.message_type is not None}
        assert INSIDE[name] == {n: kind for n, kind in fields.items() if kind in INSIDE or kind in leading}
    tensor = TensorProto.DESCRIPTOR.fields_by_name
    assert [tensor[name].number for name in ("raw_data", "external_data", "data_location")] == [9, 13, 14]
    assert TensorProto.EXTERNAL == 1


def test_smaller_precisions_are_made_of_all_the_weights(split, tmp_path):
    whole = write_small_classifier(tmp_path / "whole.onnx")
    crops = draw_crops(512)
    assert measure_ranges(split, "", crops, "minmax").ranges == measure_ranges(whole, "", crops, "minmax").ranges
    made = tmp_path / "half.onnx"
    quantize(split, "fp16", made, crops=crops)
    quantize(whole, "fp16", tmp_path / "other.onnx", crops=crops)
    assert np.array_equal(answers(made), answers(tmp_path / "other.onnx"))
    assert list_parts(made) == []


def test_operators_that_no_runtime_knows_are_named_in_one_line(tmp_path):
    path = write_small_classifier(tmp_path / "small.onnx")
    model = onnx.load(path)
    model.graph.node[4].domain, model.graph.node[4].op_type = "com.example", "Sparkle"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ContractError, match="that ONNX Runtime can load .*com.example.*Sparkle") as refusal:
        read_classifier(path)
    assert "\n" not in str(refusal.value)


def test_a_file_that_only_one_runtime_runs_is_not_assembled_for_the_other(tmp_path):
    path = write_small_classifier(tmp_path / "small.onnx")
    model = onnx.load(path)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.domain, relu.op_type = "com.microsoft", "SampleOp"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path.write_bytes(model.SerializeToString())
    assemble(tmp_path / "repository", path, runtime="onnxruntime")
    with pytest.raises(ContractError, match="openvino cannot run it, choose another --runtime .*SampleOp") as refusal:
        assemble(tmp_path / "other", path, runtime="openvino")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "other").exists()
