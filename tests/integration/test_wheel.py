"""The built wheel in an environment and a folder of its own, without the checkout: what `pip install` gives a user."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = ("numpy", "numpy.libs", "tomli")
"""All that the base installation brings, as it lies in site-packages. tomli is for Python 3.10."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def install(wheel: Path, folder: Path) -> Path:
    """A virtual environment with the wheel in it and nothing else; returns its site-packages."""
    venv.create(folder, with_pip=False, symlinks=True)
    command = [sys.executable, "-m", "pip", f"--python={folder}/bin/python", "install", "--quiet", "--no-index"]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*command, "--no-deps", "--no-compile", str(wheel)], check=True, env=environment)
    (packages,) = folder.glob("lib/python*/site-packages")
    return packages


@pytest.fixture(scope="module")
def whole(wheel, tmp_path_factory) -> Path:
    """The wheel beside everything that this environment has, but for the checkout: what a .pth file names is not
    searched for further ones, such as the checkout's own."""
    folder = tmp_path_factory.mktemp("whole")
    (install(wheel, folder) / "everything.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory) -> Path:
    """The wheel beside what its base installation brings."""
    folder = tmp_path_factory.mktemp("bare")
    packages = install(wheel, folder)
    for name in BASE:
        installed = Path(sysconfig.get_path("purelib")) / name
        if installed.exists():
            (packages / name).symlink_to(installed)
    return folder


def run(environment: Path, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(environment / "bin" / words[0]), *words[1:]]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | variables, timeout=120, check=False
    )


def test_the_wheel_holds_what_serves_and_nothing_that_does_not(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        path for path in (ROOT / "triton_models").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"fer_shipped/{path.relative_to(ROOT)}" for path in sources} <= names
    release = {"fer_classifier.onnx", "fer_classifier_int8.onnx", "int8_ranges.json"}
    assert {name for name in names if "/release/" in name} == {f"fer_shipped/training/release/{n}" for n in release}
    assert {"fer_shipped/examples/astronaut.png", "fer_loadtest/locustfile.py", "fer_loadtest/report.html"} <= names
    assert {f"fer_web/static/{path.name}" for path in (ROOT / "web" / "fer_web" / "static").iterdir()} <= names
    modules = {path.name for path in sources if path.parent == ROOT / "triton_models" and path.suffix == ".py"}
    assert modules <= names  # for training and the build
    assert {name.rsplit("/", 1)[1] for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    assert sum(path.stat().st_size for path in [wheel]) < 20e6


def test_the_shipped_model_is_served_and_asked_in_an_empty_folder(whole, tmp_path):
    picture = tmp_path / "img.jpg"
    picture.write_bytes((ROOT / "examples" / "astronaut.png").read_bytes())
    ask = [str(whole / "bin" / "fer-client"), "predict", "img.jpg"]
    done = run(whole, tmp_path, "fer-serve", "--free-ports", "--", *ask)
    assert done.returncode == 0, done.stderr
    assert "happy" in done.stdout
    imported = run(whole, tmp_path, "python", "-c", "import fer_build; print(fer_build.__file__)")
    assert imported.stdout.startswith(str(whole))  # and not the checkout's


def test_a_load_test_runs_without_a_checkout(whole, server, tmp_path):
    words = ["--levels", "2", "--level-s", "3", "--settle-s", "1", "--out", "reports", "--url", server.http_url]
    done = run(whole, tmp_path, "fer-loadtest", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reports" / "report.html").is_file()


def test_the_base_installation_asks_over_http_with_numpy_alone(bare, server, tmp_path):
    picture = str(ROOT / "examples" / "astronaut.png")
    done = run(bare, tmp_path, "fer-client", "predict", picture, FER_URL=f"http://{server.http_url}")
    assert done.returncode == 0, done.stderr
    assert "happy" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["fer-client", "health", "--url", "grpc://127.0.0.1:1"],
            "gRPC needs tritonclient and grpcio: pip install 'fer-triton[grpc]'",
        ),
        (["fer-serve"], "is not installed: pip install 'fer-triton[serve]'"),
        (["fer-build", "assemble"], "is not installed: pip install 'fer-triton[build]'"),
        (["fer-loadtest"], "is not installed: pip install 'fer-triton[loadtest]'"),
        (["fer-web"], "is not installed: pip install 'fer-triton[web]'"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_remedy(bare, tmp_path, words, line):
    done = run(bare, tmp_path, *words)
    assert done.returncode in (1, 2)
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_asynchronous_client_names_its_extra(bare, tmp_path):
    done = run(bare, tmp_path, "python", "-c", "import fer_client; fer_client.AsyncFerClient()")
    assert "MissingExtraError: AsyncFerClient needs aiohttp for HTTP: pip install 'fer-triton[async]'" in done.stderr
