"""The command's edges, where no real server is needed: options, outputs, what is missing."""

import argparse
import json
import subprocess
import sys

import pytest
from clips import moving, read_clip, scenery, write_clip

from fer_client import FerClient, ServerError
from fer_client.command.video import add_video_command, run
from fer_commands.running import CommandError


@pytest.fixture
def clip(tmp_path):
    """Twelve frames, 30 frames/s."""
    return write_clip(tmp_path / "clip.mp4", moving(scenery(), [(index, 0) for index in range(12)]))


def parse(*arguments):
    parser = argparse.ArgumentParser(prog="fer-client")
    add_video_command(parser.add_subparsers())
    return parser.parse_args(["video", *map(str, arguments)])


@pytest.fixture
def video(fake_triton):
    """Run the command against the stand-in, over gRPC; returns the exit code."""

    def run_command(*arguments):
        with FerClient(fake_triton.url("grpc"), retries=0) as client:
            return run(parse(*arguments), client)

    return run_command


def test_help_tells_what_it_does_and_what_it_does_not_mean(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    for part in ("--every N", "--timeline FILE", "--annotate FILE", "--plot FILE", "--min-episode S", "exit codes:"):
        assert part in text
    assert "It is not what a person feels" in text
    assert "nobody is recognised" in text


@pytest.mark.parametrize(
    "wrong",
    [["--every", "0"], ["--every", "x"], ["--seconds", "0"], ["--smoothing", "-1"], ["--smoothing", "nan"],
     ["--margin", "1.5"], ["--min-episode", "never"], ["--concurrency", "0"]],
)  # fmt: skip
def test_a_wrong_option_is_refused(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("clip.mp4", *wrong)
    assert capsys.readouterr().err.splitlines()[-1].startswith("fer-client video: error: ")


def test_no_panel_is_about_the_annotated_video(video, clip, tmp_path):
    with pytest.raises(CommandError, match="--no-panel is about the annotated video: name one with --annotate FILE"):
        video(clip, "--no-panel")
    assert video(clip, "--annotate", tmp_path / "a.mp4", "--quiet") == 0
    assert video(clip, "--annotate", tmp_path / "b.mp4", "--no-panel", "--quiet") == 0
    with_panel, without = (read_clip(tmp_path / name)[0].shape for name in ("a.mp4", "b.mp4"))
    assert without == (360, 480, 3)  # 320x240 px are enlarged.
    assert with_panel[0] == 360
    assert with_panel[1] > 480


def test_what_a_server_says_of_itself_does_nothing_to_a_terminal(video, clip, fake_triton, capsys):
    parameters = fake_triton.config["parameters"]
    parameters["labels"]["string_value"] = "a,b,c,happy\x1b[2J,e,f,g"
    parameters["model_version"]["string_value"] = "v\x1b[2J"
    assert video(clip, "--min-episode", "0") == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert r"model v\x1b[2J at " in out
    assert r"happy\x1b[2J" in out


def test_nothing_heavy_is_loaded_for_the_options():
    code = "import sys, fer_client.command.video; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"numpy", "av", "PIL", "matplotlib", "grpc", "tritonclient"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    ("option", "name", "expected"),
    [
        ("--annotate", "out.avi", r"cannot write \S+out\.avi: the name of an annotated video ends in \.mp4"),
        ("--plot", "out.jpg", r"cannot write \S+out\.jpg: the name of a plot ends in \.png"),
        ("--plot", "none/out.png", r"cannot write \S+out\.png: there is no folder"),
        ("--timeline", "folder", r"cannot write \S+folder: it is a folder"),
        ("--annotate", "clip.mp4", r"cannot write \S+clip\.mp4: it would overwrite \S+clip\.mp4; choose another name"),
        ("--timeline", "folder/../clip.mp4", r"cannot write \S+clip\.mp4: it would overwrite \S+clip\.mp4"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(
    video, fake_triton, clip, tmp_path, option, name, expected
):
    (tmp_path / "folder").mkdir()
    before = clip.read_bytes()
    with pytest.raises(CommandError, match=expected) as raised:
        video(clip, option, tmp_path / name)
    assert raised.value.exit_code == 2
    assert clip.read_bytes() == before
    assert not fake_triton.asked


def test_two_outputs_in_one_file_are_refused(video, clip, tmp_path):
    with pytest.raises(CommandError, match="it would overwrite"):
        video(clip, "--timeline", tmp_path / "a.png", "--plot", tmp_path / "a.png")


@pytest.mark.parametrize(
    ("module", "options", "expected"),
    [
        ("av", [], "reading video needs PyAV: pip install 'fer-triton[video]'"),
        ("PIL", [], "reading and drawing video needs Pillow: pip install 'fer-triton[video]'"),
        ("matplotlib", ["--plot", "a.png"], "plotting needs matplotlib: pip install 'fer-triton[video]'"),
    ],
)
def test_a_missing_package_is_one_line_with_its_remedy(clip, tmp_path, module, options, expected):
    """In a process that has the others."""
    code = f"""
import argparse, importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {module!r} else find(name, *rest)
sys.modules[{module!r}] = None
from fer_client.command.video import add_video_command, run
parser = argparse.ArgumentParser()
add_video_command(parser.add_subparsers())
try: run(parser.parse_args(["video", *sys.argv[1:]]), None)
except Exception as error: print(type(error).__name__, error)
"""
    command = [sys.executable, "-c", code, str(clip), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"VideoError {expected}\n", "")


@pytest.mark.parametrize(("name", "expected"), [("none.mp4", "No such file"), ("text.mp4", "cannot decode")])
def test_a_video_that_cannot_be_read_is_2_and_no_server_is_asked(video, fake_triton, tmp_path, name, expected):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(CommandError, match=expected) as raised:
        video(tmp_path / name, "--timeline", tmp_path / "t.jsonl")
    assert raised.value.exit_code == 2
    assert not fake_triton.asked
    assert not (tmp_path / "t.jsonl").exists()


def test_no_face_is_a_result(video, fake_triton, clip, tmp_path, capsys):
    fake_triton.faces(0)
    assert video(clip, "--plot", tmp_path / "p.png", "--annotate", tmp_path / "a.mp4") == 0
    out, err = capsys.readouterr()
    assert out.endswith("\n\nno apparent expression lasted for 0.5 s\n")
    assert "12 frames in 0.4 s of video, 0 with a face, 0 tracks" in err
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_the_table_has_a_row_for_each_episode(video, fake_triton, clip, capsys):
    fake_triton.faces(1)
    assert video(clip, "--min-episode", "0.2") == 0
    heading, _, header, row = capsys.readouterr().out.splitlines()
    assert heading == f"{clip}: 320 x 240 px, 30 frames/s, model fake-1 at {fake_triton.url('grpc')}"
    assert header.split() == ["track", "apparent", "expression", "from", "for", "confidence"]
    assert row.split() == ["1", "happy", "0:00.0", "0.4", "s", "70%"]


def test_the_json_document_is_all_that_standard_output_gets(video, clip, capsys):
    assert video(clip, "--json", "--every", "3", "--min-episode", "0.2") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["frames"] == {"analysed": 4, "with_face": 4, "failed": 0, "crowded": 0}
    assert document["stopped"] is None
    assert document["episodes"][0]["duration_s"] == pytest.approx(0.4)


def test_quiet_says_nothing_but_the_table(video, clip, capsys):
    assert video(clip, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_seconds_stop_early_and_that_is_well(video, clip, tmp_path):
    assert video(clip, "--seconds", "0.2", "--timeline", tmp_path / "t.jsonl") == 0
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 6


def test_frames_that_are_all_refused_are_4_and_said(video, fake_triton, clip, tmp_path, capsys):
    fake_triton.refusals["infer"] = ("invalid", "IMAGE: too many pixels")
    assert video(clip, "--timeline", tmp_path / "t.jsonl") == 4
    assert "fer-client: 12 of 12 frames have no answer: " in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert all("too many pixels" in line["error"] for line in lines)


def test_a_server_that_fails_from_the_first_frame_on_is_its_error(video, fake_triton, clip):
    fake_triton.refusals["infer"] = ("failed", "out of memory")
    with pytest.raises(ServerError, match="failed: out of memory"):
        video(clip)
