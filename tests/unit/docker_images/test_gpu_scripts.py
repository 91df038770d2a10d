"""The GPU image's two scripts. verify is the real one; tritonserver, pip and TensorRT are stand-ins."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TRITONSERVER = '#!/bin/sh\nprintf "%s\\n" "$@"\n'
PYTHON_OF_AN_IMAGE = """#!/bin/sh
case "$*" in
    "-c import tensorrt") [ -e "$SITE/tensorrt" ] ;;
    "-m fer_build.tensorrt_flavours "*) printf %s "$LIBNVINFER" ;;
    "-m pip install "*) echo "$@" > "$SITE/pip"; mkdir "$SITE/tensorrt_bindings" ;;
    "-c import importlib.util"*) echo "$SITE/tensorrt_bindings" ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


@pytest.fixture
def programs(tmp_path):
    """A folder that is looked into first, and how to put programs into it."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def add(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    return folder, add


def run(script, folder, *arguments, **environment):
    settings = {"PATH": f"{folder}:{os.environ['PATH']}"} | environment
    command = ["sh", script, *arguments]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=120)


@pytest.fixture
def serve(root, programs, repository, tmp_path):
    folder, add = programs
    add("tritonserver", TRITONSERVER)
    add("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    add("fer-build", f'#!/bin/sh\nexec {Path(sys.executable).with_name("fer-build")} "$@"\n')
    models = tmp_path / "models"
    shutil.copytree(repository, models / "repository")
    script = root / "docker" / "images" / "serve_gpu.sh"
    return models, lambda: run(script, folder, "--exit-timeout-secs=20", FER_MODELS=str(models))


def test_a_verified_repository_is_served_with_the_arguments_added(serve):
    models, start = serve
    done = start()
    assert done.returncode == 0, done.stderr
    verified, repository, no_completion, http, grpc, added = done.stdout.splitlines()
    assert "is as it was assembled" in verified
    assert repository == f"--model-repository={models}/repository"
    assert (no_completion, added) == ("--disable-auto-complete-config", "--exit-timeout-secs=20")
    for flag, name in ((http, "--http-restricted-api"), (grpc, "--grpc-restricted-protocol")):
        locked, key = flag.removeprefix(f"{name}=").split(":fer-key=")
        assert locked == "model-repository,shared-memory,trace,logging"
        assert len(key) == 64
        assert start().stdout.count(key) == 0  # another one each time


def test_a_changed_repository_is_not_served(serve):
    models, start = serve
    (models / "repository" / "fer_faces.py").write_text("# changed\n")
    done = start()
    assert done.returncode == 7
    assert "fer_faces.py was changed" in done.stderr
    assert done.stdout == ""


@pytest.fixture
def add_tensorrt(root, programs, tmp_path):
    folder, add = programs
    add("python3", PYTHON_OF_AN_IMAGE)
    site = tmp_path / "site"
    site.mkdir()
    script = root / "docker" / "images" / "add_tensorrt.sh"
    return site, lambda version: run(script, folder, SITE=str(site), LIBNVINFER=version)


def test_the_module_is_of_the_library_s_version_and_brings_no_second_library(add_tensorrt):
    site, install = add_tensorrt
    assert install("11.4.0.106").returncode == 0
    words = (site / "pip").read_text().split()
    assert words[-1] == "tensorrt-cu13-bindings==11.4.0.106.*"
    assert "--no-deps" in words
    assert (site / "tensorrt").resolve() == site / "tensorrt_bindings"


def test_a_module_that_is_there_is_left_alone(add_tensorrt):
    site, install = add_tensorrt
    (site / "tensorrt").mkdir()
    assert install("11.4.0.106").returncode == 0
    assert not (site / "pip").exists()


def test_an_image_without_tensorrt_is_refused(add_tensorrt):
    site, install = add_tensorrt
    done = install("")
    assert done.returncode == 1
    assert "no libnvinfer in this image" in done.stderr
    assert not (site / "pip").exists()
