"""The READMEs' `fer-client` commands and Python, run as they stand there, against the real Triton."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from PIL import Image

ROOT = Path(__file__).parents[2]
DOCUMENTS = "\n".join((ROOT / name).read_text() for name in ("README.md", "client/README.md"))

NEEDS_MORE = re.compile(r"\bURL\b|--url|video [0-9]")
"""What cannot be run here: a server or a camera of the reader's own."""


def commands_in(document):
    """Lines of console blocks that start with `$ fer-client`, continued ones joined, without the path to the script."""
    blocks = re.findall(r"^```console\n(.*?)^```", document, re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^\$ ((?:.*\\\n)*.*)$", "".join(blocks), re.MULTILINE)
    commands = [re.sub(r"^\.venv/bin/", "", re.sub(r"\\\n\s*", "", line)) for line in lines]
    return [command for command in commands if command.startswith("fer-client ")]


COMMANDS = sorted(set(commands_in(DOCUMENTS)))
PYTHON = re.findall(
    r"^```python\n(.*?fer_client.*?)^```", (ROOT / "client" / "README.md").read_text(), re.DOTALL | re.MULTILINE
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, astronaut):
    """What the reader has: a photo, folders of photos and crops, a clip."""
    folder = tmp_path_factory.mktemp("reader")
    with Image.open(io.BytesIO(astronaut)) as photo:
        rgb = photo.convert("RGB")
    for name in ("photo.jpg", "photos/a.jpg", "photos/sub/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rgb.save(folder / name)
    (folder / "crops").mkdir()
    rgb.crop((160, 30, 290, 180)).convert("L").resize((48, 48)).save(folder / "crops" / "a.png")
    frame = np.asarray(rgb)[:, :, ::-1]
    for name in {name for command in COMMANDS for name in re.findall(r"video (\w+\.mp4)", command)}:
        write_clip(folder / name, [np.ascontiguousarray(np.roll(frame, 2 * shift, axis=1)) for shift in range(20)])
    return folder


def test_the_documents_show_commands():
    assert any(command.startswith("fer-client predict ") for command in COMMANDS)


@pytest.mark.parametrize("command", [command for command in COMMANDS if not NEEDS_MORE.search(command)])
def test_a_documented_command_works(command, folder, server, tmp_path):
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "FER_URL": f"http://{server.http_url}",
        "FER_GRPC_URL": f"grpc://{server.grpc_url}",
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or re.search(r"--output|--resume", command)


@pytest.mark.parametrize("block", PYTHON)
def test_documented_python_works(block, folder, server):
    """As it stands there, but for the server's ports."""
    block = block.replace('"localhost"', f'"{server.http_url}"').replace(
        "grpc://localhost", f"grpc://{server.grpc_url}"
    )
    done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "happy" in done.stdout


def test_commands_are_found_in_console_blocks_alone():
    document = (
        "$ fer-client predict no\n```console\n$ .venv/bin/fer-client predict a \\\n    --json\nfer-client: output\n"
        "$ make demo\n$ fer-client info   # why\n```\n```python\n$ fer-client predict no\n```\n"
    )
    assert commands_in(document) == ["fer-client predict a --json", "fer-client info   # why"]
