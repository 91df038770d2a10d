"""fer_build.plan on the real TensorRT-RTX: what is built, what the builder refuses, and what is left behind."""

import ast
import io
import json
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: in the checkout, pip install -e '.[rtx]'")
pytest.importorskip("onnx", reason="onnx is not installed: in the checkout, pip install -e '.[build]'")

import tensorrt_rtx
from small_networks import PASSED_GATE, write_network
from small_plans import TARGET, write_plan

import fer_build
from fer_build import plan_compiler
from fer_build.assemble import assemble
from fer_build.engine_layers import count_promised, parse_listing
from fer_build.errors import ContractError, PlanError
from fer_build.manifest import MANIFEST
from fer_build.plan import add_to_repository, build_plan, is_up_to_date, main, request_plan
from fer_build.plan_file import info_path, layers_path, read_plan
from fer_build.release import RELEASED_ONNX, name_precision

DATATYPES = {"fp32": "Float", "fp16": "Half", "int8": "Int8"}


def build(onnx: Path, out: Path, compute_capability: str | None = "8.6", **options):
    return build_plan(request_plan(onnx, out, "rtx", compute_capability, **options))


def plan_command(*arguments: str | Path) -> int:
    return main(list(map(str, arguments)))


def read_layers(plan: Path):
    return json.loads(layers_path(plan).read_text())


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize("compute_capability", ["8.6", "8.9"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_convolution_computes_in_the_file_s_precision(tmp_path, precision, compute_capability):
    plan = tmp_path / "tiny.plan"
    info = build(write_network(tmp_path / "tiny.onnx", precision), plan, compute_capability)
    assert info.precision == precision
    assert info.target.compute_capability == compute_capability
    layers = read_layers(plan)
    assert layers["summary"]["convolutions"] == {DATATYPES[precision]: 3}
    convolutions = [layer for layer in layers["layers"] if layer["kind"] == "correlation"]
    assert [layer["inputs"] for layer in convolutions] == [[DATATYPES[precision]]] * 3
    assert layers["layers"][1]["inputs"] == ["UInt8"]
    assert layers["layers"][-1]["outputs"] == ["Float"]


@pytest.mark.parametrize("compute_capability", ["8.6", "8.9"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_released_classifier_is_built(tmp_path, precision, compute_capability):
    plan = tmp_path / "fer_classifier.plan"
    info = build(name_precision(RELEASED_ONNX, precision), plan, compute_capability)
    assert info.plan_bytes == plan.stat().st_size > 1_000_000
    assert set(read_layers(plan)["summary"]["convolutions"]) == {DATATYPES[precision]}


def test_the_engine_takes_the_contract_s_batches(tmp_path, network, monkeypatch):
    listings = []
    monkeypatch.setattr(
        "fer_build.plan_compiler.parse_listing", lambda text: listings.append(text) or parse_listing(text)
    )
    build(network, tmp_path / "tiny.plan")
    faces, probabilities = (line for line in listings[0].splitlines() if "IOMode: " in line)
    assert "Name: FACES, IOMode: Input, DataType: UInt8, Dimensions: [-1,1,48,48]" in faces
    assert "MinShape: [1,1,48,48], OptShape: [16,1,48,48], MaxShape: [64,1,48,48]" in faces
    assert "Name: PROBABILITIES, IOMode: Output, DataType: Float, Dimensions: [-1,7]" in probabilities


def test_a_plan_is_described_beside_it(tmp_path, network):
    plan = tmp_path / "plans" / "tiny.plan"
    info = build(network, plan)
    assert read_plan(plan) == info
    assert {path.name for path in plan.parent.iterdir()} == {"tiny.plan", "tiny.plan.json", "tiny.plan.layers.json"}
    written = json.loads(info_path(plan).read_text())
    assert written["target"] == {
        "flavour": "rtx",
        "tensorrt_version": tensorrt_rtx.__version__,
        "compute_capability": "8.6",
        "gpu": None,
        "version_compatible": False,
        "hardware_compatible": False,
        "workspace_mib": 1024,
        "batches": [1, 16, 64],
    }
    assert written["model_version"].startswith("tiny+")
    assert written["inputs"] == {"FACES": {"datatype": "uint8", "shape": ["N", 1, 48, 48]}}
    assert written["outputs"] == {"PROBABILITIES": {"datatype": "float32", "shape": ["N", 7]}}
    assert written["metrics"] is None


def test_the_gate_s_metrics_are_handed_on(tmp_path):
    network = write_network(tmp_path / "tiny.onnx", "int8")
    metrics = build(network, tmp_path / "tiny.plan").metrics
    assert metrics == json.loads(PASSED_GATE)
    assert metrics["openvino"]["accuracy_lost"] == 0.001


def test_a_file_that_says_no_precision_is_fp32(tmp_path):
    network = write_network(tmp_path / "tiny.onnx", metadata={"fer.precision": None})
    assert build(network, tmp_path / "tiny.plan").precision == "fp32"


def test_a_plan_for_all_gpus_from_8_0_on_is_built(tmp_path, network):
    target = build(network, tmp_path / "tiny.plan", None, hardware_compatible=True).target
    assert target.hardware_compatible
    assert target.compute_capability is None


def test_a_second_run_does_nothing(tmp_path, network):
    plan = tmp_path / "plans" / "tiny.plan"
    first = build(network, plan)
    before = state_of(plan.parent)
    assert build(network, plan) == first
    assert state_of(plan.parent) == before


@pytest.mark.parametrize(
    "change",
    ["capability", "network", "workspace", "damaged plan", "damaged layers", "no layers", "no description"],
)
def test_what_is_not_up_to_date_is_built_again(tmp_path, network, change):
    plan = tmp_path / "tiny.plan"
    build(network, plan)
    capability, options = "8.6", {}
    if change == "capability":
        capability = "8.9"
    elif change == "network":
        write_network(network, "fp16")
    elif change == "workspace":
        options = {"workspace_mib": 64}
    elif change == "damaged plan":
        plan.write_bytes(b"\0" + plan.read_bytes()[1:])
    elif change == "damaged layers":
        layers_path(plan).write_text(layers_path(plan).read_text().replace("Float", "Int8"))
    else:
        (layers_path if change == "no layers" else info_path)(plan).unlink()
    request = request_plan(network, plan, "rtx", capability, **options)
    assert not is_up_to_date(request)
    build_plan(request)
    assert is_up_to_date(request)


@pytest.mark.parametrize("renamed", [0, 1, 2])
@pytest.mark.parametrize("before", ["nothing", "an older plan"])
def test_an_interrupted_run_leaves_nothing_that_looks_finished(tmp_path, network, monkeypatch, before, renamed):
    folder = tmp_path / "plans"
    plan = folder / "tiny.plan"
    if before == "an older plan":
        build(write_network(tmp_path / "older.onnx", "fp16"), plan)
    older = info_path(plan).read_text() if before == "an older plan" else None
    replaced, replace_file = [], Path.replace

    def interrupt(path: Path, target: Path) -> Path:
        if len(replaced) == renamed:
            raise KeyboardInterrupt
        replaced.append(target)
        return replace_file(path, target)

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(network, plan)
    monkeypatch.undo()
    assert not is_up_to_date(request_plan(network, plan, "rtx", "8.6"))
    assert len(replaced) == renamed
    if older is not None and renamed == 0:
        assert read_plan(plan).precision == "fp16"
    else:
        with pytest.raises(PlanError, match="build it again|no such plan"):
            read_plan(plan)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_an_operator_that_tensorrt_lacks_is_named(tmp_path):
    network = write_network(tmp_path / "tiny.onnx", bit_shift=True)
    with pytest.raises(
        ContractError, match=r"tiny.onnx: TensorRT-RTX cannot read this graph: node BitShift_0 .BitShift."
    ):
        build(network, tmp_path / "tiny.plan")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_quantised_biases_are_refused_with_the_remedy(tmp_path):
    network = write_network(tmp_path / "tiny.onnx", "int8", quantised_biases=True)
    with pytest.raises(
        ContractError, match=r"node DequantizeLinear_2 .*has type Int32.* - biases must not be quantised"
    ):
        build(network, tmp_path / "tiny.plan")


def test_what_the_builder_can_not_do_is_said_in_its_own_words(tmp_path, network):
    """Turing has no FP32 matrix product in TensorRT-RTX."""
    with pytest.raises(
        PlanError, match=r"cannot build a plan for compute capability 7.5: .*FP32 GEMM is not supported"
    ) as caught:
        build(network, tmp_path / "tiny.plan", "7.5")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tiny.plan").exists()


def test_too_little_memory_is_said_with_the_remedy(tmp_path):
    with pytest.raises(PlanError, match=r"(?s)(workspace limit|OutOfMemory).* - give it more with --workspace"):
        build(RELEASED_ONNX, tmp_path / "fer_classifier.plan", workspace_mib=1)


@pytest.mark.parametrize(
    ("precision", "claim", "complaint"),
    [
        ("fp32", "int8", r"says that it is int8, and 0 of its convolutions are, but .* 0 compute in Int8 .3 Float"),
        ("fp32", "fp16", r"says that it is fp16, and 0 of its convolutions are, but .* 0 compute in Half .3 Float"),
        (
            "int8",
            "fp32",
            r"says that it is fp32, and 0 of its convolutions are, but .* 0 compute in Float .3 Int8",
        ),
    ],
)
def test_a_precision_that_the_engine_has_not_is_refused(tmp_path, precision, claim, complaint):
    network = write_network(tmp_path / "tiny.onnx", precision, metadata={"fer.precision": claim})
    with pytest.raises(PlanError, match=f"tiny.onnx: the ONNX file {complaint}"):
        build(network, tmp_path / "tiny.plan")
    assert not (tmp_path / "tiny.plan").exists()


def test_a_convolution_that_the_file_promises_must_be_there(tmp_path, monkeypatch):
    """As where a compiler computes two of three convolutions of an int8 file in float32."""
    half_done = build(write_network(tmp_path / "less.onnx", "int8", quantised_convolutions=1), tmp_path / "less.plan")
    assert half_done.precision == "int8"
    layers = plan_compiler.compile_plan(tmp_path / "less.onnx", half_done.target)
    monkeypatch.setattr("fer_build.plan.compile_plan", lambda *_: layers)
    with pytest.raises(PlanError, match=r"3 of its convolutions are, but .* 1 compute in Int8 .*, and 3 at least"):
        build(write_network(tmp_path / "tiny.onnx", "int8"), tmp_path / "tiny.plan")
    assert not (tmp_path / "tiny.plan").exists()


@pytest.mark.parametrize(("precision", "promised"), [("fp32", (17, 0, 0)), ("fp16", (0, 17, 0)), ("int8", (0, 0, 17))])
def test_the_released_files_promise_all_their_convolutions(precision, promised):
    file = name_precision(RELEASED_ONNX, precision)
    assert tuple(count_promised(file, name) for name in DATATYPES) == promised


def test_tf32_is_off(tmp_path, network, monkeypatch):
    flags = []

    def configure(config, *arguments):
        _configure(config, *arguments)
        flags.append(config.get_flag(tensorrt_rtx.BuilderFlag.TF32))

    _configure = plan_compiler._configure
    monkeypatch.setattr("fer_build.plan_compiler._configure", configure)
    build(network, tmp_path / "tiny.plan")
    assert flags == [False]


def test_a_plan_is_noted_in_its_repository_once(tmp_path):
    manifest, _ = assemble(tmp_path, profile="gpu")
    plan = write_plan(tmp_path / "fer_classifier" / "1", onnx_sha256=manifest["onnx_sha256"])
    add_to_repository(tmp_path, plan)
    before = state_of(tmp_path)[MANIFEST]
    assert json.loads((tmp_path / MANIFEST).read_text())["plan"]["precision"] == "fp32"
    add_to_repository(tmp_path, plan)
    assert state_of(tmp_path)[MANIFEST] == before
    write_plan(plan.parent, replace(TARGET, workspace_mib=1), manifest["onnx_sha256"])
    add_to_repository(tmp_path, plan)
    assert json.loads((tmp_path / MANIFEST).read_text())["plan"]["target"]["workspace_mib"] == 1


class InterruptedLog(plan_compiler._Log):
    """Ctrl-C while TensorRT logs the layers, at the end of its work."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "listing" and value:
            signal.raise_signal(signal.SIGINT)


def press_ctrl_c(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("where", "replacement", "finished"), [("_show", press_ctrl_c, 0), ("_Log", InterruptedLog, 1)]
)
def test_ctrl_c_ends_a_build_and_leaves_nothing(tmp_path, network, monkeypatch, capsys, where, replacement, finished):
    listings, before = [], signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(plan_compiler, where, replacement)
    monkeypatch.setattr(plan_compiler, "parse_listing", lambda text: listings.append(text) or parse_listing(text))
    plan = tmp_path / "plans" / "tiny.plan"
    arguments = ("--onnx", network, "--out", plan, "--flavour", "rtx", "--compute-capability", "8.6")
    assert plan_command(*arguments) == 130
    assert capsys.readouterr().err == "fer-build plan: interrupted\n"
    assert len(listings) == finished  # in the monitor, Ctrl-C ends the build at the next step
    assert not plan.parent.exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_builds_too(tmp_path, network):
    built = []
    thread = threading.Thread(target=lambda: built.append(build(network, tmp_path / "tiny.plan")))
    thread.start()
    thread.join()
    assert [info.precision for info in built] == ["fp32"]


def test_an_ignored_ctrl_c_stays_ignored(tmp_path, network, monkeypatch):
    """As under nohup, or in the background of a script."""
    monkeypatch.setattr(plan_compiler, "_show", press_ctrl_c)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert build(network, tmp_path / "tiny.plan").precision == "fp32"
    except KeyboardInterrupt:
        pytest.fail("the build listened to Ctrl-C")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
@pytest.mark.usefixtures("rtx_as_tensorrt", "ada_gpu")
def test_the_timing_cache_is_kept_by_version_and_gpu(tmp_path, network):
    """TensorRT-RTX's cache is real but empty; the plan cannot be loaded without a GPU to list its layers."""
    request = request_plan(network, tmp_path / "tiny.plan", "tensorrt", timing_cache_dir=tmp_path / "cache")
    for written in (None, b"damaged"):
        if written:
            request.timing_cache.write_bytes(written)
        with pytest.raises(PlanError, match="cannot load the plan that it has just built: .*CUDA"):
            build_plan(request)
        (cache,) = (tmp_path / "cache").iterdir()
        assert cache.name == f"tensorrt_{tensorrt_rtx.__version__}_NVIDIA-L4.timing"
        assert cache.read_bytes() != written
    assert not (tmp_path / "tiny.plan").exists()


def test_progress_is_shown_on_one_line(tmp_path, network):
    progress = io.StringIO()
    build_plan(request_plan(network, tmp_path / "tiny.plan", "rtx", "8.6"), progress)
    shown = progress.getvalue()
    assert "\n" not in shown
    assert "Building engine 1/" in shown
    assert shown.endswith("\r\x1b[K")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_two_builds_have_the_same_layers(tmp_path, precision):
    """But for the numbers in generated names, see compile_plan. Two processes, so that addresses differ."""
    script = (
        "import sys; from pathlib import Path; from fer_build.plan import build_plan, request_plan\n"
        "build_plan(request_plan(Path(sys.argv[1]), Path(sys.argv[2]), 'rtx', '8.6'))"
    )
    layers = []
    for plan in (tmp_path / "a.plan", tmp_path / "b.plan"):
        command = [sys.executable, "-c", script, name_precision(RELEASED_ONNX, precision), plan]
        subprocess.run(command, check=True)
        layers.append([{**layer, "name": re.sub(r"\d+", "", layer["name"])} for layer in read_layers(plan)["layers"]])
    assert layers[0] == layers[1]


def test_the_command_says_what_it_built(tmp_path, network, capsys):
    plan = tmp_path / "tiny.plan"
    arguments = ("--onnx", network, "--out", plan, "--flavour", "rtx", "--compute-capability", "8.6")
    described = f"{plan}: fp32 plan for compute capability 8.6 by TensorRT-RTX {tensorrt_rtx.__version__}"
    assert plan_command(*arguments, "--dry-run") == 0
    assert capsys.readouterr().out == f"would build {described}\n"
    assert not plan.exists()
    assert plan_command(*arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"built {described}, 0.")
    assert out.endswith(" MB, convolutions: 3 Float\n")
    assert err == ""
    for more in ((), ("--dry-run",)):
        assert plan_command(*arguments, *more) == 0
        assert capsys.readouterr().out == f"{plan} is up to date: {described[len(str(plan)) + 2 :]}\n"


def test_the_types_name_what_the_real_api_has():
    tree = ast.parse((Path(fer_build.__file__).parent / "tensorrt_api.pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {"Builder", "IBuilderConfig", "OnnxParser", "Runtime"} <= set(classes)
    for name, node in classes.items():
        real = getattr(tensorrt_rtx, name)
        for member in node.body:
            if isinstance(member, ast.FunctionDef | ast.ClassDef):
                assert hasattr(real, member.name), f"{name}.{member.name}"
            elif isinstance(member, ast.AnnAssign):
                assert hasattr(real, member.target.id), f"{name}.{member.target.id}"
