"""The page in a real browser, with a model server that is made up."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from running_web import LABELS, FakeClient, running_web, wait_until

from fer_client import ImageRefusedError
from fer_web.settings import Settings, Tokens

pytest.importorskip("playwright", reason="needs Playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
STATIC = Path(__file__).parents[3] / "web" / "fer_web" / "static"
TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.new("RGB", (200, 100), "navy").save(path)
    return path


@pytest.fixture(scope="module")
def bad(photo) -> Path:
    (photo.parent / "notes.txt").write_bytes(b"refused")
    return photo.parent / "notes.txt"


@pytest.fixture(scope="module")
def web():
    refused = ImageRefusedError("http://model", "IMAGE: the bytes are not an image")
    with running_web(client=FakeClient(errors={b"refused": refused}), max_image_bytes=5000) as running:
        running.client.largest = 5000
        yield running


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """`visit(url, **context)` opens a page, which must ask no other host and do nothing against its policy."""
    contexts, wrong = [], []

    def open_page(url, **options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, "locale": "en-US", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if "Security" in message.text else None)
        page.on(
            "request", lambda asked: None if asked.url.startswith((url, "blob:", "data:")) else wrong.append(asked.url)
        )
        page.goto(url)
        page.get_by_text("up to").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def give(page, *paths):
    page.set_input_files("#files", paths)


def texts(page, selector):
    return [" ".join(text.split()) for text in page.locator(selector).all_inner_texts()]


def test_a_picture_is_shown_with_boxes_bars_and_reasons(web, visit, photo):
    page = visit(web.url)
    give(page, photo)
    page.locator(".face").nth(2).wait_for()
    assert texts(page, ".face h4") == ["Face 1 happy 90.0 %", "Face 2 happy 70.0 %", "Face 3 happy 40.0 %"]
    assert texts(page, ".why") == ["Uncertain: too small, low confidence"]
    assert texts(page, ".face:first-child .bars li") == ["angry 5.0 %", "happy 90.0 %", "neutral 5.0 %"]
    assert "3 of 5 faces shown · 200 \u00d7 100 px" in texts(page, ".state")[0]
    assert texts(page, "#progress") == ["1 of 1 pictures answered"]
    # The boxes lie where the faces are, in whatever size the photo is shown.
    photo_at, box_at = page.locator(".photo img").bounding_box(), page.locator(".box-under").first.bounding_box()
    scale = photo_at["width"] / 200
    assert box_at["x"] - photo_at["x"] == pytest.approx(100 * scale, abs=6)
    assert box_at["width"] == pytest.approx(80 * scale, abs=12)
    track, fill = (page.locator(f".face:first-child .best .{name}").bounding_box() for name in ("track", "fill"))
    assert fill["width"] / track["width"] == pytest.approx(0.9, abs=0.02)


def test_the_table_holds_everything_and_opens_by_keyboard(web, visit, photo):
    page = visit(web.url)
    give(page, photo)
    summary = page.locator(".picture > details summary")
    summary.focus()
    page.keyboard.press("Enter")
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("tbody tr").all()]
    assert rows[0] == ["1", "happy", "90.0 %", "no", "100, 5, 80, 80", "0.90", "5.0 %", "90.0 %", "5.0 %", "26.7"]
    assert rows[2][3] == "yes: too small, low confidence"
    assert len(rows) == 3


def test_pictures_are_chosen_asked_about_and_removed_by_keyboard_alone(web, visit, photo):
    page = visit(web.url)
    page.on("filechooser", lambda chooser: chooser.set_files(photo))
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "files":
            break
    page.keyboard.press("Enter")
    page.locator(".face").first.wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.action") == "remove":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")
    assert outline == "solid"
    assert page.locator(".picture").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"  # Focus is not lost with what was removed.


def test_many_pictures_are_answered_and_one_that_fails_says_why(web, visit, photo, bad):
    page = visit(web.url)
    give(page, *[photo] * 5, bad)
    page.get_by_text("5 of 6 pictures answered, 1 failed").wait_for()
    failed = page.locator(".picture", has_text="notes.txt")
    assert "The picture is not accepted" in failed.inner_text()
    assert "IMAGE: the bytes are not an image" in failed.inner_text()
    assert web.client.most <= 3
    page.locator("#clear").click()
    assert page.locator("#results").is_hidden()


def test_a_file_that_is_too_large_is_not_sent(web, visit, photo):
    large = photo.parent / "large.png"
    large.write_bytes(b"x" * 1001)  # The model server takes 1,000.
    page = visit(web.url)
    asked = len(web.client.asked)
    give(page, large)
    page.get_by_text("The file is too large").wait_for()
    assert len(web.client.asked) == asked


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(web, visit, photo, how):
    page = visit(web.url)
    page.evaluate(
        """([bytes, how]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }));
            const event = how === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        [list(photo.read_bytes()), how],
    )
    page.locator(".face").first.wait_for()
    assert texts(page, ".picture h3") == ["given.png"]


def test_a_photo_is_taken_by_the_device_s_own_camera(web, visit):
    page = visit(web.url)
    camera = page.locator("#camera")
    assert (camera.get_attribute("capture"), camera.get_attribute("accept")) == ("environment", "image/*")


def test_options_leave_faces_out_at_once(web, visit, photo):
    page = visit(web.url)
    give(page, photo)
    page.locator(".face").nth(2).wait_for()
    asked = len(web.client.asked)
    page.locator(".options summary").click()
    page.fill("#min-confidence", "50")
    assert page.locator(".face").count() == page.locator(".photo g").count() == 2
    page.fill("#min-face", "60")
    assert page.locator(".face").count() == 1
    page.fill("#min-confidence", "95")
    page.get_by_text("All faces are left out").wait_for()
    assert len(web.client.asked) == asked
    page.fill("#min-confidence", "0")
    page.check("#cropped")
    page.locator(".photo g").wait_for(state="detached")
    page.locator(".face").wait_for()


def test_a_busy_service_is_asked_again_and_one_that_is_gone_says_so(web, visit, photo):
    page = visit(web.url)
    problem = {"type": "/docs#overloaded", "title": "The service is busy", "status": 503, "detail": "Later."}
    answers = [{"status": 503, "headers": {"Retry-After": "1"}, "body": json.dumps(problem)}]
    page.route("**/v1/faces*", lambda route: route.fulfill(**answers.pop()) if answers else route.continue_())
    give(page, photo)
    page.get_by_text("trying again").wait_for()
    page.locator(".face").first.wait_for()
    page.unroute("**/v1/faces*")
    page.route("**/v1/faces*", lambda route: route.abort())
    give(page, photo)
    page.get_by_text("The service cannot be reached").wait_for()
    page.unroute("**/v1/faces*")
    page.get_by_role("button", name="photo.png: Try again").click()
    page.get_by_text("2 of 2 pictures answered").wait_for()


def test_a_picture_that_is_removed_is_not_waited_for(web, visit, photo):
    slow = photo.parent / "slow.png"
    slow.write_bytes(b"slow9")
    cancelled = web.client.cancelled
    page = visit(web.url)
    give(page, slow)
    wait_until(lambda: web.client.now == 1)
    page.get_by_role("button", name="slow.png: Remove").click()
    wait_until(lambda: web.client.cancelled == cancelled + 1)


def test_a_token_is_asked_for_where_one_is_needed(browser, photo):
    with running_web(Settings("http://model", tokens=Tokens([TOKEN])), FakeClient()) as web:
        page = browser.new_page()
        page.goto(web.url)
        page.locator("#token-form").wait_for()
        give(page, photo)
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.locator(".face").first.wait_for()
        assert page.locator("#token-form").is_hidden()
        assert page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])") == '[{},{},""]'
        page.close()


def test_answers_are_taken_home(web, visit, photo, bad):
    page = visit(web.url)
    trick = photo.parent / "=1+1,.png"
    shutil.copy(photo, trick)
    give(page, photo, bad, trick)
    page.get_by_text("2 of 3 pictures answered, 1 failed").wait_for()

    def download(click):
        with page.expect_download() as waiting:
            click()
        return Path(waiting.value.path()).read_bytes(), waiting.value.suggested_filename

    content, name = download(page.locator("#json").click)
    document = json.loads(content)
    assert name == "faces.json"
    assert "ot what a person feels" in document["notice"]
    assert [len(image.get("faces", [])) for image in document["images"]] == [3, 0, 3]
    assert document["images"][1]["error"]["status"] == 422
    content, _ = download(page.locator("#csv").click)
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert [row["file"] for row in rows] == ["photo.png"] * 3 + ["notes.txt"] + ["'=1+1,.png"] * 3  # No formula.
    assert float(rows[0]["p_happy"]) == 0.9
    assert (rows[2]["reasons"], rows[3]["error"]) == ("too small; low confidence", "IMAGE: the bytes are not an image")
    content, name = download(page.get_by_role("button", name="photo.png: Annotated PNG").click)
    drawn = Image.open(io.BytesIO(content)).convert("RGB")
    assert (name, drawn.format or "PNG", drawn.width) == ("photo_annotated.png", "PNG", 200)
    assert drawn.height > 100  # What the answer means stands below.
    red, green, blue = drawn.getpixel((180, 40))
    assert min(red, green) > 150 > blue
    assert drawn.getpixel((50, 95)) == (0, 0, 128)


def test_the_page_speaks_chinese(web, visit, photo):
    page = visit(web.url)
    give(page, photo)
    page.locator(".face").first.wait_for()
    page.select_option("#language", "zh")
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    assert texts(page, ".face:first-child h4") == ["人脸 1 高兴 90.0 %"]
    assert texts(page, ".why") == ["不确定\uff1a太小、置信度低"]
    for text in texts(page, "main [data-t]"):
        assert not text or re.search("[\u4e00-\u9fff]", text)
    page.reload()
    assert "禁止的用途" in page.locator(".meaning").inner_text()  # The choice is kept.


def test_every_word_is_there_in_both_languages():
    source = (STATIC / "words.js").read_text()
    english, chinese = (
        re.search(rf"const {name} = {{(.*?)^}};", source, re.S | re.M)[1] for name in ("ENGLISH", "CHINESE")
    )
    keys = re.findall(r"^  (\w+): ", english, re.M)
    assert len(keys) > 50
    assert set(keys) <= set(re.findall(r'^  "?([^":\s]+)"?: ', chinese, re.M))
    used = set(re.findall(r'data-t(?:-label)?="(\w+)"', (STATIC / "index.html").read_text()))
    for script in STATIC.glob("*.js"):
        used |= set(re.findall(r'words\("(\w+)"', script.read_text()))
    assert used <= set(keys)


@pytest.mark.parametrize("size", [{"width": 1200, "height": 800}, {"width": 360, "height": 740}])
def test_what_the_answer_means_is_in_view_and_nothing_is_wider_than_the_screen(web, visit, photo, size):
    page = visit(web.url, viewport=size)
    for heading in ("What the answer means", "Prohibited"):
        at = page.get_by_role("heading", name=heading).bounding_box()
        assert at["y"] + at["height"] < size["height"]
    give(page, photo)
    page.locator(".face").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_against_wcag_aa(web, visit, photo, bad, scheme):
    """Names, roles, contrast and the like, as axe-core measures them. It is put into the page, against its policy."""
    from axe_playwright_python.sync_playwright import Axe

    page = visit(web.url, color_scheme=scheme, bypass_csp=True)
    give(page, photo, bad)
    page.get_by_text("1 of 2 pictures answered, 1 failed").wait_for()
    for summary in page.locator("summary").all():
        summary.click()
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    results = Axe().run(page, options=rules)
    assert results.violations_count == 0, results.generate_report()
    if scheme == "light":  # The documents have the same colours.
        page.goto(f"{web.url}/docs")
        results = Axe().run(page, options=rules)
        assert results.violations_count == 0, results.generate_report()


def test_the_documents_try_requests_and_name_their_own_address(web, visit, photo):
    page = visit(f"{web.url}/")
    page.goto(f"{web.url}/docs")
    page.set_input_files("#file", photo)
    page.get_by_text('"emotion": "happy"').first.wait_for()
    page.get_by_role("button", name="GET /readyz").click()
    page.get_by_text('"status": "ready"').wait_for()
    assert f"curl -F image=@photo.jpg {web.url}/v1/faces" in page.locator("pre").first.inner_text()


def test_the_page_is_light():
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 200_000
    assert not [
        path for path in STATIC.glob("*.html") if re.search(r"<script(?![^>]*src)|\son\w+=|style=", path.read_text())
    ]
    assert LABELS  # The fake's labels are three: nothing in the page depends on there being seven.
