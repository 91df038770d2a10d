"""fer_build.plan_file: which plan fits which machine, and how each misfit is named in one line."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_plans import CONTENT, LAYERS, TARGET, write_plan

from fer_build.errors import NotInstalledError, PlanError
from fer_build.plan_file import Gpu, Machine, check_plan, info_path, layers_path, read_gpu, read_machine, read_plan
from fer_build.tensorrt_flavours import FLAVOURS, RTX, find_version, read_library_version

RTX_TARGET = replace(TARGET, flavour="rtx", tensorrt_version="1.7.1.116", gpu=None)
L4, A10, H100, T4 = Gpu("8.9", "NVIDIA L4"), Gpu("8.6", "NVIDIA A10"), Gpu("9.0", "NVIDIA H100"), Gpu("7.5", "Tesla T4")


def write_driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An `nvidia-smi` that is found before a real one."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_description_is_read_as_it_was_written(tmp_path):
    info = read_plan(write_plan(tmp_path))
    assert info.target == TARGET
    assert info.metrics == {"accuracy_lost": 0.001}


def test_a_missing_plan_is_named(tmp_path):
    with pytest.raises(PlanError, match=r"missing\.plan: no such plan"):
        read_plan(tmp_path / "missing.plan")


def test_a_plan_without_its_description_is_unfinished(tmp_path):
    plan = write_plan(tmp_path)
    info_path(plan).unlink()
    with pytest.raises(PlanError, match=r"model\.plan: model\.plan\.json is missing beside it, so it was not finished"):
        read_plan(plan)


def test_a_plan_without_its_layers_is_unfinished(tmp_path):
    plan = write_plan(tmp_path)
    layers_path(plan).unlink()
    with pytest.raises(PlanError, match=r"model\.plan: model\.plan\.layers\.json is missing beside it"):
        read_plan(plan)


@pytest.mark.parametrize("content", [LAYERS[:-1], b""])
def test_other_layers_are_refused(tmp_path, content):
    plan = write_plan(tmp_path)
    layers_path(plan).write_bytes(content)
    with pytest.raises(
        PlanError, match=r"layers\.json: are not the layers that model\.plan\.json describes .*: build it again"
    ):
        read_plan(plan)


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"m", b""])
def test_another_plan_is_refused(tmp_path, content):
    plan = write_plan(tmp_path)
    plan.write_bytes(content)
    with pytest.raises(
        PlanError, match=r"model\.plan: is not the plan that model\.plan\.json describes .*: build it again"
    ):
        read_plan(plan)


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: "not JSON",
        lambda table: "[]",
        lambda table: json.dumps({**table, "target": None}),
        lambda table: json.dumps({key: value for key, value in table.items() if key != "precision"}),
        lambda table: json.dumps({**table, "target": {**table["target"], "tensorrt_version": "ten"}}),
        lambda table: json.dumps({**table, "target": {**table["target"], "batches": [1, 16]}}),
    ],
)
def test_what_describes_no_plan_is_refused(tmp_path, damage):
    plan = write_plan(tmp_path)
    info_path(plan).write_text(damage(json.loads(info_path(plan).read_text())))
    with pytest.raises(PlanError, match=r"model\.plan\.json: not the description of a plan .*: build the plan again"):
        read_plan(plan)


def test_an_unknown_flavour_is_refused(tmp_path):
    with pytest.raises(PlanError, match="the flavour must be one of tensorrt, rtx, not 'jetson'"):
        read_plan(write_plan(tmp_path, replace(TARGET, flavour="jetson")))


@pytest.mark.parametrize(
    ("target", "version", "gpu"),
    [
        (TARGET, "10.13.3.9", L4),
        (replace(TARGET, version_compatible=True), "10.14.1.48", L4),
        (replace(TARGET, version_compatible=True), "11.4.0.106", L4),
        (replace(TARGET, hardware_compatible=True), "10.13.3.9", A10),
        (replace(TARGET, hardware_compatible=True), "10.13.3.9", H100),
        (RTX_TARGET, "1.7.1.116", L4),
        (replace(RTX_TARGET, hardware_compatible=True, compute_capability=None), "1.7.1.116", H100),
    ],
)
def test_a_plan_that_fits_is_taken(tmp_path, target, version, gpu):
    check_plan(write_plan(tmp_path, target), Machine(version, gpu))


@pytest.mark.parametrize(
    ("target", "version", "gpu", "complaint"),
    [
        (
            TARGET,
            "10.13.3.10",
            L4,
            "needs TensorRT 10.13.3.9, which built it, but this machine has 10.13.3.10: build it",
        ),
        (TARGET, "10.9.0.34", L4, "needs TensorRT 10.13.3.9, which built it, but this machine has 10.9.0.34"),
        (
            replace(TARGET, version_compatible=True),
            "10.9.0.34",
            L4,
            "needs TensorRT 10.13.3.9 or later, which built it",
        ),
        (replace(TARGET, version_compatible=True), "12.0.0.1", L4, "needs TensorRT 10.13.3.9 or later, which built it"),
        (
            TARGET,
            "10.13.3.9",
            A10,
            "needs a GPU of compute capability 8.9, but this machine's NVIDIA A10 has 8.6: build",
        ),
        (TARGET, "10.13.3.9", None, "needs an NVIDIA GPU, and nvidia-smi finds none on this machine"),
        (replace(TARGET, hardware_compatible=True), "10.13.3.9", T4, "needs a GPU of .* 8.0 or later, .*T4 has 7.5"),
        (RTX_TARGET, "1.8.0.1", L4, "needs TensorRT-RTX 1.7.1.116, which built it, but this machine has 1.8.0.1"),
        (RTX_TARGET, "1.7.1.116", A10, "needs a GPU of compute capability 8.9, but .* 8.6"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_in_one_line(tmp_path, target, version, gpu, complaint):
    plan = write_plan(tmp_path, target)
    with pytest.raises(PlanError, match=f"model.plan: {complaint}") as caught:
        check_plan(plan, Machine(version, gpu))
    assert "\n" not in str(caught.value)


def test_a_machine_without_tensorrt_is_told_what_to_install(tmp_path):
    with pytest.raises(NotInstalledError, match=r"needs TensorRT 10.13.3.9, and none is installed .* -e '.\[gpu\]'"):
        check_plan(write_plan(tmp_path), Machine(None, L4))


def test_a_plan_s_content_is_checked_before_the_machine(tmp_path):
    plan = write_plan(tmp_path)
    plan.write_bytes(b"another")
    with pytest.raises(PlanError, match="is not the plan that"):
        check_plan(plan, Machine(None, None))


def test_this_machine_is_asked_by_default(tmp_path, monkeypatch):
    write_driver(tmp_path, monkeypatch, "echo '8.6, NVIDIA A10'")
    monkeypatch.setattr("fer_build.plan_file.find_version", lambda flavour: {"tensorrt": "10.13.3.9"}[flavour.name])
    with pytest.raises(PlanError, match="this machine's NVIDIA A10 has 8.6"):
        check_plan(write_plan(tmp_path))


def test_the_gpu_is_the_one_the_driver_describes(tmp_path, monkeypatch):
    write_driver(tmp_path, monkeypatch, "echo '8.9, NVIDIA L4'; echo '8.9, NVIDIA L40S'")
    assert read_gpu() == L4


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo '8.9, NVIDIA L4'; echo '8.6, NVIDIA A10'", r"several: NVIDIA L4 \(8.9\), NVIDIA A10 \(8.6\). Work in a"),
        ("echo 'NVIDIA-SMI has failed because of the driver.'; exit 9", "nvidia-smi fails: NVIDIA-SMI has failed"),
        (
            "echo 'Field \"compute_cap\" is not a valid field' >&2; exit 2",
            "nvidia-smi fails: Field .compute_cap. is not",
        ),
        ("exit 3", "nvidia-smi fails: exit code 3"),
        ("echo '[N/A], NVIDIA'", r"describes a GPU in a way that is not known: '\[N/A\], NVIDIA'"),
    ],
)
def test_a_driver_that_can_not_be_understood_is_quoted(tmp_path, monkeypatch, script, complaint):
    write_driver(tmp_path, monkeypatch, script)
    with pytest.raises(PlanError, match=complaint):
        read_gpu()


def test_a_driver_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    write_driver(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr("fer_build.plan_file._DRIVER_TIMEOUT_S", 0.1)
    with pytest.raises(PlanError, match=r"did not answer within 0.1 s"):
        read_gpu()


@pytest.mark.parametrize("script", [None, "true"])
def test_a_machine_without_a_gpu_has_none(tmp_path, monkeypatch, script):
    if script is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        write_driver(tmp_path, monkeypatch, script)
    assert read_gpu() is None


def test_a_library_that_is_none_has_no_version(tmp_path):
    (tmp_path / "libnvinfer.so.10").write_bytes(b"not a library")
    assert read_library_version(str(tmp_path / "libnvinfer.so.10")) is None
    assert read_library_version("libc.so.6") is None
    assert read_library_version("libmissing.so") is None


def test_the_library_tells_its_version_where_the_module_is_missing():
    """As in NVIDIA's Triton image."""
    libraries = pytest.importorskip(
        "tensorrt_rtx_libs", reason="no TensorRT-RTX: in the checkout, pip install -e '.[rtx]'"
    )
    tensorrt_rtx = pytest.importorskip("tensorrt_rtx")
    folder = Path(libraries.__file__).parent
    script = (
        "import sys; sys.modules['tensorrt_rtx'] = None\n"
        "from fer_build.tensorrt_flavours import RTX, find_version; print(find_version(RTX))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == tensorrt_rtx.__version__ == find_version(RTX)


def test_a_machine_without_the_library_has_no_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(FLAVOURS, "rtx", replace(RTX, libraries=("missing", "libmissing.so.1")))
    monkeypatch.setattr("fer_build.plan_file.read_gpu", lambda: L4)
    assert read_machine("rtx") == Machine(None, L4)


def test_a_library_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("fer_build.tensorrt_flavours._ASKING_TIMEOUT_S", 0.001)
    with pytest.raises(NotInstalledError, match="library of TensorRT did not load within 0.001 s: try again"):
        find_version(FLAVOURS["tensorrt"])
