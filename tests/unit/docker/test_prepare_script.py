"""scripts/prepare.sh: what the server reads is assembled or copied, verified, and a GPU's plan is built once.

assemble and verify are the real ones; where there is no GPU, TensorRT and nvidia-smi are stand-ins that say what they
were asked to do.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fer_build.assemble import assemble
from fer_sizing.chart import CHART

SCRIPT = CHART / "scripts" / "prepare.sh"

PYTHON = f"""#!/bin/sh
case "$*" in
    "-c import tensorrt; print(tensorrt.__version__)") echo "$TENSORRT" ;;
    *) exec {sys.executable} "$@" ;;
esac
"""

FER_BUILD = str(Path(sys.executable).with_name("fer-build"))

BUILD = f"""#!/bin/sh
case "$*" in
    "plan --repository "*)
        plan="$3/fer_classifier/1/model.plan"
        if [ ! -f "$plan.json" ]; then
            echo build >> "$CALLS"
            echo "a plan of $TENSORRT" > "$plan"; echo layers > "$plan.layers.json"; echo "$GPU" > "$plan.json"
        fi ;;
    "verify "*)
        [ "$FER_PROFILE" = cpu ] && exec {FER_BUILD} "$@"
        echo verify >> "$CALLS" ;;
    *) exec {FER_BUILD} "$@" ;;
esac
"""

NVIDIA_SMI = """#!/bin/sh
case "$1" in
    --list-gpus) echo "GPU 0: $GPU (UUID: GPU-e86cb44c)"
        [ -z "${SLICE:-}" ] || echo "  MIG $SLICE     Device  0: (UUID: MIG-c7384736)" ;;
    *) echo "$GPU" ;;
esac
"""


@pytest.fixture
def pod(tmp_path):
    """`pod("name", FER_PROFILE="cpu")` runs the init container of a pod; returns its repository and what was called."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("python3", PYTHON), ("fer-build", BUILD), ("nvidia-smi", NVIDIA_SMI)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def start(name, **environment):
        models, calls = tmp_path / name, tmp_path / f"{name}.calls"
        models.mkdir(exist_ok=True)
        settings = {"FER_CORES": "2", "GPU": "NVIDIA L4", "TENSORRT": "10.13.3.9", "HOSTNAME": name}
        settings |= {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(calls), "FER_MODELS": str(models)}
        done = subprocess.run(
            ["sh", SCRIPT], env=os.environ | settings | environment, capture_output=True, text=True, timeout=120
        )
        return done, models / "repository", calls.read_text().split() if calls.exists() else []

    return start


def test_a_cpu_server_s_repository_is_made_for_its_cores(pod):
    done, repository, _ = pod("a", FER_PROFILE="cpu", FER_CORES="6")
    assert done.returncode == 0, done.stderr
    assert json.loads((repository / "manifest.json").read_text())["instances"]["fer_preprocess"] == 6
    assert "is as it was assembled" in done.stdout


def test_a_container_that_starts_again_finds_it_done(pod):
    assert pod("a", FER_PROFILE="cpu")[0].returncode == 0
    done, _, _ = pod("a", FER_PROFILE="cpu")
    assert done.returncode == 0
    assert "up to date" in done.stdout


def test_models_from_elsewhere_are_copied_and_verified(pod, tmp_path):
    source = tmp_path / "source"
    assemble(source, cores=3)
    for file in source.rglob("*"):
        file.chmod(0o555 if file.is_dir() else 0o444)
    done, repository, _ = pod("a", FER_PROFILE="cpu", FER_SOURCE=str(source))
    assert done.returncode == 0, done.stderr
    assert (repository / "manifest.json").read_bytes() == (source / "manifest.json").read_bytes()
    assert pod("a", FER_PROFILE="cpu", FER_SOURCE=str(source))[0].returncode == 0  # and again


def test_models_that_were_tampered_with_are_not_served(pod, tmp_path):
    source = tmp_path / "source"
    assemble(source)
    (source / "fer_preprocess" / "config.pbtxt").write_text("")
    done, _, _ = pod("a", FER_PROFILE="cpu", FER_SOURCE=str(source))
    assert done.returncode == 7
    assert "is not as it was assembled: fer_preprocess/config.pbtxt was changed" in done.stderr


@pytest.mark.parametrize("source", ["empty", "nowhere"])
def test_a_path_without_a_manifest_is_an_error_that_names_the_value(pod, tmp_path, source):
    (tmp_path / "empty").mkdir()
    done, repository, _ = pod("a", FER_PROFILE="cpu", FER_SOURCE=str(tmp_path / source))
    assert (done.returncode, repository.exists()) == (1, False)
    assert f"{tmp_path / source} has no manifest.json: models.path has to be the folder of an" in done.stderr


RCLONE = """#!/bin/sh
echo "$1" >> "$CALLS"
folder=$BUCKETS/${2#models:}
case "$1" in
    lsf) [ "$*" = "lsf $2" ] || exit 9
        case "$2" in models:bucket/*) ;; *) echo "directory not found" >&2; exit 3 ;; esac
        [ ! -f "$folder" ] || echo "${folder##*/}" ;;
    sync) cp -R "$folder" "$3" ;;
esac
"""


@pytest.mark.parametrize(
    ("path", "calls", "message"),
    [
        ("bucket/fer", ["lsf", "sync"], ""),
        ("bucket", ["lsf"], "download.sh: models:bucket has no manifest.json: models.path has to be the folder of an"),
        ("bucket/nowhere", ["lsf"], "models:bucket/nowhere has no manifest.json: models.path has to be the folder of"),
        (
            "other/fer",
            ["lsf"],
            "models:other/fer cannot be read, for the reason above: check models.s3 and models.path",
        ),
    ],
)
def test_a_download_asks_for_the_manifest_before_anything_is_fetched(tmp_path, path, calls, message):
    """With a stand-in for rclone; the script was tried by hand with `rclone serve s3` and the real one."""
    (tmp_path / "buckets" / "bucket" / "fer").mkdir(parents=True)
    (tmp_path / "buckets" / "bucket" / "fer" / "manifest.json").write_text("{}")
    (tmp_path / "rclone").write_text(RCLONE)
    (tmp_path / "rclone").chmod(0o755)
    target, log = tmp_path / "target", tmp_path / "calls"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BUCKETS": str(tmp_path / "buckets"), "CALLS": str(log)}
    environment |= {"FER_SOURCE": f"models:{path}", "FER_TARGET": str(target)}
    done = subprocess.run(
        ["sh", SCRIPT.with_name("download.sh")], env=environment, capture_output=True, text=True, timeout=60
    )
    assert log.read_text().split() == calls
    assert (done.returncode == 0) == (target / "manifest.json").exists() == (not message)
    assert message in done.stderr


def test_only_the_first_pod_of_a_kind_builds_the_plan(pod, tmp_path):
    plans = tmp_path / "plans"
    plans.mkdir()
    settings = {"FER_PROFILE": "gpu", "FER_PLAN_CACHE": str(plans)}
    assert pod("first", **settings)[2] == ["build", "verify"]
    done, repository, calls = pod("second", **settings)
    assert done.returncode == 0, done.stderr
    assert calls == ["verify"]
    assert (repository / "fer_classifier" / "1" / "model.plan").read_text() == "a plan of 10.13.3.9\n"
    (folder,) = plans.iterdir()
    assert folder.name.startswith("NVIDIA-L4_10.13.3.9_")
    assert sorted(file.name for file in folder.iterdir()) == ["model.plan", "model.plan.json", "model.plan.layers.json"]


@pytest.mark.parametrize(
    "other",
    [{"GPU": "NVIDIA H100 80GB HBM3"}, {"SLICE": "1g.10gb"}, {"TENSORRT": "11.0.0.1"}],
    ids=["gpu", "slice", "tensorrt"],
)
def test_another_gpu_slice_or_tensorrt_has_a_plan_of_its_own(pod, tmp_path, other):
    plans = tmp_path / "plans"
    plans.mkdir()
    settings = {"FER_PROFILE": "gpu", "FER_PLAN_CACHE": str(plans)}
    pod("first", **settings)
    assert pod("second", **settings, **other)[2] == ["build", "verify"]
    assert len(list(plans.iterdir())) == 2
    assert other.get("SLICE", "") in "".join(folder.name for folder in plans.iterdir())


def test_another_model_has_a_plan_of_its_own(pod, tmp_path):
    plans, source = tmp_path / "plans", tmp_path / "source"
    plans.mkdir()
    assemble(source, profile="gpu")
    with (source / "fer_classifier" / "1" / "model.onnx").open("ab") as onnx:
        onnx.write(b"\0")
    settings = {"FER_PROFILE": "gpu", "FER_PLAN_CACHE": str(plans)}
    pod("first", **settings)
    assert pod("second", **settings, FER_SOURCE=str(source))[2] == ["build", "verify"]


def test_without_a_cache_every_pod_builds(pod):
    for name in ("first", "second"):
        assert pod(name, FER_PROFILE="gpu")[2] == ["build", "verify"]


def test_a_plan_that_can_not_be_built_keeps_the_server_from_starting(pod, tmp_path):
    if shutil.which("nvidia-smi"):
        pytest.skip("there is a GPU here")
    (tmp_path / "programs" / "fer-build").write_text(f'#!/bin/sh\nexec {FER_BUILD} "$@"\n')
    done, _, _ = pod("a", FER_PROFILE="gpu")
    assert done.returncode == 1
    assert "fer-build plan:" in done.stderr


@pytest.mark.parametrize("script", [SCRIPT, SCRIPT.with_name("download.sh")])
def test_the_script_is_plain_sh(script):
    assert Path(script).read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", script], check=True)
