"""`fer-client` as users run it, against the real Triton: a picture, and what can be wrong with it or the server."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from bad_files import BAD_FILES
from pictures import contact_sheet
from PIL import Image

import fer_contract
from fer_client.cli import main

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.png"


def run_command(*arguments):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "fer_client", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(params=["http", "grpc"])
def url(request, server):
    """The server's URL, over each protocol in turn."""
    return {"http": f"http://{server.http_url}", "grpc": f"grpc://{server.grpc_url}"}[request.param]


@pytest.fixture
def fer_client(url):
    """Run the command in a process of its own, over each protocol in turn."""
    return lambda *arguments: run_command(*arguments, "--url", url)


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
    [image] = json.loads(done.stdout)["images"]
    assert image["image_size"] == {"width": 512, "height": 512}
    [face] = image["faces"]
    assert list(face["probabilities"]) == list(fer_contract.LABELS)
    assert face["confidence"] == max(face["probabilities"].values())
    assert face["uncertain"] is False


def test_predict_says_when_there_is_no_face(fer_client, tmp_path):
    photo = tmp_path / "gray.png"
    Image.new("L", (200, 100), 128).save(photo)
    done = fer_client("predict", photo)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n\nno face found\n")


def test_predict_says_when_there_are_more_faces_than_are_answered(fer_client, tmp_path):
    photo = tmp_path / "crowd.png"
    with Image.open(PHOTO) as portrait:
        contact_sheet(portrait.convert("RGB").crop((150, 20, 300, 220)), 8, 5).save(photo)
    table, document = fer_client("predict", photo), fer_client("predict", photo, "--json")
    assert table.stdout.endswith("\n\nthe 32 largest of 40 faces; the others are not classified\n")
    [image] = json.loads(document.stdout)["images"]
    assert (len(image["faces"]), image["faces_found"]) == (32, 40)


def test_predict_draws_the_face_on_its_picture(fer_client, tmp_path):
    output = tmp_path / "faces.png"
    done = fer_client("predict", PHOTO, "--annotate", output)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(output) as drawn, Image.open(PHOTO) as photo:
        assert drawn.size > photo.size
        assert drawn.crop((0, 300, 512, 512)).tobytes() == photo.convert("RGB").crop((0, 300, 512, 512)).tobytes()
        assert drawn.crop((150, 40, 300, 200)).tobytes() != photo.convert("RGB").crop((150, 40, 300, 200)).tobytes()
    assert done.stdout.endswith(f"\nannotated picture: {output}\n")


def test_a_refused_image_is_4_and_one_line(fer_client, tmp_path):
    page = tmp_path / "page.jpg"
    page.write_text("<html>not found</html>")
    done = fer_client("predict", page)
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(rf"fer-client: {page}: \S+ refused the image: .*IMAGE.*\n", done.stderr)


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_4_and_one_line_that_names_it_and_the_input(url, astronaut, tmp_path, capsys, kind):
    image = tmp_path / "photo.jpg"
    image.write_bytes(BAD_FILES[kind](astronaut))
    code = main(["predict", str(image), "--url", url])
    out, err = capsys.readouterr()
    assert (code, out) == (4, "")
    assert re.fullmatch(rf"fer-client: {image}: {url} refused the image: .*IMAGE: [^\n]+\n", err)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("command", [["predict", PHOTO], ["health"], ["info"], ["bench"]])
def test_an_unreachable_server_is_3_and_one_line_with_its_url(protocol, command):
    with socket.socket() as holder:  # Bound and not listening: nothing else can answer there meanwhile.
        holder.bind(("127.0.0.1", 0))
        url = f"{protocol}://127.0.0.1:{holder.getsockname()[1]}"
        done = run_command(*command, "--url", url, "--retries", "0")
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(rf"fer-client: no server answers at {url}: start one with `fer-serve`[^\n]*\n", done.stderr)


def test_a_missing_file_is_2_and_named(tmp_path):
    done = run_command("predict", tmp_path / "missing.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"fer-client: cannot read {tmp_path / 'missing.jpg'}: No such file or directory\n"


def test_a_protocol_that_the_port_does_not_speak_is_one_line(server):
    for url in (f"grpc://{server.http_url}", f"http://{server.grpc_url}"):
        done = run_command("health", "--url", url, "--retries", "0", "--timeout", "5")
        assert (done.returncode, done.stdout) in ((1, ""), (3, ""))
        assert done.stderr.count("\n") == 1
        assert url in done.stderr


def test_tls_where_the_server_has_none_is_3_and_one_line(server):
    for url in (f"https://{server.http_url}", f"grpcs://{server.grpc_url}"):
        done = run_command("health", "--url", url, "--retries", "0", "--timeout", "5")
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.count("\n") == 1


def test_health_is_good(fer_client):
    done = fer_client("health")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("healthy: ")
