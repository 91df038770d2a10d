"""fer_webp: stills and animations, with what stands beside the pixels damaged, and with the pixels damaged."""

import io
import struct

import cv2
import numpy as np
import pytest
from jpeg_files import tiff
from pictures import encode
from PIL import Image

from fer_images import ImageLimits, ImageRefusedError, decode_image

LIMITS = ImageLimits()


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(astronaut)).convert("RGB").crop((100, 0, 420, 240))  # 320 x 240, not square
    image.info.clear()
    return image


@pytest.fixture(scope="module", params=["lossy", "lossless"])
def file(request: pytest.FixtureRequest, photo: Image.Image) -> bytes:
    """A simple file: one chunk."""
    return encode(photo, "WEBP", lossless=request.param == "lossless", quality=90)


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, LIMITS, 10_000).pixels


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def riff(body: bytes) -> bytes:
    return chunk(b"RIFF", b"WEBP" + body)


def extended(file: bytes, flags: int, before: bytes = b"", behind: bytes = b"") -> bytes:
    """The file in its long form, with more chunks."""
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in (320, 240))
    return riff(chunk(b"VP8X", struct.pack("<I", flags) + sides) + before + file[12:] + behind)


DECORATED = {
    "a profile that is none": lambda f: extended(f, 0x20, before=chunk(b"ICCP", b"\xff" * 99)),
    "unknown chunks": lambda f: extended(f, 0, before=chunk(b"what", b"odd"), behind=chunk(b"what", bytes(9))),
    "flags of what is not there": lambda f: extended(f, 0x2C),
    "XMP cut off": lambda f: extended(f, 4, behind=chunk(b"XMP ", bytes(999)))[:-500],
    "EXIF cut off": lambda f: extended(f, 8, behind=chunk(b"EXIF", tiff(6)))[:-9],
    "EXIF that is none": lambda f: extended(f, 8, behind=chunk(b"EXIF", b"\xff" * 30)),
    "trailing rubbish": lambda f: f + bytes(range(256)),
    "a wrong length of the whole": lambda f: f[:4] + struct.pack("<I", len(f) + 5000) + f[8:],
    "a length of the whole that is too small": lambda f: f[:4] + struct.pack("<I", 12) + f[8:],
    "a canvas of another size": lambda f: extended(f, 0).replace(b"\x3f\x01\0\xef", b"\x4f\x01\0\xff"),
}


@pytest.mark.parametrize("how", DECORATED)
def test_what_is_no_pixel_has_no_veto(file, how):
    assert np.array_equal(decode(DECORATED[how](file)), decode(file))


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_orientation_is_read_with_and_without_its_mark(file, prefix):
    turned = decode(extended(file, 8, behind=chunk(b"EXIF", prefix + tiff(6))))
    assert np.array_equal(turned, np.rot90(decode(file), -1))


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.999])
def test_a_picture_that_is_cut_off_is_refused(file, kept):
    cut = file[20 : int(20 + (len(file) - 20) * kept)]
    with pytest.raises(ImageRefusedError, match="not an image that can be read, or only the start"):
        decode(file[: 20 + len(cut)])
    with pytest.raises(ImageRefusedError, match="WebP file of 320x240 px is truncated or corrupt"):
        decode(riff(chunk(file[12:16], cut)))


def test_a_header_that_can_t_be_read_is_no_image(file):
    for data in (file[:12], riff(b""), riff(chunk(file[12:16], b"")), riff(chunk(file[12:16], bytes(20)))):
        with pytest.raises(ImageRefusedError, match="not an image that can be read"):
            decode(data)


def test_the_first_frame_of_an_animation_is_taken(photo):
    data = encode(photo, "WEBP", save_all=True, append_images=[photo.rotate(90)] * 20, lossless=True)
    assert np.array_equal(decode(data), np.asarray(photo)[..., ::-1])


def test_a_first_frame_that_fills_a_part_of_the_canvas_lies_on_white(photo):
    small = encode(photo.resize((100, 60)), "WEBP", lossless=True)
    place = struct.pack("<I", 10)[:3] + struct.pack("<I", 20)[:3]
    size = struct.pack("<I", 99)[:3] + struct.pack("<I", 59)[:3]
    frame = chunk(b"ANMF", place + size + bytes(4) + small[12:])
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in (320, 240))
    head = chunk(b"VP8X", struct.pack("<I", 2) + sides) + chunk(b"ANIM", bytes(6))
    pixels = decode(riff(head + frame))
    assert np.array_equal(pixels[40:100, 20:120], decode(small))
    pixels[40:100, 20:120] = 255
    assert pixels.shape == (240, 320, 3)
    assert pixels.min() == 255
    with pytest.raises(ImageRefusedError, match="320x240 px is truncated or corrupt: its first frame lies outside"):
        decode(riff(head + frame.replace(place, struct.pack("<I", 150)[:3] * 2)))


def test_further_frames_can_t_break_the_first(photo):
    data = encode(photo, "WEBP", save_all=True, append_images=[photo.rotate(90)] * 3, lossless=True)
    second = data.index(b"ANMF", data.index(b"ANMF") + 4)
    assert np.array_equal(decode(data[: second + 300]), np.asarray(photo)[..., ::-1])


def test_both_decoders_agree(file):
    assert np.array_equal(decode(file), cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR))
