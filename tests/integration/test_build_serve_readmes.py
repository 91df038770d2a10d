"""The commands of build/README.md and serve/README.md, in their order, in a folder that has what they name.

Not run here: `make build`, which `.ci/run` runs; `make release`, which test_make_release.py runs; those of fer-train,
which need FER2013; `fer-build detector`, which test_detector.py runs; and the plan that is built on the GPU that serves
it.
"""

import io
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small_classifier import draw_crops, draw_sure_crops, write_crops, write_small_classifier

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = re.compile(r"make build|make release|fer-train |fer-build plan --repository |fer-build detector")
STARTS_ONLY = re.compile(r"fer-serve( --(?!free-ports)| *$)")
"""Until it says that it is ready: it would serve for ever."""


def commands_of(document: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    return re.findall(r"^\$ (.*)$", "".join(blocks), re.MULTILINE)


BUILD = [command for command in commands_of("build/README.md") if not ELSEWHERE.match(command)]
SERVE = commands_of("serve/README.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, astronaut, repository):
    folder = tmp_path_factory.mktemp("reader")
    (folder / "exported").mkdir()
    (folder / "faces").mkdir()
    classifier = write_small_classifier(folder / "exported" / "fer_classifier.onnx")
    write_crops(folder / "faces" / "calibration.npz", draw_crops(512))
    write_crops(folder / "faces" / "validation.npz", draw_sure_crops(classifier))
    with Image.open(io.BytesIO(astronaut)) as photo:
        photo.convert("RGB").save(folder / "photo.jpg")
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    words = shlex.split(command, comments=True)
    return subprocess.run(
        words, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=250, check=False
    )


def test_the_documents_show_every_subcommand():
    shown = {" ".join(command.split()[:2]) for command in BUILD + SERVE} | {"fer-build tables", "fer-build detector"}
    for words in ("calibrate", "quantize", "assemble", "plan", "verify", "tables", "detector"):
        assert f"fer-build {words}" in shown
    for words in ("fer-serve", "fer-serve probe", "fer-serve soak"):
        assert words in shown


def test_the_commands_of_the_build_work_in_their_order(folder):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: make .venv/.build")
    for command in BUILD:
        done = run(command, folder)
        assert done.returncode == 0, (command, done.stderr)
    assert (folder / "repository" / "manifest.json").is_file()
    assert (folder / "classifier.plan.json").is_file()


@pytest.mark.parametrize("command", [command for command in SERVE if STARTS_ONLY.match(command)])
def test_a_server_of_the_document_starts(command, folder, repository):
    if not (folder / "repository").exists():
        (folder / "repository").symlink_to(repository)
    command = re.sub(r" --http-port \d+|$", " --free-ports", command, count=1)
    words = [str(Path(sys.executable).parent / "fer-serve"), *shlex.split(command)[1:]]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert any("Press Ctrl-C" in line for line in process.stdout)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_running_server_is_probed(folder, server):
    (command,) = [command for command in SERVE if command.startswith("fer-serve probe")]
    done = run(command.replace("localhost:8000", server.http_url), folder)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(command.replace("localhost:8000", "127.0.0.1:1"), folder)
    assert done.returncode == 1
    assert done.stderr.startswith("fer-serve probe: http://127.0.0.1:1: it does not answer (")


def test_a_command_runs_while_the_server_does(folder):
    (command,) = [command for command in SERVE if " -- " in command]
    done = run(command, folder)
    assert done.returncode == 0, done.stderr
    assert "happy" in done.stdout


def test_a_soak_says_how_memory_grows(folder):
    (command,) = [command for command in SERVE if command.startswith("fer-serve soak")]
    done = run(f"{command} --requests 20 --warm-up 4 --limit 1e9", folder)  # 10,000 take minutes
    assert done.returncode == 0, done.stderr
    assert re.search(r"MB per 10,000 requests\n$", done.stdout)


def test_the_python_example_serves(capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "serve/README.md").read_text(), re.DOTALL | re.MULTILINE)
    exec(example, {})
    assert re.fullmatch(r"127.0.0.1:\d+ 127.0.0.1:\d+ http://127.0.0.1:\d+/metrics\n", capsys.readouterr().out)
