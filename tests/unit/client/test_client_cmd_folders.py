"""What is taken out of a folder, what is left out and said to be, and what must not stop or hang a search."""

import json
import os
import socket
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from fer_client.cli import main
from fer_client.command.image_paths import Sources, expand, extension_of, format_left_out


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"photo")


def names(sources):
    return [os.path.basename(source.name) for source in sources.images]  # noqa: PTH119 - a name can be anything


PICTURES = (
    *("a.mpo", "b.apng", "c.pjpeg", "d.pjp", "e.jfif", "f.JPE", "g.dib", "h.PNG", "i.WebP", "j.JPEG", "k.jif", "l.jps"),
    *(
        "photo.jpg:large",
        "photo.JPG:orig",
        "photo.jpg?x=1",
        "photo.jpg?v=1.2&a=b.c",
        "photo.png-large",
        "photo.jpg_large",
    ),
    *("photo.jpg.1", "photo.jpeg (2)", "photo.webp copy", 'o\'clock "8".jpg', "-v.jpg", "two\nlines.jpg", "tab\t.jpg"),
)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_taken_under_every_name_that_people_and_programs_give_it(folder, name):
    fill(folder, name)
    sources = expand([str(folder)])
    assert (names(sources), sources.left_out) == ([name], Counter())


def test_a_name_whose_bytes_are_no_text_is_taken(folder):
    name = os.fsdecode(b"caf\xe9.jpg")
    fill(folder, name)
    assert names(expand([str(folder)])) == [name]


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("x.heic", ".heic"),
        ("x.HEIC", ".heic"),
        ("x.cr2", ".cr2"),
        ("x.3fr", ".3fr"),
        ("IMG_0001", ""),
        ("holiday 2024.05.01", ""),
        ("Dr. Smith and her family", ""),
        ("trailing.", ""),
        ("x.jpg~", ".jpg~"),
        ("x.jpgs", ".jpgs"),
        ("x.jpg.heic", ".heic"),
        ("what?.heic", ".heic"),
    ],
)
def test_another_file_is_left_out_and_counted_by_its_ending(folder, name, extension):
    fill(folder, "a.jpg", name)
    sources = expand([str(folder)])
    assert (names(sources), sources.left_out) == (["a.jpg"], Counter({extension: 1}))
    assert extension_of(name) == extension


@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", ".hidden.heic", "Thumbs.db", "desktop.ini", "a.xmp", "a.jpg.XMP", "a.aae", "a.json", "a.txt"),
        *("a.csv", "faces.jsonl", "faces.csv.part", "README.md", "Icon\r", ".cache/b.heic"),
    ],
)
def test_what_lies_beside_pictures_is_no_news(folder, name):
    fill(folder, "a.jpg", name)
    sources = expand([str(folder)])
    assert (names(sources), sources.left_out) == (["a.jpg"], Counter())


def test_all_takes_every_file_that_is_not_hidden(folder):
    fill(folder, "a.jpg", "b.heic", "c", "sub/notes.txt", ".DS_Store", ".git/HEAD")
    sources = expand([str(folder)], take_all=True)
    assert (names(sources), sources.left_out) == (["a.jpg", "b.heic", "c", "notes.txt"], Counter())


@pytest.mark.parametrize("take_all", [False, True])
def test_what_the_command_itself_writes_is_not_taken_and_not_counted(folder, take_all):
    fill(folder, "a.jpg", "results", "drawn.png", "drawn/a.jpg")
    outputs = [folder / name for name in ("results", "drawn.png", "drawn", "not there yet")]
    sources = expand([str(folder)], outputs, take_all=take_all)
    assert (names(sources), sources.left_out) == (["a.jpg"], Counter())


@pytest.mark.parametrize("take_all", [False, True])
@pytest.mark.parametrize("argument", ["{}", "{}/*", "{}/**"])
@pytest.mark.timeout(30)
def test_pipes_and_sockets_in_a_folder_are_passed_over_and_nothing_waits_for_them(folder, argument, take_all):
    fill(folder, "a.jpg")
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    (folder / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.jpg"))
        sources = expand([argument.format(folder)], take_all=take_all)
    assert (names(sources), [source.problem for source in sources.images]) == (["a.jpg"], [""])


def test_links_that_lead_in_circles_end(folder):
    fill(folder, "a.jpg", "sub/b.jpg")
    (folder / "up").symlink_to(folder)
    (folder / "sub" / "up").symlink_to("..")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    sources = expand([str(folder)])
    problems = dict(zip(names(sources), (source.problem for source in sources.images), strict=True))
    assert problems == {
        "a.jpg": "",
        "b.jpg": "",
        "gone.jpg": "No such file or directory",
        "loop.jpg": "Too many levels of symbolic links",
    }
    assert sources.linked_folders == 2
    assert names(expand([f"{folder}/**/[ab].jpg"])) == ["a.jpg", "b.jpg"]


def test_a_pattern_starts_where_it_says(folder, monkeypatch):
    fill(folder, "sub/b.jpg", "sub/deep/c.jpg", ".hidden/d.jpg")
    monkeypatch.chdir(folder / "sub")
    for pattern in ("**/*.jpg", "../sub/**", "../*/../sub/**/*.jpg", f"{folder}/**/deep/../**"):
        assert names(expand([pattern])) == ["b.jpg", "c.jpg"], pattern
    assert names(expand(["deep/**/c.*"])) == ["c.jpg"]


def test_a_folder_linked_to_is_searched_where_it_is_named(folder, tmp_path):
    fill(folder, "a.jpg")
    (tmp_path / "link").symlink_to(folder)
    assert names(expand([str(tmp_path / "link")])) == ["a.jpg"]


def test_what_is_left_out_is_counted_once_and_not_where_it_is_named(folder, tmp_path):
    fill(folder, "a.jpg", "b.heic", "sub/c.heic", "d")
    (folder / "link").symlink_to(folder / "sub")
    twice = expand([str(folder), f"{folder}/sub", f"{folder}//"])
    assert (names(twice)[:1], twice.left_out, twice.linked_folders) == (["a.jpg"], Counter({".heic": 2, "": 1}), 1)
    named = expand([str(folder), f"{folder}/b.heic", f"{folder}/link"])
    assert (named.left_out[""], f"{folder}/b.heic" in [source.name for source in named.images]) == (1, True)
    assert named.left_out[".heic"] == 2  # sub/c.heic, and the same through the link that is named
    assert named.linked_folders == 0


def test_no_folder_is_too_deep(folder, monkeypatch):
    """Deeper than Python's stack, and in the end deeper than the system takes paths."""
    monkeypatch.chdir(folder)
    for _ in range(2500):
        os.mkdir("d")  # noqa: PTH102 - relative to a place that has no absolute path
        os.chdir("d")
    monkeypatch.chdir(folder)
    deep = Path(*"d" * 1500)
    fill(folder / deep, "a.jpg")
    try:
        images = expand([str(folder)]).images
        assert {source.name: source.problem for source in images[:1]} == {str(folder / deep / "a.jpg"): ""}
        assert [source.problem for source in images[1:]] == ["File name too long"]
        assert names(expand([f"{folder}/**/*.jpg"])) == ["a.jpg"]
    finally:
        subprocess.run(["rm", "-rf", folder / "d"], check=True)  # pytest could not.


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "a" * 300 + "*.jpg", "x/" * 2500 + "a.jpg"])
def test_a_name_that_is_too_long_is_unreadable(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    [source] = expand([name]).images
    assert source.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read a folder")
def test_a_folder_that_may_not_be_read_is_a_problem_of_its_own(folder):
    fill(folder, "a.jpg", "locked/b.jpg", "closed/c.jpg")
    (folder / "locked").chmod(0)
    for parent in (folder, *folder.parents[:-2]):
        parent.chmod(0o755)
    found = run_as_nobody(lambda: {Path(s.name).name: s.problem for s in expand([str(folder)]).images})
    assert found == {"a.jpg": "", "c.jpg": "", "locked": "Permission denied"}
    assert run_as_nobody(lambda: expand([str(folder / "locked" / "b.jpg")]).images[0].problem) == "Permission denied"


def run_as_nobody(function):
    """What a function returns in a process without rights, as JSON."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setuid(65534)
            os.write(writer, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as stream:  # noqa: PTH123 - a descriptor
        return json.loads(stream.read())


@pytest.mark.parametrize(
    ("left_out", "links", "text"),
    [
        ({}, 0, ""),
        ({".heic": 9, "": 3}, 0, "12 files left out: 9 .heic, 3 without an ending; --all tries them"),
        ({".heic": 1}, 0, "1 file left out: 1 .heic; --all tries it"),
        ({}, 2, "2 linked folders not searched: name them to have them searched"),
        (
            {".gif": 1},
            1,
            "1 file left out: 1 .gif; --all tries it; 1 linked folder not searched: name it to have it searched",
        ),
        (
            {f".{letter}x": 1 for letter in "abcdefgh"} | {".zz": 9},
            0,
            "17 files left out: 9 .zz, 1 .ax, 1 .bx, 1 .cx, 1 .dx, 1 .ex, 3 with other endings; --all tries them",
        ),
    ],
)
def test_what_is_left_out_is_one_line(left_out, links, text):
    assert format_left_out(Sources(left_out=Counter(left_out), linked_folders=links)) == text


@pytest.fixture
def predict(fake_triton, capsys, monkeypatch, tmp_path):
    """Run the command in this process: exit code, output, lines on stderr."""
    for name in ("FER_URL", "FER_GRPC_URL", "FER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments):
        code = main(["predict", *map(str, arguments), "--url", fake_triton.url("http"), "--retries", "0"])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


LINE = "3 files left out: 2 .heic, 1 without an ending; --all tries them"


def test_the_summary_says_what_was_left_out(predict, folder):
    fill(folder, "a.jpg", "b.mpo", "c.heic", "sub/d.HEIC", "e", "Thumbs.db")
    code, out, err = predict(folder, "--json")
    assert code == 0
    assert json.loads(out)["summary"]["left_out"] == {"": 1, ".heic": 2}
    assert err[0].startswith("fer-client: 2 images, 2 faces, 0 refused; ")
    assert err[0].endswith(f" images/s; {LINE}")


def test_so_it_does_where_one_picture_is_left(predict, folder):
    fill(folder, "a.jpg", "c.heic", "sub/d.HEIC", "e")
    assert predict(folder)[2] == [f"fer-client: {LINE}"]
    assert predict(folder, "--quiet")[2] == []


def test_and_where_none_is(predict, folder):
    fill(folder, "c.heic", "sub/d.HEIC", "e")
    code, _, err = predict(folder)
    assert (code, len(err)) == (2, 1)
    assert err[0].endswith(f"; {LINE}")


def test_all_tries_them_and_the_server_decides(predict, folder, fake_triton):
    fill(folder, "a.jpg", "b.heic", "c")
    code, out, err = predict(folder, "--all", "--jsonl")
    assert (code, len(out.splitlines()), len(fake_triton.images)) == (0, 3, 3)
    assert "left out" not in err[0]


def test_a_second_run_does_not_take_the_first_one_s_results_for_pictures(predict, folder, fake_triton):
    fill(folder, "a.jpg", "b.jpg")
    for _ in range(2):
        fake_triton.images.clear()
        code, _, err = predict(folder, "--all", "--csv", "--output", folder / "faces")
        assert (code, len(fake_triton.images), len(err)) == (0, 2, 1)


@pytest.mark.timeout(60)
def test_a_folder_with_a_pipe_in_it_does_not_hang(predict, folder):
    fill(folder, "a.jpg")
    os.mkfifo(folder / "b.jpg")
    done = []
    thread = threading.Thread(target=lambda: done.append(predict(folder)[0]), daemon=True)
    thread.start()
    thread.join(20)
    assert done == [0]
