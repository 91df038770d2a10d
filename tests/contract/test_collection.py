"""pytest finds every test that there is."""

from fnmatch import fnmatch
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_no_folder_of_tests_is_left_out(request):
    """By default pytest does not look into folders called `build`."""
    ignored = request.config.getini("norecursedirs")
    folders = {path.parent for path in TESTS.rglob("test_*.py")}
    assert len(folders) > 5
    for folder in folders:
        for part in folder.relative_to(TESTS).parts:
            assert not any(fnmatch(part, pattern) for pattern in ignored), folder
