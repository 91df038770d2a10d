"""fer_build.assemble: what a servable repository consists of, and what is refused."""

import hashlib
import json

import onnxruntime
import pytest

import fer_contract as contract
from fer_build.assemble import RELEASED_ONNX, SOURCES, assemble, main, read_instances
from fer_build.errors import ContractError, RepositoryError


def counts(repository):
    files = {
        "preprocess": repository / "fer_preprocess" / "config.pbtxt",
        "cropped": repository / "fer_preprocess_cropped" / "config.pbtxt",
        "classifier": repository / "fer_classifier" / "configs" / "cpu.pbtxt",
    }
    return {name: int(file.read_text().split("KIND_CPU  count: ")[1].split()[0]) for name, file in files.items()}


def test_the_manifest_describes_every_file(repository):
    manifest = json.loads((repository / "manifest.json").read_text())
    files = {p.relative_to(repository).as_posix(): p for p in repository.rglob("*") if p.is_file()}
    made_since = {name for name in files if "__pycache__" in name}  # by a server that ran on it
    assert set(manifest["sha256"]) == set(files) - {"manifest.json"} - made_since
    for name, sha256 in manifest["sha256"].items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == sha256
    assert manifest["labels"] == list(contract.LABELS)
    assert manifest["onnx_sha256"] == hashlib.sha256(RELEASED_ONNX.read_bytes()).hexdigest()
    assert manifest["built_with"]["onnxruntime"] == onnxruntime.__version__


def test_both_ensembles_tell_the_model_s_version(repository):
    version = json.loads((repository / "manifest.json").read_text())["model_version"]
    for model in (contract.FER_MODEL, contract.FER_CROPPED_MODEL):
        assert f'"{version}"' in (repository / model / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, {"preprocess": 2, "cropped": 2, "classifier": 1}),
        (2, {"preprocess": 2, "cropped": 2, "classifier": 1}),
        (16, {"preprocess": 16, "cropped": 4, "classifier": 4}),
    ],
)
def test_instances_follow_the_cores(tmp_path, cores, expected):
    assemble(tmp_path / "repository", cores=cores)
    assert counts(tmp_path / "repository") == expected


def test_the_rest_of_a_config_stays_as_it_was_written(repository):
    written = (SOURCES / "fer" / "config.pbtxt").read_text().splitlines()
    assembled = (repository / "fer" / "config.pbtxt").read_text().splitlines()
    assert sum(a != b for a, b in zip(written, assembled, strict=True)) == 1


def test_assembling_again_replaces_the_old_one(tmp_path):
    out = tmp_path / "repository"
    assemble(out, cores=2)
    (out / "stray").mkdir()  # Triton would end over it
    assemble(out, cores=3)
    assert counts(out)["preprocess"] == 3
    assert not (out / "stray").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_the_same_inputs_give_the_same_files(tmp_path):
    assert assemble(tmp_path / "a", cores=2) == assemble(tmp_path / "b", cores=2)


@pytest.mark.parametrize("make", ["mkdir", "touch"])
def test_what_is_no_repository_is_not_replaced(tmp_path, make):
    out = tmp_path / "thesis"
    if make == "mkdir":
        out.mkdir()
        (out / "chapter1.tex").touch()
    else:
        out.touch()
    with pytest.raises(RepositoryError, match="thesis is not empty and not a model repository"):
        assemble(out)
    assert out.exists()


def test_a_bad_classifier_leaves_the_old_repository(tmp_path):
    out = tmp_path / "repository"
    before = assemble(out)
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(ContractError, match=r"bad\.onnx: not an ONNX file"):
        assemble(out, tmp_path / "bad.onnx")
    assert json.loads((out / "manifest.json").read_text()) == before


def test_a_plan_takes_the_place_of_the_cpu_s_model(tmp_path):
    plan = tmp_path / "some.plan"
    plan.write_bytes(b"a plan")
    manifest = assemble(tmp_path / "repository", profile="gpu", plan=plan)
    version_folder = tmp_path / "repository" / "fer_classifier" / "1"
    assert [path.name for path in version_folder.iterdir()] == ["model.plan"]
    assert manifest["profile"] == "gpu"


@pytest.mark.parametrize(("profile", "plan"), [("gpu", None), ("cpu", "some.plan"), ("tpu", None)])
def test_profile_and_plan_belong_together(tmp_path, profile, plan):
    with pytest.raises(RepositoryError, match="profile gpu needs a plan"):
        assemble(tmp_path / "repository", profile=profile, plan=plan and tmp_path / plan)


def test_a_missing_plan_is_named(tmp_path):
    with pytest.raises(RepositoryError, match=r"missing\.plan: no such TensorRT plan"):
        assemble(tmp_path / "repository", profile="gpu", plan=tmp_path / "missing.plan")


def test_less_than_one_core_is_refused(tmp_path):
    with pytest.raises(RepositoryError, match="1 core at least, not 0"):
        assemble(tmp_path / "repository", cores=0)


def test_the_manifest_tells_the_instances(tmp_path):
    assert assemble(tmp_path / "repository", cores=6)["instances"] == {
        "fer_preprocess": 6,
        "fer_preprocess_cropped": 2,
        "fer_classifier": 1,
    }
    assert read_instances(tmp_path / "repository") == 6


def test_the_command_fails_in_one_line_where_it_can_not_write(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file" / "repository")]) == 1
    assert capsys.readouterr().err.startswith("fer_build.assemble: [Errno ")


def test_the_command_says_what_it_made(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "repository"), "--cores", "2"]) == 0
    assert capsys.readouterr().out.startswith(f"Assembled {tmp_path / 'repository'}: model ")


def test_the_command_fails_in_one_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "repository"), "--onnx", "missing.onnx"]) == 1
    assert capsys.readouterr().err == "fer_build.assemble: missing.onnx: no such ONNX file\n"
