"""`fer-client predict` with many pictures, and a server that does not do what it should."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from fer_client.cli import main

GIVE_UP_AFTER = 20


@pytest.fixture
def photos(tmp_path):
    """A folder of 30 pictures, in order of their names."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.jpg").write_bytes(b"photo %d" % number)
    return folder


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """None but those of the command line."""
    for name in ("FER_URL", "FER_GRPC_URL", "FER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def predict(fake_triton, url, capsys):
    """Run the command in this process, over each protocol in turn: exit code, output, lines on stderr."""

    def run(*arguments):
        code = main(["predict", *map(str, arguments), "--url", url, "--retries", "0"])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


@contextlib.contextmanager
def running(url, *arguments):
    """The command in a process of its own, so that it can be sent signals."""
    program = f"import sys; sys.path[:] = {sys.path!r}; import runpy; runpy.run_module('fer_client', alter_sys=True)"
    command = [sys.executable, "-c", program, "predict", *map(str, arguments), "--url", url, "--retries", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition):
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)


def names_in(path):
    return [json.loads(line)["image"] for line in path.read_text().splitlines()]


def test_results_come_in_the_order_of_the_pictures(predict, photos):
    code, out, err = predict(photos, "--jsonl", "--concurrency", "7")
    assert code == 0
    assert [json.loads(line)["image"] for line in out.splitlines()] == [str(path) for path in sorted(photos.iterdir())]
    assert len(err) == 1
    assert err[0].startswith("fer-client: 30 images, 30 faces, 0 refused; ")


def test_quiet_says_nothing_but_errors(predict, photos):
    (photos / "05.jpg").unlink()
    code, _, err = predict(photos, photos / "05.jpg", "--quiet", "--csv")
    assert (code, err) == (5, [f"fer-client: cannot read {photos / '05.jpg'}: No such file or directory"])


def test_a_refused_picture_stays_alone(predict, photos, fake_triton):
    fake_triton.hiccups[:] = ["invalid"]
    code, out, err = predict(photos, "--jsonl", "--concurrency", "1")
    kinds = Counter(json.loads(line).get("error", {}).get("kind") for line in out.splitlines())
    assert (code, kinds) == (5, {None: 29, "refused": 1})
    assert err[0].startswith(f"fer-client: {photos / '00.jpg'}: ")
    assert err[0].endswith(" refused the image: a hiccup")
    assert "30 images, 29 faces, 1 refused; " in err[1]


@pytest.mark.parametrize(("kind", "code"), [("invalid", 4), ("failed", 1), ("overloaded", 1)])
def test_where_no_picture_has_a_result_the_code_is_that_of_the_first(predict, photos, fake_triton, kind, code):
    fake_triton.refusals["infer"] = (kind, "no")
    assert predict(photos / "00.jpg", photos / "01.jpg")[0] == code


def test_a_server_that_fails_at_everything_is_given_up(predict, photos, fake_triton):
    fake_triton.refusals["infer"] = ("failed", "a worker has died")
    code, out, err = predict(photos, "--jsonl", "--concurrency", "2")
    assert code == 1
    assert len(out.splitlines()) == len(err) - 2 == GIVE_UP_AFTER - 1
    assert "a worker has died; its log says more; 19 of 30 images are done" in err[-2]


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("unauthenticated", 6, "does not let this client in"),
        ("forbidden", 6, "does not let this client in"),
        ("missing", 1, "does not serve what this client expects"),
    ],
)
def test_what_the_next_picture_would_not_change_ends_it(predict, photos, fake_triton, kind, code, message):
    fake_triton.refusals["infer"] = (kind, "no")
    found, _, err = predict(photos, "--concurrency", "1")
    assert found == code
    assert message in err[0]
    assert fake_triton.asked["infer"] <= 3


def test_a_token_that_is_not_accepted_is_6_and_one_line(predict, photos, fake_triton, tmp_path):
    fake_triton.refusals["config"] = ("unauthenticated", "no")
    (tmp_path / "token").write_text("wr0ng-t0ken")
    code, out, err = predict(photos, "--token-file", tmp_path / "token")
    assert (code, out, len(err)) == (6, "", 1)
    assert "does not let this client in" in err[0]
    assert "wr0ng" not in err[0]


def test_token_and_headers_are_sent(predict, photos, fake_triton, tmp_path):
    (tmp_path / "token").write_text("t0ken\n")
    assert predict(photos / "00.jpg", "--token-file", tmp_path / "token", "--header", "X-Tenant: blue")[0] == 0
    assert fake_triton.headers
    assert all(headers["authorization"] == "Bearer t0ken" for headers in fake_triton.headers)
    assert all(headers["x-tenant"] == "blue" for headers in fake_triton.headers)


def test_a_server_that_goes_away_in_the_middle_is_3_and_nothing_is_lost(photos, fake_triton, url, relay, relay_url):
    results = photos.parent / "results.jsonl"
    fake_triton.delay_s = 0.05
    with running(relay_url, photos, "--resume", results, "--concurrency", "2") as process:
        wait_for(lambda: results.exists() and len(results.read_text().splitlines()) >= 5)
        relay.cuts = 10_000
        fake_triton.hang_up()
        relay.shutdown()
        relay.server_close()
        out, err = process.communicate(timeout=30)
    done = names_in(results)
    assert (process.returncode, out) == (3, "")
    line, summary = err.splitlines()
    assert line.startswith(f"fer-client: no server answers at {relay_url}: ")
    assert line.endswith(f"{len(done)} of 30 images are done: the same command goes on")
    assert summary.startswith(f"fer-client: {len(done)} images, ")
    assert 5 <= len(done) < 30
    fake_triton.delay_s = 0
    assert main(["predict", str(photos), "--resume", str(results), "--url", url, "--quiet"]) == 0
    assert names_in(results) == [str(path) for path in sorted(photos.iterdir())]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("output", ["--json", "--jsonl", "--csv"])
def test_when_interrupted_it_keeps_what_it_has(photos, fake_triton, url, tmp_path, output, kind):
    results = tmp_path / "results"
    results.write_text("older results")
    fake_triton.delay_s = 0.05
    with running(url, photos, output, "--output", results, "--concurrency", "2") as process:
        wait_for(lambda: fake_triton.asked["infer"] >= 12)
        assert results.read_text() == "older results"
        process.send_signal(kind)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    interrupted, summary = err.splitlines()
    assert interrupted.startswith("fer-client: interrupted; ")
    count = int(summary.split()[1])
    assert 5 <= count < 30
    text = results.read_text()
    if output == "--json":
        document = json.loads(text)
        assert len(document["images"]) == document["summary"]["images"] == count
    else:
        assert len(text.splitlines()) == count + (output == "--csv")
    assert not list(tmp_path.glob("*.part"))
    assert ("go on with --resume" in interrupted) == (output == "--jsonl")


def test_it_can_be_killed_and_resumed_again_and_again(photos, fake_triton, url, tmp_path):
    results = tmp_path / "results.jsonl"
    fake_triton.delay_s = 0.02
    for share in (4, 12):
        with running(url, photos, "--resume", results, "--concurrency", "2") as process:
            wait_for(lambda share=share: results.exists() and len(results.read_text().splitlines()) >= share)
            process.kill()
        with results.open("a") as file:
            file.write('{"image": "torn')
    fake_triton.images.clear()
    settled = len(names_in_whole_lines(results))
    assert main(["predict", str(photos), "--resume", str(results), "--url", url, "--quiet"]) == 0
    assert names_in(results) == [str(path) for path in sorted(photos.iterdir())]
    assert len(fake_triton.images) == 30 - settled


def names_in_whole_lines(path):
    return [json.loads(line)["image"] for line in path.read_text().split("\n")[:-1]]


def test_what_failed_is_tried_again_and_what_was_refused_is_not(predict, photos, fake_triton, tmp_path):
    results = tmp_path / "results.jsonl"
    fake_triton.hiccups[:] = ["invalid", "failed"]
    assert predict(photos, "--resume", results, "--concurrency", "1")[0] == 5
    fake_triton.images.clear()
    code, _, err = predict(photos, "--resume", results)
    assert (code, fake_triton.images) == (0, [b"photo 1"])
    assert len(set(names_in(results))) == len(names_in(results)) == 30
    assert "1 image, 1 face, 0 refused" in err[0]


def test_nothing_is_asked_where_all_is_done(predict, photos, fake_triton, tmp_path):
    predict(photos, "--resume", tmp_path / "results.jsonl")
    fake_triton.asked.clear()
    code, out, err = predict(photos, "--resume", tmp_path / "results.jsonl")
    assert (code, out, fake_triton.asked) == (0, "", {})
    assert err == [f"fer-client: nothing to do: {tmp_path / 'results.jsonl'} has all 30 images"]


def test_a_pipe_cannot_be_resumed(predict, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, _, err = predict(tmp_path / "pipe", "--resume", tmp_path / "results.jsonl")
    assert (code, len(err)) == (2, 1)
    assert "--resume cannot go on with standard input or a pipe" in err[0]


def test_a_server_that_does_not_answer_leaves_an_older_file_as_it_is(photos, tmp_path, closed_address, capsys):
    results = tmp_path / "results.json"
    results.write_text("older results")
    arguments = ["predict", str(photos), "--json", "--output", str(results), "--url", closed_address, "--retries", "0"]
    assert main(arguments) == 3
    assert results.read_text() == "older results"
    assert capsys.readouterr().err.count("\n") == 1


def test_results_can_go_to_a_link_a_pipe_and_a_device(predict, photos, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target" / "results.csv")
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    for name in (tmp_path / "link", tmp_path / "pipe", "/dev/null"):
        assert predict(photos / "00.jpg", "--csv", "--output", name)[0] == 0
    reader.join()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / "results.csv").read_text() == read[0]
    assert read[0].count("\n") == 2


def test_a_full_disk_is_2_and_one_line(predict, photos):
    code, _, err = predict(photos / "00.jpg", "--json", "--output", "/dev/full")
    assert (code, err) == (2, ["fer-client: cannot write /dev/full: No space left on device"])


def test_a_full_disk_behind_standard_output_is_2_and_one_line(photos, url):
    command = [sys.executable, "-m", "fer_client", "predict", str(photos / "00.jpg"), "--url", url]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (2, "fer-client: cannot write the output: No space left on device\n")


def test_a_reader_that_leaves_is_141_and_silent(photos, fake_triton, url):
    """The output is larger than a pipe holds (64 KiB), so that the command cannot be done before the reader leaves."""
    fake_triton.faces(32)
    command = f"{sys.executable} -m fer_client predict {photos} --jsonl --quiet --url {url}"
    script = f"{command} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
    first, code = done.stdout.splitlines()
    assert len(first) * len(list(photos.iterdir())) > 3 * 65_536
    assert json.loads(first)["image"] == str(photos / "00.jpg")
    assert (code, done.stderr) == ("141", "")


def test_a_terminal_sees_a_bar_that_goes_away(photos, fake_triton, url):
    """Under a pseudo-terminal, as people run it."""
    fake_triton.delay_s = 0.05
    command = f"{sys.executable} -m fer_client predict {photos} --csv --output /dev/null --url {url}"
    done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, timeout=60)
    assert done.returncode == 0
    *_, summary = lines = done.stdout.decode().rstrip().split("\r")
    frames = [line for line in lines if "images/s  ETA" in line]
    assert len(frames) >= 3
    assert frames[0].startswith("1/30 ")
    assert summary.startswith("\x1b[Kfer-client: 30 images, 30 faces, 0 refused; ")


def test_debug_shows_the_traceback(predict, photos, fake_triton):
    fake_triton.refusals["config"] = ("failed", "no")
    assert len(predict(photos)[2]) == 1
    lines = predict(photos, "--debug")[2]
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("fer-client: ")


def test_a_defect_is_70_and_says_so(predict, photos, monkeypatch):
    monkeypatch.setattr("fer_client.command.predict.expand", lambda *_, **__: 1 / 0)
    code, _, err = predict(photos)
    assert code == 70
    assert err == [
        "fer-client: this is a defect of fer-client: ZeroDivisionError: division by zero; please report it with what "
        "--debug shows"
    ]


def test_crops_are_predicted_as_such(predict, photos, fake_triton):
    code, out, _ = predict(photos, "--cropped", "--jsonl", "--concurrency", "3")
    documents = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [document["image"] for document in documents] == [str(path) for path in sorted(photos.iterdir())]
    assert {document["emotion"] for document in documents} == {"happy"}
    assert "faces" not in documents[0]


def test_a_crop_that_is_refused_stays_alone(predict, photos, fake_triton):
    fake_triton.hiccups[:] = ["invalid"]
    assert predict(photos, "--cropped", "--csv")[0] == 5


def test_retries_ride_out_a_hiccup(photos, fake_triton, url, capsys):
    fake_triton.hiccups[:] = ["overloaded", "overloaded"]
    assert main(["predict", str(photos / "00.jpg"), "--url", url, "--retries", "2"]) == 0
    fake_triton.hiccups[:] = ["overloaded"]
    assert main(["predict", str(photos / "00.jpg"), "--url", url, "--retries", "0"]) == 1


def test_a_deadline_bounds_all_tries(photos, fake_triton, url, capsys):
    fake_triton.refusals["infer"] = ("overloaded", "no room")
    start_s = time.monotonic()
    assert main(["predict", str(photos / "00.jpg"), "--url", url, "--retries", "99", "--deadline", "0.5"]) == 1
    assert time.monotonic() - start_s < 5
