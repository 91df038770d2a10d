"""Transparency of every kind is put on white before anything is looked at; opaque pictures stay as they are."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from pictures import encode, encode_png_rows, png_chunk
from PIL import Image

from fer_images import ImageLimits, decode_image

LIMITS = ImageLimits()


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(astronaut)).convert("RGB").crop((100, 0, 420, 240))  # 320 x 240, not square
    image.info.clear()
    return image


@pytest.fixture(scope="module")
def cut_out(photo: Image.Image) -> Image.Image:
    """Fully transparent on the left, where the colour is black, and opaque on the right."""
    image = photo.convert("RGBA")
    pixels = np.array(image)
    pixels[..., 3] = np.linspace(0, 255, 320).astype(np.uint8)
    pixels[:, :80] = 0
    return Image.fromarray(pixels)


def on_white(image: Image.Image) -> np.ndarray:
    """int, (height, width, 3), BGR."""
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(int)[..., ::-1]


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, LIMITS, 10_000).pixels.astype(int)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_png(cut_out, mode):
    image = cut_out.convert(mode)
    assert np.abs(decode(encode(image)) - on_white(image)).max() <= 1
    assert np.all(decode(encode(image))[:, :80] == 255)


@pytest.mark.parametrize(("mode", "color_type"), [("RGBA", 6), ("LA", 4)])
def test_png_of_16_bits(cut_out, mode, color_type):
    samples = np.asarray(cut_out.convert(mode))
    data = encode_png_rows(samples.astype(np.uint16) * 257, color_type)
    assert np.abs(decode(data) - on_white(cut_out.convert(mode))).max() <= 1


def test_png_with_a_palette(photo):
    image = photo.quantize(64)
    alphas = bytes(range(0, 256, 4))
    data = encode(image, transparency=alphas)
    rgba = np.dstack([np.asarray(image.convert("RGB")), np.frombuffer(alphas, np.uint8)[np.asarray(image)]])
    assert np.abs(decode(data) - on_white(Image.fromarray(rgba))).max() <= 1
    one = encode(image, transparency=5)
    hidden = np.asarray(image) == 5
    assert np.all(decode(one)[hidden] == 255)
    assert np.array_equal(decode(one)[~hidden], decode(encode(image))[~hidden])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("color_type", [0, 2])
def test_png_with_a_transparent_colour(photo, color_type, bits):
    samples = np.asarray(photo.convert("L"))[..., None] if color_type == 0 else np.asarray(photo)
    samples = samples.astype(np.uint16) * 257 if bits == 16 else samples
    key = samples[120, 160].astype(int).tolist()
    plain = encode_png_rows(samples, color_type)
    keyed = plain[:33] + png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) + plain[33:]
    hidden = np.all(samples == key, axis=2)
    assert 0 < hidden.mean() < 0.5
    assert np.all(decode(keyed)[hidden] == 255)
    assert np.array_equal(decode(keyed)[~hidden], decode(plain)[~hidden])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_with_a_transparent_gray_of_few_bits(bits):
    levels = 1 << bits
    row = bytes(
        sum(number << (8 - bits - at * bits) for at, number in enumerate(group))
        for group in np.resize(np.arange(levels), (8, 8 // bits)).tolist()
    )
    width = 8 * (8 // bits)
    header = struct.pack(">IIBBBBB", width, 4, bits, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress((b"\0" + row) * 4)), (b"IEND", b"")
    numbers = np.resize(np.arange(levels), width)
    expected = np.where(numbers == 1, 255, numbers * 255 // (levels - 1))
    pixels = decode(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    assert np.array_equal(pixels, np.broadcast_to(expected[None, :, None], (4, width, 3)))


def test_webp(cut_out):
    assert np.abs(decode(encode(cut_out, "WEBP", lossless=True)) - on_white(cut_out)).max() <= 1
    assert np.abs(decode(encode(cut_out, "WEBP", quality=95)) - on_white(cut_out)).mean() < 3
    moving = encode(cut_out, "WEBP", save_all=True, append_images=[cut_out.rotate(90)], lossless=True)
    assert np.abs(decode(moving) - on_white(cut_out)).max() <= 1


def bmp(pixels: np.ndarray, size: int, compression: int, masks: tuple[int, ...]) -> bytes:
    height, width = pixels.shape[:2]
    header = struct.pack("<IiiHHIIiiII", size, width, -height, 1, 32, compression, 0, 0, 0, 0, 0)
    header += struct.pack("<4I", *masks)[: 16 if size > 40 or compression == 6 else 12]
    header = header.ljust(size, b"\0")
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, 14 + len(header)) + header + pixels.tobytes()


BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


@pytest.mark.parametrize(("size", "compression"), [(124, 3), (108, 3), (56, 3), (40, 6)])
def test_bmp_with_a_mask_for_alpha(cut_out, size, compression):
    bgra = np.asarray(cut_out)[..., [2, 1, 0, 3]]
    assert np.abs(decode(bmp(bgra, size, compression, BGRA)) - on_white(cut_out)).max() <= 1
    rgba = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    assert np.abs(decode(bmp(np.asarray(cut_out), size, compression, rgba)) - on_white(cut_out)).max() <= 1


@pytest.mark.parametrize(("size", "compression", "masks"), [(40, 0, BGRA), (40, 3, BGRA), (124, 3, (*BGRA[:3], 0))])
def test_bmp_without_a_mask_for_alpha_is_opaque(cut_out, size, compression, masks):
    bgra = np.asarray(cut_out)[..., [2, 1, 0, 3]]
    assert np.array_equal(decode(bmp(bgra, size, compression if masks else 0, masks)), bgra[..., :3])


def test_bmp_whose_alpha_is_nothing_but_zeros_is_opaque(photo):
    bgra = np.dstack([np.asarray(photo)[..., ::-1], np.zeros((240, 320), np.uint8)])
    assert np.array_equal(decode(bmp(bgra, 124, 3, BGRA)), bgra[..., :3])


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_opaque_pictures_with_alpha_keep_their_values(photo, format):
    data = encode(photo.convert("RGBA"), format, lossless=True)
    assert np.array_equal(decode(data), np.asarray(photo)[..., ::-1])


def test_nothing_is_mixed_where_there_is_no_alpha(photo, monkeypatch):
    monkeypatch.setattr(cv2, "multiply", lambda *_, **__: pytest.fail("an opaque picture was mixed"))
    for data in (encode(photo), encode(photo.convert("P")), encode(photo, "WEBP"), encode(photo.convert("RGBA"))):
        decode(data)
