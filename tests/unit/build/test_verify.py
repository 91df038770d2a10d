"""fer_build.verify, and a plan's way into a repository: what may be served, and what is refused in one line."""

import io
import json
import sys

import pytest
from small_plans import TARGET, write_plan

from fer_build.assemble import assemble
from fer_build.errors import NotInstalledError, PlanError, RepositoryError
from fer_build.manifest import read_manifest
from fer_build.plan import add_to_repository
from fer_build.plan import main as plan_command
from fer_build.plan_file import Gpu, Machine
from fer_build.verify import main, verify

FITTING = Machine(TARGET.tensorrt_version, Gpu("8.9", "NVIDIA L4"))


@pytest.fixture
def gpu_repository(tmp_path):
    """Assembled for a GPU, with a plan in it."""
    repository = tmp_path / "repository"
    manifest, _ = assemble(repository, profile="gpu")
    plan = write_plan(repository / "fer_classifier" / "1", onnx_sha256=manifest["onnx_sha256"])
    add_to_repository(repository, plan)
    return repository


def test_a_repository_for_a_cpu_is_as_it_was_assembled(tmp_path, capsys):
    assemble(tmp_path / "repository")
    assert main([str(tmp_path / "repository")]) == 0
    assert capsys.readouterr().out.endswith(", int8 by openvino\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "fer" / "config.pbtxt").write_text("name: 'other'"), "fer/config.pbtxt was changed"),
        (lambda folder: (folder / "fer" / "config.pbtxt").unlink(), "fer/config.pbtxt is missing"),
        (lambda folder: (folder / "fer" / "stray").touch(), "fer/stray was added"),
        (lambda folder: (folder / "stray").mkdir(), "the folder stray was added"),
        (lambda folder: (folder / "__pycache__").mkdir(), "the folder __pycache__ was added"),
        (lambda folder: (folder / "fer_classifier" / "2").mkdir(), "the folder fer_classifier/2 was added"),
        (lambda folder: (folder / "fer" / "2").symlink_to(folder), "the folder fer/2 was added"),
        (lambda folder: (folder / "fer" / "1" / "gone").symlink_to("nowhere"), "fer/1/gone was added"),
        (
            lambda folder: (folder / "fer_classifier" / "1" / "model.onnx.data").touch(),
            "fer_classifier/1/model.onnx.data was added",
        ),
    ],
)
def test_what_was_changed_since_is_named(tmp_path, capsys, damage, message):
    repository = tmp_path / "repository"
    assemble(repository)
    damage(repository)
    assert main([str(repository)]) == 7
    expected = f"fer-build verify: {repository} is not as it was assembled: {message}; assemble it again\n"
    assert capsys.readouterr().err == expected


def test_a_name_that_the_terminal_can_not_show_is_escaped(tmp_path, monkeypatch):
    assemble(tmp_path / "B\xfccher", cores=2)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True))
    assert main([str(tmp_path / "B\xfccher")]) == 0
    assert rb"B\xfccher is as it was assembled" in sys.stdout.buffer.getvalue()


def test_python_s_bytecode_is_no_change(tmp_path):
    repository = tmp_path / "repository"
    assemble(repository)
    (repository / "fer_preprocess" / "1" / "__pycache__").mkdir()
    (repository / "fer_preprocess" / "1" / "__pycache__" / "model.pyc").touch()
    verify(repository)


def test_a_fitting_plan_may_be_served(gpu_repository):
    assert "profile gpu" in verify(gpu_repository, FITTING)
    manifest = read_manifest(gpu_repository)
    assert manifest["plan"]["target"]["compute_capability"] == "8.9"
    assert "fer_classifier/1/model.plan" in manifest["sha256"]
    assert not assemble(gpu_repository, profile="gpu")[1]  # it is there already, plan and all


@pytest.mark.parametrize(
    ("machine", "error", "message"),
    [
        (Machine("10.12.0.1", FITTING.gpu), PlanError, "needs TensorRT 10.13.3.9.* this machine has 10.12.0.1"),
        (Machine(None, FITTING.gpu), NotInstalledError, "needs TensorRT 10.13.3.9"),
        (Machine(FITTING.tensorrt_version, Gpu("9.0", "NVIDIA H100")), PlanError, "needs a GPU of compute capability"),
        (Machine(FITTING.tensorrt_version, None), PlanError, "needs an NVIDIA GPU"),
    ],
)
def test_a_plan_that_does_not_fit_this_machine_is_refused_in_one_line(gpu_repository, machine, error, message):
    with pytest.raises(error, match=message) as refusal:
        verify(gpu_repository, machine)
    assert "\n" not in str(refusal.value)


def test_a_repository_without_its_plan_tells_how_to_build_it(tmp_path):
    assemble(tmp_path / "repository", profile="gpu")
    with pytest.raises(PlanError, match=r"has no plan yet: fer-build plan --repository "):
        verify(tmp_path / "repository", FITTING)


@pytest.mark.parametrize("wrong", ["file", "flavour"])
def test_only_a_plan_of_its_own_file_for_triton_is_added(tmp_path, wrong):
    repository = tmp_path / "repository"
    manifest, _ = assemble(repository, profile="gpu")
    target = TARGET if wrong == "file" else type(TARGET)(**vars(TARGET) | {"flavour": "rtx"})
    sha256 = "0" * 64 if wrong == "file" else manifest["onnx_sha256"]
    plan = write_plan(repository / "fer_classifier" / "1", target, sha256)
    with pytest.raises(PlanError, match="is not a TensorRT plan of"):
        add_to_repository(repository, plan)
    assert json.loads((repository / "manifest.json").read_text())["plan"] is None


def test_the_plan_command_knows_repositories(tmp_path, capsys):
    assemble(tmp_path / "cpu")
    assert plan_command(["--repository", str(tmp_path / "cpu")]) == 2
    assert "is for a CPU: assemble one with --profile gpu" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        plan_command(["--repository", str(tmp_path / "cpu"), "--flavour", "rtx"])
    assert end.value.code == 2
    with pytest.raises(RepositoryError, match="is not a model repository"):
        verify(tmp_path)
