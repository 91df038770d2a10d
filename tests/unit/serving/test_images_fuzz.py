"""Thousands of spoilt files, drawn from one seed: each is decoded or refused, in bounded time and memory."""

import io
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from bad_files import TRANSPARENT_BOMBS, every_kind, spoilt
from machine_pace import slowness
from PIL import Image

from fer_images import REFUSALS, ImageLimits, ImageRefusedError, decode_image

SEED = 16
LIMITS = ImageLimits()


def try_to_decode(data: bytes) -> str:
    """`decoded` or the reason of the refusal; anything else that is raised is a fault."""
    try:
        image = decode_image(data, LIMITS, 320)
    except ImageRefusedError as refusal:
        return refusal.reason
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape[2] == 3
    assert image.pixels.flags.c_contiguous
    assert image.width_px * image.height_px <= LIMITS.max_pixels
    return "decoded"


def test_spoilt_files_are_decoded_or_refused(astronaut):
    photo = Image.open(io.BytesIO(astronaut)).convert("RGB")
    outcomes, slowest = {}, 0.0
    for name, data in spoilt(every_kind(photo), np.random.default_rng(SEED), 4000):
        started = time.process_time()
        outcome = try_to_decode(data)
        outcomes.setdefault(outcome, []).append(name)
        slowest = max(slowest, time.process_time() - started)
    assert {"decoded", "corrupt", "not_an_image", "too_many_pixels"} <= outcomes.keys() <= {"decoded", *REFUSALS}
    assert slowest < 2 * slowness()


@pytest.mark.parametrize("bomb", TRANSPARENT_BOMBS)
def test_white_under_50_megapixels_takes_bounded_time_and_memory(tmp_path, bomb):
    """In a process of its own: the memory that OpenCV takes is not Python's. The other bombs go to the real server."""
    (tmp_path / "bomb").write_bytes(TRANSPARENT_BOMBS[bomb]())
    report = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "bomb")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[3] / "triton_models",
    )
    seconds, megabytes = map(float, report.stdout.split())
    assert seconds < 3 * slowness()
    assert megabytes < 800


_MEASURE = textwrap.dedent(r"""
    import pathlib, re, sys, time
    import fer_images
    data = open(sys.argv[1], "rb").read()
    def peak_kib():
        return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
    before, started = peak_kib(), time.process_time()
    try:
        fer_images.decode_image(data, fer_images.ImageLimits(), 1280)
    except fer_images.ImageRefusedError:
        pass
    print(time.process_time() - started, (peak_kib() - before) / 1024)
""")
