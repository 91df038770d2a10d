"""`fer-web` in front of the real Triton: the command, its README's examples, its own OpenAPI, a real browser."""

import base64
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from bad_files import BAD_FILES
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "web" / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def service(server):
    """The command in a process of its own, as a terminal would start it."""
    command = [sys.executable, "-m", "fer_web", "--port", "0"]
    environment = os.environ | {"FER_URL": f"http://{server.http_url}"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        line = process.stderr.readline()
        yield re.search(r"http://[\d.:]+", line)[0]
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        assert process.wait(20) == 0
    assert log.endswith("fer-web: stopped\n")
    assert "Traceback" not in log
    assert "photo.jpg" not in log


@pytest.fixture(scope="module")
def desk(astronaut, tmp_path_factory) -> Path:
    """A folder with the pictures that the examples name."""
    folder = tmp_path_factory.mktemp("desk")
    with Image.open(io.BytesIO(astronaut)) as photo:
        photo.convert("RGB").save(folder / "photo.jpg", quality=95)
        photo.convert("RGB").resize((300, 300)).save(folder / "other.jpg")
    return folder


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


def post(url, data, kind="image/png", query=""):
    return requests.post(f"{url}/v1/faces{query}", data, headers={"Content-Type": kind}, timeout=30)


def test_the_answer_is_what_the_client_gets(service, server, astronaut):
    from fer_client import FerClient

    with FerClient(server.http_url) as client:
        expected = client.predict(astronaut).to_dict()
    answer = post(service, astronaut).json()
    (image,) = answer["images"]
    assert answer["model_version"] == expected["model_version"]
    assert image["faces"] == [{**face} for face in expected["faces"]]
    assert image["faces"][0]["emotion"] == "happy"


def test_a_drawn_picture_has_the_box_of_the_face(service, astronaut):
    (image,) = post(service, astronaut, query="?annotate=true").json()["images"]
    drawn = Image.open(io.BytesIO(base64.b64decode(image["annotated"]["data"]))).convert("RGB")
    box = image["faces"][0]["box"]
    red, green, blue = drawn.getpixel((round(box["x_min"]) + 1, round((box["y_min"] + box["y_max"]) / 2)))
    assert min(red, green) > blue + 50


def test_the_model_is_described_and_ready(service):
    model = requests.get(f"{service}/v1/model", timeout=10).json()
    assert model["server"].startswith("triton")
    assert model["limits"]["max_image_pixels"] == 50_000_000
    assert requests.get(f"{service}/readyz", timeout=10).ok


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_that_are_no_pictures_are_refused_with_a_reason(service, astronaut, kind):
    answer = post(service, BAD_FILES[kind](astronaut))
    assert answer.status_code == {"empty": 400, "over the byte limit": 413}.get(kind, 422), answer.text
    assert len(answer.json()["detail"]) > 20
    assert not re.search(r"127\.0|fer_preprocess|\.py|/\w+/", answer.json()["detail"])


@pytest.mark.parametrize("command", "".join(blocks("sh")).splitlines())
def test_the_readme_s_curl_commands_work(service, desk, command):
    words = ["bash", "-c", command.replace("curl", "curl --silent --show-error --fail").replace(ADDRESS, service)]
    done = subprocess.run(words, cwd=desk, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert '"emotion":"happy"' in done.stdout


def test_the_readme_s_python_works(service, desk):
    (code,) = blocks("python")
    command = [sys.executable, "-c", code.replace(ADDRESS, service)]
    done = subprocess.run(command, cwd=desk, capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("happy 0.9"), done.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_the_page_and_the_readme_s_javascript_work_in_a_browser(service, desk):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    (code,) = blocks("js")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        printed = []
        page.on("console", lambda message: printed.append(message.text))
        page.goto(service)
        page.set_input_files("#files", [desk / "photo.jpg", desk / "other.jpg"])
        page.get_by_text("2 of 2 pictures answered").wait_for()
        assert page.locator(".face h4").all_inner_texts()[0].startswith("Face 1\nhappy")
        page.route("**/photo.jpg", lambda route: route.fulfill(body=(desk / "photo.jpg").read_bytes()))
        page.evaluate(f"(async () => {{ {code.replace(ADDRESS, service)} }})()")
        assert printed[-1].startswith("happy 0.9")
        browser.close()


def test_many_clients_at_once_are_all_answered(service, astronaut):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(service, astronaut), range(48)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["images"][0]["faces"][0]["emotion"] for answer in answers} == {"happy"}


def test_schemathesis_finds_nothing_against_the_service_s_own_openapi(service, tmp_path):
    """Requests made of the document, good ones and bad ones; answers have to be as it says."""
    pytest.importorskip("schemathesis", reason="needs schemathesis")
    # Bytes that are made up are no picture, so that 422 is right where all else is; and 413 is a refusal too.
    (tmp_path / "schemathesis.toml").write_text(
        "checks.positive_data_acceptance.expected-statuses = [200, 422]\n"
        "checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 413, 415, 422]\n"
    )
    run = [str(Path(sys.executable).with_name("st")), "run", f"{service}/openapi.json", "--seed", "1", "--no-color"]
    limits = ["--max-examples", "8", "--request-timeout", "20"]
    done = subprocess.run([*run, *limits], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "Tested: 5" in done.stdout


def test_a_model_server_that_is_not_there_is_said_to_be_so():
    command = [sys.executable, "-m", "fer_web", "--port", "0", "--url", "http://127.0.0.1:9"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        url = re.search(r"http://[\d.:]+", process.stderr.readline())[0]
        assert requests.get(f"{url}/healthz", timeout=10).ok
        for answer in (requests.get(f"{url}/readyz", timeout=10), post(url, b"x")):
            assert answer.status_code == 503
            assert answer.json()["type"] == "/docs#model-unreachable"
            assert "Retry-After" in answer.headers
        process.send_signal(signal.SIGINT)
        process.wait(20)
