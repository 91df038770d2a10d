"""build/make_release.py: the same commit gives the same bytes, complete and described."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from datetime import datetime
from pathlib import Path

import pytest

pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed: make .venv/.dev")

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[3]
NAMES = {"SHA256SUMS", "fer_triton-0.1.0-py3-none-any.whl", "fer_triton-0.1.0.cdx.json", "fer_triton-0.1.0.tar.gz"}


def git(folder: Path, *words: str) -> str:
    names = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
    return subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A commit of this checkout as it stands, without the large weights that no release has."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    folder = tmp_path_factory.mktemp("release") / "checkout"
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file() and not name.endswith(".pt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "training" / "kept").mkdir(exist_ok=True)
    (folder / "training" / "kept" / "teacher.pt").write_bytes(b"large")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a release", "--date", "2026-01-02T03:04:05Z")
    return folder


def make(checkout: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "build" / "make_release.py"), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def release(checkout, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    done = make(checkout, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def bom(release):
    return json.loads((release / "fer_triton-0.1.0.cdx.json").read_text())


def test_two_releases_of_a_commit_are_the_same_to_the_byte(checkout, release, tmp_path):
    for stray in ("build/fer_build/__pycache__/stray.pyc", "triton_models/__pycache__/stray.pyc", "dist/old"):
        (checkout / stray).parent.mkdir(parents=True, exist_ok=True)  # ignored by git, made by work since
        (checkout / stray).touch()
    assert make(checkout, tmp_path).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == NAMES
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (release / name).read_bytes(), name


def test_the_checksums_are_those_of_the_files(release):
    lines = [line.split("  ") for line in (release / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in lines} == NAMES - {"SHA256SUMS"}
    for sha256, name in lines:
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == sha256


def test_the_sdist_has_what_builds_and_tests_and_nothing_that_was_made(release):
    with tarfile.open(release / "fer_triton-0.1.0.tar.gz") as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert {"pyproject.toml", "LICENSE", "NOTICE", "README.md", "constraints.txt", "Makefile"} <= names
    assert {"build/make_release.py", "tests/conftest.py", "training/release/fer_classifier_int8.onnx"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "dist", "training/kept"))]
    assert {member.mtime for member in members} == {int(members[0].mtime)}


def test_the_sbom_names_the_distribution_its_dependencies_and_what_is_shipped_besides(release, bom):
    described = bom["metadata"]["component"]
    assert (described["name"], described["version"]) == ("fer-triton", "0.1.0")
    hashes = {reference["url"]: reference["hashes"][0]["content"] for reference in described["externalReferences"]}
    wheel = release / "fer_triton-0.1.0-py3-none-any.whl"
    assert hashes[wheel.name] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    components = {component["name"]: component for component in bom["components"]}
    assert [name for name, one in components.items() if one.get("scope") == "required"] == ["numpy"]
    assert {"onnxruntime", "nvidia-pytriton", "tritonclient", "torch"} <= set(components)
    pinned = (ROOT / "constraints.txt").read_text()
    assert f"onnxruntime=={components['onnxruntime']['version']}\n" in pinned
    assert all(component["licenses"] for component in components.values())
    detector = components["triton_models/fer_preprocess/1/yunet.onnx"]
    assert detector["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert "libfacedetection" in detector["description"]
    assert {"training/release/fer_classifier.onnx", "examples/astronaut.png"} <= set(components)
    needed = {one["ref"]: one.get("dependsOn", []) for one in bom["dependencies"]}
    assert "pkg:pypi/numpy@" + components["numpy"]["version"] in needed["pkg:pypi/fer-triton@0.1.0"]


def test_the_sbom_is_valid_cyclonedx(release):
    pytest.importorskip("jsonschema")
    written = (release / "fer_triton-0.1.0.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None


def test_the_sbom_s_time_is_the_commit_s(checkout, bom):
    seconds = int(git(checkout, "log", "-1", "--format=%ct"))
    assert datetime.fromisoformat(bom["metadata"]["timestamp"]).timestamp() == seconds


def test_a_tree_with_changes_is_refused_in_one_line(checkout, tmp_path):
    (checkout / "new.txt").touch()
    try:
        done = make(checkout, tmp_path)
    finally:
        (checkout / "new.txt").unlink()
    assert done.returncode == 1
    assert done.stderr == (
        "make_release.py: the working tree has 1 changes (?? new.txt is one): commit or remove them first\n"
    )
    assert not list(tmp_path.iterdir())
