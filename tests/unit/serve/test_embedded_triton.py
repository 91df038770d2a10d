"""fer_serve.embedded_triton: what is staged, and what it says when something is not installed."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from fer_build.errors import NotInstalledError
from fer_serve import embedded_triton


def test_a_backend_is_staged_with_the_stub_of_this_python(tmp_path):
    triton = embedded_triton.stage(tmp_path)
    assert os.access(triton.binary, os.X_OK)
    assert os.access(triton.backends / "python" / "triton_python_backend_stub", os.X_OK)
    assert (triton.backends / "python" / "libtriton_python.so").is_file()


def test_the_stub_finds_this_environment_s_packages_whatever_the_user_s_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nonsense")
    monkeypatch.setenv("PYTHONPATH", "/nonsense")
    monkeypatch.setenv("PATH", "/usr/bin")
    environment = embedded_triton.stage(tmp_path).environment
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert not {"PYTHONHOME", "PYTHONPATH"} & set(environment)


def test_a_missing_wheel_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotInstalledError, match="pip install nvidia-pytriton==0.7.0"):
        embedded_triton.stage(tmp_path)


def test_a_missing_libpython_says_what_to_install(tmp_path, monkeypatch):
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: "libpython" not in path.name and is_file(path))
    with pytest.raises(NotInstalledError, match=r"libpython3\.\d+\.so\.1\.0 is missing.*apt-get install libpython3"):
        embedded_triton.stage(tmp_path)


def test_an_unknown_python_says_which_are_known(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_triton, "_python_version", lambda: "3.99")
    with pytest.raises(NotInstalledError, match=r"no stub for Python 3\.99, only for: 3\.10, 3\.11"):
        embedded_triton.stage(tmp_path)


def test_numpy_2_is_refused_before_it_reads_arrays_wrongly(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_triton, "version", lambda name: "2.2.6")
    with pytest.raises(NotInstalledError, match=r"NumPy 2\.2\.6 is installed.*pip install 'numpy<2'"):
        embedded_triton.stage(tmp_path)
