"""`fer-client` as users run it, against the real Triton."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import fer_contract

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.png"


@pytest.fixture(params=["http", "grpc"])
def fer_client(request, server):
    """Run the command in a process of its own, over each protocol in turn."""
    address = {"http": server.http_url, "grpc": server.grpc_url}[request.param]

    def run(*arguments):
        command = [sys.executable, "-m", "fer_client", *map(str, arguments), "--url", f"{request.param}://{address}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def test_predict_prints_the_face(fer_client):
    done = fer_client("predict", PHOTO)
    assert (done.returncode, done.stderr) == (0, "")
    request, _, header, row = done.stdout.splitlines()
    assert re.search(r"astronaut\.png: 512 x 512 px, model \S+, \d+ ms at \w+://127\.0\.0\.1:\d+$", request)
    assert re.split(r" {2,}", header)[3:] == ["apparent expression", *fer_contract.LABELS]
    assert re.match(r"1  \d+, \d+, \d+ x \d+ +[01]\.\d\d  \w+ \d+\.\d%", row)


def test_predict_prints_json(fer_client):
    done = fer_client("predict", PHOTO, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["image_size"] == {"width": 512, "height": 512}
    [face] = document["faces"]
    assert list(face["probabilities"]) == list(fer_contract.LABELS)
    assert face["confidence"] == max(face["probabilities"].values())


def test_predict_says_when_there_is_no_face(fer_client, tmp_path):
    photo = tmp_path / "gray.png"
    Image.new("L", (200, 100), 128).save(photo)
    done = fer_client("predict", photo)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n\nno face found\n")


def test_predict_draws_the_face_on_its_picture(fer_client, tmp_path):
    output = tmp_path / "faces.png"
    done = fer_client("predict", PHOTO, "--annotate", output)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(output) as drawn, Image.open(PHOTO) as photo:
        assert drawn.size > photo.size
        assert drawn.crop((0, 300, 512, 512)).tobytes() == photo.convert("RGB").crop((0, 300, 512, 512)).tobytes()
        assert drawn.crop((150, 40, 300, 200)).tobytes() != photo.convert("RGB").crop((150, 40, 300, 200)).tobytes()


def test_a_refused_image_is_4_and_one_line(fer_client, tmp_path):
    page = tmp_path / "page.jpg"
    page.write_text("<html>not found</html>")
    done = fer_client("predict", page)
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(rf"fer-client: {page}: \S+ refused the image: .*IMAGE.*\n", done.stderr)


def test_health_is_good(fer_client):
    done = fer_client("health")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("healthy: ")
