"""`fer-client video` against the real Triton: what it finds, what it writes, and how it ends."""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import moving, read_clip, scenery, times_of, write_changing_clip, write_clip
from PIL import Image

from fer_client import FerClient
from fer_client.command.video import add_video_command, run

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "astronaut.png"
CASES = Path(os.environ.get("FER_CASES_DIR") or "none")
REAL_CLIP = Path(os.environ.get("FER_VIDEO") or ROOT.parent / "shared" / "video" / "single_face.mp4")


@pytest.fixture(scope="module")
def head():
    """The astronaut's head, 200x200 px, BGR."""
    return cv2.imread(str(PHOTO))[20:220, 120:320]


@pytest.fixture(scope="module")
def one_face(head, tmp_path_factory):
    """Three seconds in which a face drifts to the right."""
    frames = moving(head, [(10 + index, 20 + index // 4) for index in range(90)])
    return write_clip(tmp_path_factory.mktemp("clips") / "one.mp4", frames)


@pytest.fixture
def video(server):
    """Run the command in this process; returns the exit code."""

    def run_command(*arguments):
        parser = argparse.ArgumentParser(prog="fer-client")
        add_video_command(parser.add_subparsers())
        with FerClient(f"grpc://{server.grpc_url}") as client:
            return run(parser.parse_args(["video", *map(str, arguments)]), client)

    return run_command


@pytest.fixture
def start_command(tmp_path):
    """Run the command in a process of its own, which does not outlive the test."""
    with contextlib.ExitStack() as processes:

        def start(*arguments, url):
            command = [sys.executable, "-m", "fer_client", "video", *map(str, arguments), "--url", url]
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, preexec_fn=accept_ctrl_c
            )
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        yield start


def accept_ctrl_c():
    """In the new process: as in a terminal, however the tests were started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for_lines(path, count):
    deadline_s = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline_s, "the timeline does not grow"
        time.sleep(0.02)


def test_one_face_is_one_track_in_every_output(video, one_face, tmp_path, capsys):
    timeline, annotated, plot = tmp_path / "t.jsonl", tmp_path / "a.mp4", tmp_path / "p.png"
    assert video(one_face, "--timeline", timeline, "--annotate", annotated, "--plot", plot, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tracks"] == 1
    assert document["frames"] == {"analysed": 90, "with_face": 90, "failed": 0, "crowded": 0}
    assert document["episodes"][0]["label"] == "happy"

    lines = lines_of(timeline)
    assert [line["frame"] for line in lines] == list(range(90))
    assert [line["time_s"] for line in lines] == pytest.approx([index / 30 for index in range(90)], abs=1e-3)
    assert {face["track"] for line in lines for face in line["faces"]} == {1}
    boxes = [line["faces"][0]["box"]["x_min"] for line in lines]
    assert boxes[-1] - boxes[0] == pytest.approx(89, abs=8)  # It is the right frame's answer on each line.

    frames = read_clip(annotated)
    assert len(frames) == 90
    assert frames[0].shape[0] == 360
    assert frames[0].shape[1] > 480
    with Image.open(plot) as drawn:
        assert drawn.format == "PNG"


def test_every_nth_frame_takes_fewer_and_keeps_track(video, one_face, tmp_path):
    assert video(one_face, "--every", 9, "--timeline", tmp_path / "t.jsonl", "--annotate", tmp_path / "a.mp4") == 0
    lines = lines_of(tmp_path / "t.jsonl")
    assert [line["frame"] for line in lines] == list(range(0, 90, 9))
    assert {face["track"] for line in lines for face in line["faces"]} == {1}
    assert times_of(tmp_path / "a.mp4") == pytest.approx([number / 30 for number in range(0, 90, 9)], abs=1e-3)


def test_a_face_hidden_for_a_moment_keeps_its_track_and_one_after_a_cut_has_another(video, head, tmp_path):
    scenes = [cv2.resize(scenery(seed), (640, 480)) for seed in (1, 2)]
    shown, cut = ([scene.copy() for _ in range(15)] for scene in scenes)
    for picture in [*shown, *cut]:
        picture[150:350, 200:400] = head
    hidden = [scenes[0]] * 15
    clip = write_clip(tmp_path / "clip.mp4", [*shown, *hidden, *shown, *cut])
    assert video(clip, "--timeline", tmp_path / "t.jsonl") == 0
    lines = lines_of(tmp_path / "t.jsonl")
    tracks = [[face["track"] for face in line["faces"]] for line in lines]
    assert tracks == [[1]] * 15 + [[]] * 15 + [[1]] * 15 + [[2]] * 15
    assert [line["frame"] for line in lines if line.get("starts_scene")] == [45]


def test_two_faces_that_pass_each_other_keep_their_tracks(video, head, tmp_path):
    """The smaller one goes behind the larger one and comes out on the other side."""
    small = cv2.resize(head, (150, 150), interpolation=cv2.INTER_AREA)
    frames = []
    for index in range(76):
        picture = np.full((260, 700, 3), 110, np.uint8)
        left = 530 - 7 * index
        picture[60:210, left : left + 150] = small
        left = 7 * index
        picture[30:230, left : left + 170] = head[:, 15:185]
        frames.append(picture)
    clip = write_clip(tmp_path / "clip.mp4", frames)
    assert video(clip, "--timeline", tmp_path / "t.jsonl") == 0
    lines = lines_of(tmp_path / "t.jsonl")
    first, last = ({face["track"]: face["box"] for face in line["faces"]} for line in (lines[0], lines[-1]))
    assert set(first) == set(last) == {1, 2}
    for track in (1, 2):
        widths = [each[track]["x_max"] - each[track]["x_min"] for each in (first, last)]
        assert widths[1] == pytest.approx(widths[0], rel=0.15)
        assert abs(last[track]["x_min"] - first[track]["x_min"]) > 300


def test_frames_more_than_a_second_apart_are_followed_too(video, one_face, tmp_path):
    clip = write_clip(tmp_path / "slow.mp4", read_clip(one_face)[:40], rate=10)
    assert video(clip, "--every", 13, "--timeline", tmp_path / "t.jsonl") == 0
    lines = lines_of(tmp_path / "t.jsonl")
    assert [line["time_s"] for line in lines] == pytest.approx([0, 1.3, 2.6, 3.9])
    assert [face["track"] for line in lines for face in line["faces"]] == [1, 1, 1, 1]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_was_seen(server, start_command, one_face, tmp_path, ending):
    """The clip many times over, so that the analysis is still at work."""
    clip = write_clip(tmp_path / "long.mp4", read_clip(one_face) * 20)
    outputs = ["--timeline", "t.jsonl", "--annotate", "a.mp4", "--plot", "p.png"]
    process = start_command(clip, *outputs, url=f"grpc://{server.grpc_url}")
    wait_for_lines(tmp_path / "t.jsonl", 20)
    process.send_signal(ending)
    out, err = process.communicate(timeout=120)
    lines = lines_of(tmp_path / "t.jsonl")
    assert process.returncode == 130, err
    assert f"fer-client: interrupted; what was seen in {len(lines)} frames until then is kept\n" in err
    assert "Traceback" not in err
    assert 20 <= len(lines) < 1800
    assert len(read_clip(tmp_path / "a.mp4")) == pytest.approx(len(lines), abs=1)
    with Image.open(tmp_path / "p.png") as drawn:
        drawn.load()
    assert " happy " in out
    assert {path.name for path in tmp_path.iterdir()} == {"long.mp4", "t.jsonl", "a.mp4", "p.png"}


def test_a_server_lost_in_the_middle_is_3_and_what_was_seen_is_kept(server, start_command, one_face, tmp_path):
    clip = write_clip(tmp_path / "long.mp4", read_clip(one_face) * 20)
    with forwarder(server.grpc_url) as (address, break_off):
        outputs = ["--timeline", "t.jsonl", "--annotate", "a.mp4"]
        process = start_command(clip, *outputs, "--retries", "1", url=f"grpc://{address}")
        wait_for_lines(tmp_path / "t.jsonl", 20)
        break_off()
        out, err = process.communicate(timeout=120)
    lines = lines_of(tmp_path / "t.jsonl")
    assert process.returncode == 3, err
    (line,) = (line for line in err.splitlines() if "until then is kept" in line)
    assert line.startswith(f"fer-client: no server answers at grpc://{address}: start one with `fer-serve`")
    assert line.endswith(f"; what was seen in {len(lines)} frames until then is kept")
    assert len(read_clip(tmp_path / "a.mp4")) == pytest.approx(len(lines), abs=1)
    assert " happy " in out


@contextlib.contextmanager
def forwarder(target: str) -> Iterator[tuple[str, object]]:
    """A port that leads to a server until it is broken off: its connections end, and nothing listens any more."""
    host, _, port = target.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection((host, int(port)))
            connections.extend((near, far))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    def break_off() -> None:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):  # The other side may have closed it first.
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        connections.clear()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    yield address, break_off
    thread.join(10)


def test_a_video_that_ends_early_is_5_and_what_is_there_is_kept(video, one_face, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", read_clip(one_face), muxing={"movflags": "+faststart"})
    content = clip.read_bytes()
    clip.write_bytes(content[: 2 * len(content) // 3])
    assert video(clip, "--timeline", tmp_path / "t.jsonl") == 5
    out, err = capsys.readouterr()
    lines = lines_of(tmp_path / "t.jsonl")
    assert 20 < len(lines) < 80
    assert f"fer-client: {clip} ends early, after {len(lines)} frames: its index has " in err
    assert f"what was seen in {len(lines)} frames until then is kept\n" in err
    assert " happy " in out


def test_damage_in_the_middle_is_5_and_all_that_can_be_decoded_is_analysed(video, one_face, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", read_clip(one_face), muxing={"movflags": "+faststart"})
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    clip.write_bytes(content)
    assert video(clip, "--json") == 5
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["stopped"] is None
    assert document["damaged"] >= 1
    assert document["tracks"] == 1
    assert 80 <= document["frames"]["analysed"] < 90
    assert f"fer-client: {clip} is damaged in " in err


def test_a_face_is_one_track_though_the_resolution_changes(video, one_face, tmp_path, capsys):
    """And the annotated video has one size."""
    pictures = read_clip(one_face)
    parts = [(pictures[:30], "yuv420p"), ([cv2.resize(each, (480, 360)) for each in pictures[30:60]], "yuv420p"),
             ([cv2.resize(each, (320, 180)) for each in pictures[60:]], "yuv420p")]  # fmt: skip
    options = {"crf": "10", "b": "0", "deadline": "realtime", "lag-in-frames": "0"}
    clip = write_changing_clip(tmp_path / "clip.mkv", parts, "libvpx-vp9", options)
    assert video(clip, "--json", "--timeline", tmp_path / "t.jsonl", "--annotate", tmp_path / "a.mp4") == 0
    assert json.loads(capsys.readouterr().out)["tracks"] == 1
    sizes = [line.get("image_size") for line in lines_of(tmp_path / "t.jsonl")]
    assert sizes == [None] * 30 + [{"width": 480, "height": 360}] * 30 + [{"width": 320, "height": 180}] * 30
    assert len({frame.shape for frame in read_clip(tmp_path / "a.mp4")}) == 1


def test_a_face_seen_every_20_s_is_one_track(video, one_face, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", read_clip(one_face)[::6], times_s=[20.0 * index for index in range(15)])
    assert video(clip, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["tracks"], document["frame_rate"], document["duration_s"]) == (1, 0.05, 300)


@pytest.mark.skipif(not CASES.is_dir(), reason="needs clips that once failed: FER_CASES_DIR")
@pytest.mark.parametrize(
    ("name", "frames", "duration_s"),
    [
        ("square.mp4", 72, 2.4),
        ("dvd169.mpg", 72, 2.4),
        ("cut_copy.mp4", 51, 1.7),
        ("vfr.mkv", 164, 9.367),
        ("reschange.mkv", 144, 4.8),
        ("pixfmt.avi", 73, 2.433),
        ("jump_hour.mkv", 72, 2.4),
        ("timelapse.mp4", 20, 400),
    ],
)
def test_clips_that_once_failed_are_one_track_of_the_right_length(video, tmp_path, capsys, name, frames, duration_s):
    assert video(CASES / name, "--json", "--annotate", tmp_path / "a.mp4") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tracks"] == 1
    assert document["frames"] == {"analysed": frames, "with_face": frames, "failed": 0, "crowded": 0}
    assert document["duration_s"] == pytest.approx(duration_s, abs=0.01)
    assert {episode["label"] for episode in document["episodes"]} <= {"neutral", "happy"}
    assert (tmp_path / "a.mp4").stat().st_size < 2_000_000


def test_memory_does_not_grow_with_the_video(server, start_command, one_face, tmp_path):
    """300 more frames, as pixels 0.2 MB each and 0.6 MB when drawn, would be 250 MB; a busy machine varies by 115."""
    clip = write_clip(tmp_path / "long.mp4", read_clip(one_face) * 5)
    outputs = ["--timeline", "t.jsonl", "--annotate", "a.mp4"]  # No plot: matplotlib alone is 40 MB.
    process = start_command(clip, *outputs, url=f"grpc://{server.grpc_url}")
    held = []
    for frames in (100, 400):
        wait_for_lines(tmp_path / "t.jsonl", frames)
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        held.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert held[1] < held[0] + 160, held


@pytest.mark.skipif(not REAL_CLIP.is_file(), reason=f"needs a clip of one face: FER_VIDEO, or {REAL_CLIP.name}")
def test_a_real_clip_is_one_track_whose_label_flickers_no_more_than_without_smoothing(video, tmp_path, capsys):
    assert video(REAL_CLIP, "--json", "--plot", tmp_path / "p.png") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tracks"] == 1
    assert document["label_changes"]["smoothed"] <= document["label_changes"]["raw"]
    assert document["frames"]["with_face"] == document["frames"]["analysed"]
