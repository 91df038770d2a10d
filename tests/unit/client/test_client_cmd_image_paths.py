"""Which pictures a command line names."""

import io
import os
import sys
from collections import Counter
from pathlib import PurePath

import pytest

from fer_client.command.image_paths import EXTENSIONS, Source, expand, read_stream
from fer_commands.running import CommandError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Files of many kinds, with the folder as the current one."""
    for name in ("b.jpg", "a.PNG", "notes.txt", "x.gif", "y.heic", ".hidden.jpg", "sub/c.webp", "sub/d.tif"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"photo")
    (tmp_path / "photos" / ".thumbnails").mkdir()
    (tmp_path / "photos" / ".thumbnails" / "t.jpg").write_bytes(b"photo")
    (tmp_path / "photos" / "circle").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(sources):
    return [source.name for source in sources.images]


def test_a_folder_gives_its_pictures_and_those_below(tree):
    sources = expand(["photos"])
    assert names(sources) == ["photos/a.PNG", "photos/b.jpg", "photos/sub/c.webp"]
    assert [source.relative for source in sources.images] == [PurePath(p) for p in ("a.PNG", "b.jpg", "sub/c.webp")]
    assert sources.left_out == Counter({".gif": 1, ".heic": 1, ".tif": 1})


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_accepted_extension_is_found(tmp_path, extension):
    (tmp_path / f"photo{extension}").write_bytes(b"photo")
    assert names(expand([str(tmp_path)])) == [str(tmp_path / f"photo{extension}")]


def test_a_file_that_is_named_is_taken_whatever_its_name(tree):
    assert expand(["photos/notes.txt", "photos/.hidden.jpg"]).images == [
        Source("photos/notes.txt", PurePath("notes.txt")),
        Source("photos/.hidden.jpg", PurePath(".hidden.jpg")),
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/*.jpg", ["photos/b.jpg"]),
        ("photos/*", ["photos/a.PNG", "photos/b.jpg", "photos/notes.txt", "photos/x.gif", "photos/y.heic"]),
        ("photos/sub/**/*.webp", ["photos/sub/c.webp"]),
        ("**/[bc].*", ["photos/b.jpg", "photos/sub/c.webp"]),
        ("photos/?.jpg", ["photos/b.jpg"]),
    ],
)
def test_a_pattern_gives_the_files_that_it_matches(tree, pattern, found):
    (tree / "photos" / "circle").unlink()
    assert names(expand([pattern])) == found


def test_what_a_pattern_matches_is_laid_out_from_its_first_wildcard_on(tree):
    (tree / "photos" / "circle").unlink()
    [source] = expand([str(tree / "photos" / "**" / "*.webp")]).images
    assert source.relative == PurePath("sub/c.webp")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tree):
    (tree / "[1].jpg").write_bytes(b"photo")
    assert names(expand(["[1].jpg"])) == ["[1].jpg"]


def test_what_is_named_twice_is_taken_once(tree):
    assert names(expand(["photos/b.jpg", "./photos/b.jpg", "photos", "photos//b.jpg"])) == [
        "photos/b.jpg",
        "photos/a.PNG",
        "photos/sub/c.webp",
    ]


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("missing.jpg", "No such file or directory"),
        ("missing*.jpg", "no file matches this pattern"),
        ("empty", "there is no picture in this folder (looked for .jpg, "),
        ("gifs", "; 2 files left out: 2 .gif; --all tries them"),
        ("/dev/null", "it is neither a file nor a folder"),
        ("photos/b.jpg/x", "Not a directory"),
        ("nul\0l.jpg", "embedded null"),
    ],
)
def test_what_cannot_be_read_stands_in_its_place_and_says_why(tree, argument, problem):
    (tree / "empty").mkdir()
    (tree / "gifs").mkdir()
    for name in ("1.gif", "2.gif"):
        (tree / "gifs" / name).write_bytes(b"GIF")
    first, second, third = expand(["photos/b.jpg", argument, "photos/a.PNG"]).images
    assert (first.problem, third.problem) == ("", "")
    assert second.name == argument
    assert problem in second.problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_or_folder_that_may_not_be_read_says_so(tree):
    (tree / "photos" / "b.jpg").chmod(0)
    (tree / "photos" / "sub").chmod(0)
    problems = {source.name: source.problem for source in expand(["photos"]).images}
    assert problems["photos/b.jpg"] == problems["photos/sub"] == "Permission denied"


def test_the_folder_that_is_written_to_is_not_searched(tree):
    (tree / "photos" / "drawn").mkdir()
    (tree / "photos" / "drawn" / "b.jpg").write_bytes(b"photo")
    assert "photos/drawn/b.jpg" in names(expand(["photos"]))
    assert "photos/drawn/b.jpg" not in names(expand(["photos"], [tree / "photos" / "drawn"]))


@pytest.mark.parametrize("url", ["https://host/photo.jpg", "http://host", "s3://bucket/key", "file:///photo.jpg"])
def test_a_url_is_not_fetched(tree, url):
    with pytest.raises(CommandError, match=r"is a URL, and nothing is fetched: download it first, or pipe it in"):
        expand(["photos", url])


def test_an_empty_argument_is_not_the_current_folder(tree):
    with pytest.raises(CommandError, match=r"a PATH is empty: name a picture, or \. for all pictures"):
        expand([""])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_standard_input_is_one_picture(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photo")))
    [source] = expand(["-", "-"]).images
    assert (source.name, source.is_stream) == ("-", True)
    assert read_stream(source) == b"photo"


@pytest.mark.parametrize("stdin", [Terminal(), None])
def test_standard_input_that_is_a_terminal_or_closed_is_refused(monkeypatch, stdin):
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(CommandError, match="and there is none: pipe or redirect a file into it"):
        expand(["-"])


def test_a_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    [source] = expand([str(tmp_path / "pipe")]).images
    assert source.is_stream
