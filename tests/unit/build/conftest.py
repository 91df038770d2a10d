"""Fixtures of the room: a small network, and machines with and without a GPU."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fer_build import tensorrt_flavours
from fer_build.tensorrt_flavours import FLAVOURS


@pytest.fixture
def network(tmp_path: Path) -> Path:
    from small_networks import write_network  # needs the package onnx

    return write_network(tmp_path / "tiny.onnx")


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture
def ada_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that describes a GPU which is not there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho '8.9, NVIDIA L4'\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.fixture
def rtx_as_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of flavour tensorrt, as far as it goes without a GPU: with TensorRT-RTX's compiler."""
    stand_in = replace(tensorrt_flavours.TENSORRT, module="tensorrt_rtx", libraries=(), oldest=(1, 7))
    monkeypatch.setitem(FLAVOURS, "tensorrt", stand_in)
