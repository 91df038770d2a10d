"""fer_build.plan.request_plan: which plan is built for which GPU by which TensorRT, and what is refused beforehand."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: in the checkout, pip install -e '.[rtx]'")
pytest.importorskip("onnx", reason="onnx is not installed: in the checkout, pip install -e '.[build]'")

import tensorrt_rtx

from fer_build import tensorrt_flavours
from fer_build.errors import NotInstalledError, PlanError
from fer_build.plan import request_plan
from fer_build.tensorrt_flavours import FLAVOURS, RTX, find_version


@pytest.mark.usefixtures("ada_gpu")
def test_the_default_target_is_this_machine_s_gpu(tmp_path, network):
    assert request_plan(network, tmp_path / "tiny.plan", "rtx").target.compute_capability == "8.9"


@pytest.mark.parametrize(
    ("compute_capability", "options", "complaint"),
    [
        ("9.0", {}, "builds for compute capability 7.5, 8.0, 8.6, 8.9, 12.0, 12.1.*, not 9.0"),
        ("sm86", {}, "builds for compute capability .*, not sm86"),
        ("8.6", {"hardware_compatible": True}, "--compute-capability or --hardware-compatible, not both"),
        ("8.6", {"version_compatible": True}, "leave --version-compatible out"),
        ("8.6", {"timing_cache_dir": Path("cache")}, "leave --timing-cache out"),
        ("8.6", {"workspace_mib": 0}, "1 MiB at least, not 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, network, compute_capability, options, complaint):
    with pytest.raises(PlanError, match=complaint):
        request_plan(network, tmp_path / "tiny.plan", "rtx", compute_capability, **options)


def test_an_unknown_flavour_is_refused(tmp_path, network):
    with pytest.raises(PlanError, match="must be one of tensorrt, rtx, not 'jetson'"):
        request_plan(network, tmp_path / "tiny.plan", "jetson")


def test_a_folder_is_not_overwritten(tmp_path, network):
    with pytest.raises(PlanError, match="is a folder: name the file to write"):
        request_plan(network, tmp_path, "rtx", "8.6")


@pytest.mark.parametrize("out", ["tiny.onnx", "folder/../tiny.onnx", "link.onnx"])
def test_the_onnx_file_is_not_overwritten(tmp_path, network, out):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.onnx").symlink_to(network)
    with pytest.raises(PlanError, match="would overwrite the ONNX file that it is built of: name another file"):
        request_plan(network, tmp_path / out, "rtx", "8.6")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_target_has_to_be_named(tmp_path, network):
    with pytest.raises(PlanError, match=r"no GPU: say whose plan it is, --compute-capability 7.5\|8.0\|8.6\|8.9\|12.0"):
        request_plan(network, tmp_path / "tiny.plan", "rtx")


def make_package(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """A package `tensorrt` that is found before any other."""
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt" / name).write_text(text)
    monkeypatch.syspath_prepend(folder)
    for module in [module for module in sys.modules if module.split(".")[0] == "tensorrt"]:
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("__init__.pyi", "class Builder: ...", r"TensorRT is not installed: in the checkout, .*\[gpu\].* libnvinfer"),
        ("__init__.py", "__version__ = '10.9.0.34'", "TensorRT 10.9.0.34 is too old, 10.12 or later is needed"),
        ("__init__.py", "raise OSError('libnvinfer.so.10: no such file')", "cannot be imported .libnvinfer.so.10"),
        ("__init__.py", "import tensorrt_libraries", "cannot be imported .No module named 'tensorrt_libraries'"),
    ],
    ids=["stubs only", "too old", "no library", "no dependency"],
)
def test_a_tensorrt_that_can_not_be_used_is_named(tmp_path, network, monkeypatch, name, text, complaint):
    make_package(tmp_path, monkeypatch, name, text)
    with pytest.raises(NotInstalledError, match=complaint):
        request_plan(network, tmp_path / "tiny.plan", "tensorrt")


def test_a_missing_tensorrt_rtx_is_named_with_its_extra(tmp_path, network, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(NotInstalledError, match=r"TensorRT-RTX is not installed: .* pip install -e '.\[rtx\]'$"):
        request_plan(network, tmp_path / "tiny.plan", "rtx", "8.6")


@pytest.mark.usefixtures("rtx_as_tensorrt", "no_gpu")
def test_flavour_tensorrt_needs_a_gpu(tmp_path, network):
    with pytest.raises(PlanError, match="builds on the GPU that will serve, and nvidia-smi finds none"):
        request_plan(network, tmp_path / "tiny.plan", "tensorrt")


@pytest.mark.usefixtures("rtx_as_tensorrt", "ada_gpu")
def test_flavour_tensorrt_builds_for_no_other_gpu(tmp_path, network):
    request = request_plan(network, tmp_path / "tiny.plan", "tensorrt", "8.9", hardware_compatible=True)
    assert (request.target.compute_capability, request.target.gpu) == ("8.9", "NVIDIA L4")
    with pytest.raises(PlanError, match=r"builds for this machine's NVIDIA L4, compute capability 8.9, not 8.6"):
        request_plan(network, tmp_path / "tiny.plan", "tensorrt", "8.6")


@pytest.fixture
def system_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX's library as if it were the system's libnvinfer."""
    import tensorrt_rtx_libs

    monkeypatch.setenv("LD_LIBRARY_PATH", str(Path(tensorrt_rtx_libs.__file__).parent))
    stand_in = replace(tensorrt_flavours.TENSORRT, libraries=RTX.libraries)
    monkeypatch.setitem(FLAVOURS, "tensorrt", stand_in)


@pytest.mark.usefixtures("system_library", "ada_gpu")
def test_another_tensorrt_than_the_server_s_builds_nothing(tmp_path, network, monkeypatch):
    make_package(tmp_path, monkeypatch, "__init__.py", "__version__ = '10.13.3.9'")
    served = tensorrt_rtx.__version__
    with pytest.raises(
        PlanError, match=f"TensorRT 10.13.3.9, .* libnvinfer {served}.*: pip install tensorrt=={served}"
    ):
        request_plan(network, tmp_path / "tiny.plan", "tensorrt")


@pytest.mark.usefixtures("system_library", "ada_gpu")
def test_the_server_s_tensorrt_may_build(tmp_path, network, monkeypatch):
    served = tensorrt_rtx.__version__
    monkeypatch.setitem(FLAVOURS, "tensorrt", replace(FLAVOURS["tensorrt"], oldest=(1, 7)))
    make_package(tmp_path, monkeypatch, "__init__.py", f"__version__ = '{served}'")
    assert request_plan(network, tmp_path / "tiny.plan", "tensorrt").target.tensorrt_version == served


@pytest.mark.parametrize("system", [True, False])
def test_a_plan_is_checked_against_the_library_that_triton_loads(tmp_path, monkeypatch, request, system):
    if system:
        request.getfixturevalue("system_library")
    else:
        monkeypatch.setitem(FLAVOURS, "tensorrt", replace(tensorrt_flavours.TENSORRT, libraries=()))
    make_package(tmp_path, monkeypatch, "__init__.py", "__version__ = '10.13.3.9'")
    assert find_version(FLAVOURS["tensorrt"]) == (tensorrt_rtx.__version__ if system else "10.13.3.9")
