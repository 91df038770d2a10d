"""fer_build.assemble: what a servable repository consists of, and what is refused."""

import hashlib
import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
from google.protobuf import text_format
from small_classifier import write_small_classifier
from tritonclient.grpc.model_config_pb2 import ModelConfig

import fer_contract as contract
from fer_build import assemble as assemble_module
from fer_build.assemble import assemble, main
from fer_build.detector_options import PARAMETERS
from fer_build.errors import ContractError, RepositoryError
from fer_build.manifest import find_changes, read_manifest
from fer_build.release import RELEASED_ONNX, SERVED_ONNX, SOURCES
from fer_runtimes import RUNTIMES
from fer_search import SearchSettings


def configs(repository, model):
    return sorted((repository / model).rglob("*.pbtxt"))


def parameters(path):
    return text_format.Parse(path.read_text(), ModelConfig()).parameters


def counts(repository, preprocess="configs/cpu.pbtxt"):
    files = {
        "preprocess": repository / "fer_preprocess" / preprocess,
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
    assert manifest["onnx_sha256"] == hashlib.sha256(SERVED_ONNX.read_bytes()).hexdigest()
    assert manifest["built_with"]["onnxruntime"] == onnxruntime.__version__
    assert (manifest["precision"], manifest["runtime"], manifest["plan"]) == ("int8", "openvino", None)
    assert manifest["gate"]["openvino"]["accuracy_lost"] <= 0.003


def test_both_ensembles_tell_the_model_s_version(repository):
    version = json.loads((repository / "manifest.json").read_text())["model_version"]
    files = configs(repository, contract.FER_MODEL) + configs(repository, contract.FER_CROPPED_MODEL)
    assert len(files) == 3
    assert {parameters(file)[contract.MODEL_VERSION_PARAMETER].string_value for file in files} == {version}


def test_both_ensembles_publish_the_threshold_that_training_recommends(tmp_path):
    onnx = write_small_classifier(tmp_path / "small.onnx", fer_uncertain__below="0.25")
    assemble(tmp_path / "repository", onnx)
    for model in (contract.FER_MODEL, contract.FER_CROPPED_MODEL):
        for file in configs(tmp_path / "repository", model):
            assert parameters(file)[contract.UNCERTAIN_BELOW_PARAMETER].string_value == "0.25"


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, {"preprocess": 2, "cropped": 2, "classifier": 2}),
        (2, {"preprocess": 2, "cropped": 2, "classifier": 2}),
        (16, {"preprocess": 16, "cropped": 4, "classifier": 4}),
    ],
)
def test_instances_follow_the_cores(tmp_path, cores, expected):
    assemble(tmp_path / "repository", cores=cores)
    assert counts(tmp_path / "repository") == expected


@pytest.mark.parametrize("options", [{"separate_classifier": True}, {"profile": "gpu"}])
def test_one_more_preprocesses_where_another_model_classifies(tmp_path, options):
    assemble(tmp_path / "repository", cores=16, **options)
    assert counts(tmp_path / "repository", "config.pbtxt")["preprocess"] == 17


def test_a_cpu_is_served_fer_in_one_step(repository):
    fer = text_format.Parse((repository / "fer" / "configs" / "cpu.pbtxt").read_text(), ModelConfig())
    assert [step.model_name for step in fer.ensemble_scheduling.step] == [contract.PREPROCESS_MODEL]
    assert not (repository / contract.POSTPROCESS_MODEL).exists()


@pytest.mark.parametrize("options", [{"separate_classifier": True}, {"profile": "gpu"}])
def test_the_ensemble_of_three_can_be_made_for_a_cpu_and_is_made_for_a_gpu(tmp_path, options):
    assemble(tmp_path / "repository", **options)
    for model in (contract.FER_MODEL, contract.PREPROCESS_MODEL, contract.POSTPROCESS_MODEL):
        assert [path.name for path in configs(tmp_path / "repository", model)] == ["config.pbtxt"]


def test_the_steps_can_be_exchanged(tmp_path):
    """The command's option, in a repository that is there already."""
    out = tmp_path / "repository"
    for options in ([], ["--separate-classifier"], []):
        assert main(["--out", str(out), *options]) == 0
        assert (out / contract.POSTPROCESS_MODEL).exists() == bool(options)
        assert (out / "fer" / "configs").exists() == (not options)
        assert not find_changes(out, read_manifest(out))


def test_counts_and_the_queue_delay_can_be_chosen(tmp_path):
    instances = {contract.PREPROCESS_MODEL: 5, contract.CLASSIFIER_MODEL: 3}
    manifest, _ = assemble(tmp_path / "repository", cores=2, instances=instances, queue_delay_us=500)
    assert counts(tmp_path / "repository") == {"preprocess": 5, "cropped": 2, "classifier": 3}
    assert manifest["instances"] == {"fer_preprocess": 5, "fer_preprocess_cropped": 2, "fer_classifier": 3}
    config = (tmp_path / "repository" / "fer_classifier" / "configs" / "cpu.pbtxt").read_text()
    assert "max_queue_delay_microseconds: 500\n" in config


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"instances": {"fer": 2}}, "fer: instances are counted of fer_preprocess, "),
        ({"instances": {"fer_classifier": 1}}, "2 instances at least"),
        ({"queue_delay_us": -1}, "a queue delay cannot be -1"),
    ],
)
def test_counts_and_delays_that_make_no_sense_are_refused(tmp_path, wrong, complaint):
    with pytest.raises(RepositoryError, match=complaint):
        assemble(tmp_path / "repository", **wrong)


def test_the_rest_of_a_config_stays_as_it_was_written(repository):
    for name in ("config.pbtxt", "configs/cpu.pbtxt"):
        written = (SOURCES / "fer" / name).read_text().splitlines()
        assembled = (repository / "fer" / name).read_text().splitlines()
        changed = [a.split('"')[1] for a, b in zip(written, assembled, strict=True) if a != b]
        assert changed == [contract.MODEL_VERSION_PARAMETER, contract.UNCERTAIN_BELOW_PARAMETER]


def test_assembling_again_replaces_the_old_one(tmp_path):
    out = tmp_path / "repository"
    assemble(out, cores=2)
    (out / "stray").mkdir()  # Triton would end over it
    (out / "stray" / "file").touch()
    assert assemble(out, cores=3)[1]
    assert counts(out)["preprocess"] == 3
    assert not (out / "stray").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_assembling_the_same_again_does_nothing(tmp_path, profile):
    out = tmp_path / "repository"
    assert assemble(out, profile=profile, cores=2)[1]
    before = out.stat().st_ino, (out / "manifest.json").stat().st_mtime_ns
    assert not assemble(out, profile=profile, cores=2)[1]
    assert (out.stat().st_ino, (out / "manifest.json").stat().st_mtime_ns) == before
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@pytest.mark.parametrize("damage", ["fer/config.pbtxt", "fer_classifier/1/model.onnx", "fer_preprocess/1/yunet.onnx"])
def test_a_damaged_repository_is_made_again(tmp_path, damage):
    out = tmp_path / "repository"
    assemble(out, cores=2)
    (out / damage).write_text("damaged")
    assert assemble(out, cores=2)[1]
    assert not find_changes(out, read_manifest(out))


def test_a_dry_run_writes_nothing(tmp_path):
    assert assemble(tmp_path / "repository", dry_run=True)[1]
    assert list(tmp_path.iterdir()) == []


def test_the_same_inputs_give_the_same_files(tmp_path):
    assert assemble(tmp_path / "a", cores=2) == assemble(tmp_path / "b", cores=2)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_runtime_is_written_where_the_model_reads_it(tmp_path, runtime):
    assemble(tmp_path / "repository", runtime=runtime, threads=3)
    for model in (contract.PREPROCESS_MODEL, contract.CLASSIFIER_MODEL):
        written = parameters(tmp_path / "repository" / model / "configs" / "cpu.pbtxt")
        assert (written["runtime"].string_value, written["threads"].string_value) == (runtime, "3")


def test_how_faces_are_searched_is_written_where_the_model_reads_it(tmp_path):
    chosen = {"detector": "yunet", "detector_side_px": 640, "detector_second_look_px": 0, "detector_min_score": 0.6}
    assemble(tmp_path / "repository", detector=chosen)
    for file in configs(tmp_path / "repository", contract.PREPROCESS_MODEL):
        written = parameters(file)
        assert {name: written[name].string_value for name in chosen} == {k: str(v) for k, v in chosen.items()}


def test_the_written_defaults_are_the_code_s():
    defaults = SearchSettings()
    for file in configs(SOURCES, contract.PREPROCESS_MODEL):
        written = parameters(file)
        assert {name: kind(written[name].string_value) for name, kind in PARAMETERS.items()} == {
            "detector": "yunet",
            "detector_side_px": defaults.side_px,
            "detector_second_look_px": defaults.second_look_px,
            "detector_min_score": defaults.min_score,
        }


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"detector": "haar"}, "detector must be one of yunet, not haar"),
        ({"detector_side_px": 8}, "make no sense: side_px must be at least 32"),
        ({"detector_min_score": 2.0}, "make no sense: min_score must be 0..1, not 2.0"),
        ({"detector_speed": 1}, "detector_speed: a detector has detector, detector_side_px, "),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(tmp_path, wrong, complaint):
    with pytest.raises(RepositoryError, match=complaint):
        assemble(tmp_path / "repository", detector=wrong)


def test_the_command_takes_the_search_s_options(tmp_path):
    options = ["--detector-side-px", "640", "--detector-second-look-px", "0"]
    assert main(["--out", str(tmp_path / "repository"), *options]) == 0
    written = parameters(tmp_path / "repository" / "fer_preprocess" / "configs" / "cpu.pbtxt")
    assert written["detector_side_px"].string_value == "640"
    assert written["detector_second_look_px"].string_value == "0"
    assert written["detector_min_score"].string_value == "0.8"


def test_an_interruption_while_replacing_brings_the_old_one_back(tmp_path, monkeypatch):
    out = tmp_path / "repository"
    before, _ = assemble(out, cores=2)
    rename = Path.rename

    def interrupt(self, target):
        if self.name == "repository" and self != out:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        assemble(out, cores=3)
    assert read_manifest(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_a_dry_run_makes_no_folder(tmp_path):
    assemble(tmp_path / "new" / "repository", dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_released_int8_file_of_another_network_is_not_served(tmp_path, monkeypatch):
    """Somebody trained a network, exported it over the released one, and forgot the smaller files."""
    release = tmp_path / "release"
    release.mkdir()
    for name, path in (("RELEASED_ONNX", RELEASED_ONNX), ("SERVED_ONNX", SERVED_ONNX)):
        monkeypatch.setattr(assemble_module, name, Path(shutil.copy(path, release)))
    assemble(tmp_path / "repository", release / SERVED_ONNX.name)
    write_small_classifier(release / RELEASED_ONNX.name)
    with pytest.raises(ContractError, match=r"_int8\.onnx was made of another network than fer_classifier\.onnx"):
        assemble(tmp_path / "repository", release / SERVED_ONNX.name)


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
    before, _ = assemble(out)
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(ContractError, match=r"bad\.onnx: not an ONNX file"):
        assemble(out, tmp_path / "bad.onnx")
    assert json.loads((out / "manifest.json").read_text()) == before


def test_for_a_gpu_the_onnx_file_waits_for_its_plan(tmp_path):
    manifest, _ = assemble(tmp_path / "repository", profile="gpu")
    version_folder = tmp_path / "repository" / "fer_classifier" / "1"
    assert [path.name for path in version_folder.iterdir()] == ["model.onnx"]
    assert (manifest["profile"], manifest["runtime"], manifest["plan"]) == ("gpu", "tensorrt", None)


@pytest.mark.parametrize("wrong", [{"profile": "tpu"}, {"runtime": "torch"}])
def test_an_unknown_profile_or_runtime_is_refused(tmp_path, wrong):
    with pytest.raises(RepositoryError, match="a profile is one of cpu, gpu, a runtime one of onnxruntime, openvino"):
        assemble(tmp_path / "repository", **wrong)


def test_less_than_one_core_is_refused(tmp_path):
    for wrong in ({"cores": 0}, {"threads": 0}):
        with pytest.raises(RepositoryError, match="1 core and 1 thread at least"):
            assemble(tmp_path / "repository", **wrong)


def test_the_manifest_tells_the_instances(tmp_path):
    assert assemble(tmp_path / "repository", cores=6)[0]["instances"] == {
        "fer_preprocess": 6,
        "fer_preprocess_cropped": 2,
        "fer_classifier": 2,
    }


def test_the_command_fails_in_one_line_where_it_can_not_write(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file" / "repository")]) == 2
    assert capsys.readouterr().err == f"fer-build assemble: {tmp_path / 'file'}: File exists\n"


def test_the_command_says_what_it_made(tmp_path, capsys):
    for done in ("would assemble", "assembled", "up to date:"):
        arguments = ["--out", str(tmp_path / "repository"), "--cores", "2"]
        assert main([*arguments, "--dry-run"] if done.startswith("would") else arguments) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{done} {tmp_path / 'repository'}: profile cpu, model ")
        assert printed.endswith(", int8 by openvino\n")
