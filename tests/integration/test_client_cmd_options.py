"""Every option of `fer-client` but those of `video`, against the real Triton."""

import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fer_client import Prediction
from fer_client.cli import build_parser, main

ROOT = Path(__file__).parents[2]
LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut):
    """A folder with two photos of a face, one of none, a broken one and a text; and a folder of face crops."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "photos" / "sub").mkdir(parents=True)
    (folder / "photos" / "a.png").write_bytes(astronaut)
    (folder / "photos" / "notes.txt").write_text("no picture")
    with Image.open(io.BytesIO(astronaut)) as photo:
        rgb = photo.convert("RGB")
    rgb.crop((100, 0, 356, 256)).save(folder / "photos" / "sub" / "b.jpg")
    Image.new("RGB", (320, 200), "teal").save(folder / "photos" / "none.webp")
    (folder / "photos" / "page.jpg").write_text("<html>not found</html>")
    (folder / "crops").mkdir()
    for number, size in enumerate((48, 96)):
        rgb.crop((160, 30, 290, 180)).convert("L").resize((size, size)).save(folder / "crops" / f"{number}.png")
    return folder


@pytest.fixture(params=["http", "grpc"])
def url(request, server):
    """The server's URL, over each protocol in turn."""
    return {"http": f"http://{server.http_url}", "grpc": f"grpc://{server.grpc_url}"}[request.param]


@pytest.fixture
def fer_client(url, photos, monkeypatch, capsys, tmp_path):
    """Run the command in this process, with FER_URL set: exit code, output, lines on stderr."""
    monkeypatch.chdir(photos)
    monkeypatch.setenv("FER_URL", url)
    monkeypatch.delenv("FER_GRPC_URL", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def run(*arguments):
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


def test_a_folder_as_a_table_for_people(fer_client):
    code, out, err = fer_client("predict", "photos")
    assert code == 5
    first_words = [line.split()[0] for line in out.splitlines()]
    assert first_words == ["image", "photos/a.png", "photos/none.webp", "photos/sub/b.jpg"]
    assert re.fullmatch(r"fer-client: photos/page\.jpg: \S+ refused the image: IMAGE: .*", err[0])
    assert err[1].startswith("fer-client: 4 images, 2 faces, 1 without a face, 1 refused; ")
    assert len(err) == 2


def test_json(fer_client):
    code, out, _ = fer_client("predict", "photos", "--json")
    document = json.loads(out)
    assert code == 5
    assert [len(image.get("faces", [])) for image in document["images"]] == [1, 0, 0, 1]
    assert document["images"][2]["error"]["kind"] == "refused"
    assert document["summary"]["answered"] == 3
    prediction = Prediction.from_dict(document["images"][0])
    assert prediction.faces[0].emotion == "happy"


def test_json_lines_and_csv_say_the_same(fer_client):
    _, lines, _ = fer_client("predict", "photos", "--jsonl")
    _, table, _ = fer_client("predict", "photos", "--csv")
    documents = [json.loads(line) for line in lines.splitlines()]
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["image"] for row in rows] == [document["image"] for document in documents]
    face = documents[0]["faces"][0]
    assert [float(rows[0][label]) for label in LABELS] == list(face["probabilities"].values())
    assert float(rows[0]["x_min"]) == face["box"]["x_min"]


@pytest.mark.parametrize("concurrency", ["1", "3", "16"])
def test_concurrency_changes_neither_results_nor_order(fer_client, concurrency):
    one = fer_client("predict", "photos", "--jsonl", "--concurrency", "1")
    other = fer_client("predict", "photos", "--jsonl", "--concurrency", concurrency)
    assert one[1] == other[1]


def test_a_quoted_pattern(fer_client):
    code, out, _ = fer_client("predict", "photos/**/*.jpg", "photos/*.png", "--csv", "--quiet")
    assert code == 5
    assert [row["image"] for row in csv.DictReader(io.StringIO(out))] == [
        "photos/page.jpg",
        "photos/sub/b.jpg",
        "photos/a.png",
    ]


def test_output_goes_to_a_file(fer_client, tmp_path):
    code, out, err = fer_client("predict", "photos/a.png", "--json", "--output", tmp_path / "faces.json")
    assert (code, out, err) == (0, "", [])
    assert len(json.loads((tmp_path / "faces.json").read_text())["images"]) == 1


def test_standard_input_and_pipes(url, photos):
    command = f"cat photos/a.png | {sys.executable} -m fer_client predict - <(cat photos/sub/b.jpg) --csv --url {url}"
    done = subprocess.run(["bash", "-c", command], cwd=photos, capture_output=True, text=True, timeout=60)
    first, second = csv.DictReader(io.StringIO(done.stdout))
    assert (done.returncode, first["image"], first["emotion"], second["emotion"]) == (0, "-", "happy", "happy")


def test_annotated_pictures_are_laid_out_as_the_pictures_are(fer_client, photos, tmp_path):
    code, _, err = fer_client("predict", "photos", "--annotate", tmp_path / "drawn")
    assert code == 5
    assert err[-1] == f"fer-client: annotated pictures: {tmp_path / 'drawn'}"
    drawn = sorted(path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*"))
    assert drawn == ["a.png", "none.webp", "sub/b.jpg"]
    for name in drawn:
        with Image.open(tmp_path / "drawn" / name) as image, Image.open(photos / "photos" / name) as photo:
            assert image.width > photo.width
            assert image.format == photo.format


def test_annotated_pictures_without_the_panel_are_as_wide_as_the_pictures(fer_client, photos, tmp_path):
    assert fer_client("predict", "photos/a.png", "--annotate", tmp_path / "a.png", "--no-panel")[0] == 0
    with Image.open(tmp_path / "a.png") as image, Image.open(photos / "photos" / "a.png") as photo:
        assert image.size == photo.size
        assert image.tobytes() != photo.convert("RGB").tobytes()


def test_crops(fer_client, tmp_path):
    code, out, _ = fer_client("predict", "crops", "--cropped", "--jsonl", "--annotate", tmp_path)
    documents = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [document["emotion"] for document in documents] == ["happy", "happy"]
    assert [document["image_size"]["width"] for document in documents] == [48, 96]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["0.png", "1.png"]


def test_resume_goes_on(fer_client, photos, tmp_path):
    results = tmp_path / "results.jsonl"
    assert fer_client("predict", "photos/a.png", "--resume", results)[0] == 0
    with results.open("a") as file:
        file.write('{"image": "photos/su')  # A torn line.
    code, out, err = fer_client("predict", "photos", "--resume", results)
    assert (code, out) == (5, "")
    assert "3 images, 1 face, 1 without a face, 1 refused" in err[-1]
    names = [json.loads(line)["image"] for line in results.read_text().splitlines()]
    assert sorted(names) == ["photos/a.png", "photos/none.webp", "photos/page.jpg", "photos/sub/b.jpg"]


def test_the_connection_s_options(fer_client, server, tmp_path):
    (tmp_path / "token").write_text("ignored-by-triton-itself")
    options = ["--timeout", "20", "--deadline", "40", "--retries", "1", "--compression", "gzip"]
    options += ["--header", "X-Tenant: blue", "--token-file", tmp_path / "token"]
    assert fer_client("predict", "photos/a.png", *options, "--compression", "deflate")[0] == 0
    for protocol, address in (("http", server.http_url), ("grpc", server.grpc_url)):
        code, out, _ = fer_client("health", "--url", address, "--protocol", protocol, *options)
        assert code == 0
        assert out.startswith(f"healthy: {protocol}://{address} answered in ")


def test_debug_shows_a_traceback_and_the_same_line(fer_client):
    code, out, err = fer_client("predict", "photos/a.png", "--url", "http://127.0.0.1:9", "--retries", "0", "--debug")
    assert (code, out, err[0]) == (3, "", "Traceback (most recent call last):")
    assert err[-1].startswith("fer-client: no server answers at http://127.0.0.1:9: ")


def test_a_timeout_that_is_too_short_is_1_and_one_line(fer_client):
    code, out, err = fer_client("predict", "photos/a.png", "--timeout", "0.0005", "--retries", "0")
    assert (out, len(err)) == ("", 1)
    assert code in (1, 3)  # 3 where not even the connection came about in time.


def test_the_configuration_file(fer_client, url, tmp_path, monkeypatch):
    (tmp_path / "settings.toml").write_text(f'url = "{url}"\n')
    monkeypatch.setenv("FER_URL", "")
    code, out, _ = fer_client("info", "--config", tmp_path / "settings.toml")
    assert code == 0
    assert f"{url} (from {tmp_path / 'settings.toml'}: url)" in out


def test_info_for_people_and_programs(fer_client, url):
    code, text, err = fer_client("info")
    assert (code, err) == (0, [])
    assert f"{url} (from $FER_URL)" in text
    for words in ("triton 2.", "angry, disgust, fear", "20 MiB, 50 megapixels", "below a probability of 0."):
        assert words in text
    assert len(re.findall(r"fer\w* +ready +version 1", text)) == 5
    document = json.loads(fer_client("info", "--json")[1])
    assert document["labels"] == LABELS
    assert document["max_image_bytes"] == 20 * 2**20
    assert document["model_version"] in text


def test_health_for_programs(fer_client, url):
    code, out, _ = fer_client("health", "--json", "--wait", "5")
    document = json.loads(out)
    assert code == 0
    assert (document["healthy"], document["url"], document["labels"]) == (True, url, LABELS)


def test_bench_measures_both_protocols(fer_client, server, monkeypatch):
    monkeypatch.setenv("FER_URL", f"http://{server.http_url}")
    monkeypatch.setenv("FER_GRPC_URL", f"grpc://{server.grpc_url}")
    code, out, err = fer_client("bench", "photos/a.png", "--seconds", "0.7", "--concurrency", "1,2")
    assert (code, err) == (0, [])
    heading, _, _, *rows = out.splitlines()
    assert re.search(r"a\.png: \d+ kB, 512 x 512 px, 1 face; model \S+; 0\.7 s each", heading)
    assert [row.split()[:2] for row in rows] == [["http", "1"], ["http", "2"], ["grpc", "1"], ["grpc", "2"]]
    assert all(float(row.split()[2]) > 0 for row in rows)


def test_bench_for_programs_measures_what_it_says(fer_client, url):
    code, out, err = fer_client("bench", "--json", "--seconds", "1", "--concurrency", "2")
    document = json.loads(out)
    [measured] = document["measured"]
    latency = measured["latency_ms"]
    assert code == 0
    assert (document["image_size"], document["faces"]) == ({"width": 640, "height": 480}, 0)
    assert measured["answered"] / measured["seconds"] == pytest.approx(measured["requests_per_s"], rel=0.01)
    assert 0 < latency["p50"] <= latency["max"] <= 1000 * measured["seconds"]
    if url.startswith("http"):
        assert err == ["fer-client: only http was measured: set FER_URL and FER_GRPC_URL to measure both protocols"]


def test_pictures_are_found_and_answered_under_every_name(fer_client, astronaut, tmp_path):
    folder = tmp_path / "names"
    folder.mkdir()
    with Image.open(io.BytesIO(astronaut)) as photo:
        rgb = photo.convert("RGB")
    rgb.save(folder / "a.mpo", format="MPO", append_images=[rgb], save_all=True)
    rgb.save(folder / "b.apng", format="PNG", append_images=[rgb], save_all=True)
    for name in ("c.pjpeg", "d.jpg:large", "e.jpg?v=2", "f.JPE", "without", "g.heic"):
        rgb.save(folder / name, format="JPEG")
    (folder / "notes.txt").write_text("no picture")
    code, out, err = fer_client("predict", folder, "--json")
    document = json.loads(out)
    assert (code, [len(image["faces"]) for image in document["images"]]) == (0, [1] * 6)
    assert document["summary"]["left_out"] == {"": 1, ".heic": 1}
    assert err[-1].endswith("; 2 files left out: 1 without an ending, 1 .heic; --all tries them")
    code, out, err = fer_client("predict", folder, "--all", "--json")
    document = json.loads(out)
    assert (code, document["summary"]["answered"], document["summary"]["refused"]) == (5, 8, 1)
    assert document["images"][-2]["image"].endswith("notes.txt")
    assert "left out" not in err[-1]


def test_a_name_that_the_terminal_cannot_show_loses_nothing(url, photos, tmp_path):
    shutil.copy(photos / "photos" / "a.png", tmp_path / "B\xfccher.png")
    command = [sys.executable, "-m", "fer_client", "predict", "B\xfccher.png", "--url", url]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(rb"B\xfccher.png: 512 x 512 px")
    assert b"happy" in done.stdout


def test_bench_of_a_file_that_is_missing_is_2(fer_client):
    assert fer_client("bench", "missing.jpg") == (
        2,
        "",
        ["fer-client: cannot read missing.jpg: No such file or directory"],
    )


def test_the_script_that_pip_installs_is_there(url, photos):
    script = shutil.which("fer-client", path=str(Path(sys.executable).parent))
    assert script
    done = subprocess.run([script, "health", "--url", url], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_option_is_used_in_a_test_against_the_real_server():
    """An option that is new and not tried here fails this test. `video` has tests of its own."""
    sources = "\n".join(path.read_text() for path in (ROOT / "tests" / "integration").glob("test_client_c*.py"))
    [subparsers] = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    untried = {
        name
        for command, parser in subparsers.choices.items()
        if command != "video"
        for action in parser._actions
        for name in action.option_strings[:1]
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
        if f'"{name}"' not in sources
    }
    assert not untried
