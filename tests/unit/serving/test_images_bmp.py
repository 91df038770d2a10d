"""fer_bmp: every header, depth, mask and order of rows that a BMP file may have, each to the pixel."""

import io
import struct

import numpy as np
import pytest
from pictures import encode
from PIL import Image

from fer_images import ImageLimits, ImageRefusedError, decode_image

LIMITS = ImageLimits()
INFO, V2, V3, V4, V5, OS2 = 40, 52, 56, 108, 124, 64
HEADERS = (INFO, V2, V3, V4, V5)
RGB, RLE8, RLE4, MASKS, JPEG, PNG, MASKS_WITH_ALPHA = range(7)


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> Image.Image:
    return Image.open(io.BytesIO(astronaut)).convert("RGB").crop((100, 0, 417, 240))  # 317 x 240: rows are filled up


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, LIMITS, 10_000).pixels


def write(
    rows: list[bytes],
    width: int,
    bits: int,
    size: int = INFO,
    compression: int = RGB,
    masks: tuple[int, ...] = (),
    palette: bytes = b"",
    top_down: bool = False,
    gap: int = 0,
    colours: int = 0,
) -> bytes:
    """A BMP file of rows from top to bottom."""
    stored = rows if top_down else rows[::-1]
    pixels = b"".join(row + bytes(-len(row) % 4) for row in stored)
    return write_raw(
        pixels, width, -len(rows) if top_down else len(rows), bits, size, compression, masks, palette, gap, colours
    )


def write_raw(
    pixels, width, height, bits, size=INFO, compression=RGB, masks=(), palette=b"", gap=0, colours=0
) -> bytes:
    if size == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, 0, 0, 0, colours, 0)[:size]
        inside = b"".join(struct.pack("<I", mask) for mask in masks)
        header += inside if size == INFO else inside.ljust(max(0, size - INFO), b"\0")[: max(0, size - INFO)]
    start = 14 + len(header) + len(palette) + gap
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + header + palette + bytes(gap) + pixels


def pack(numbers: np.ndarray, bits: int) -> list[bytes]:
    """Rows of numbers of 1 to 8 bits."""
    per_byte = 8 // bits
    padded = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % per_byte)))
    grouped = padded.reshape(len(numbers), -1, per_byte).astype(int)
    return [row.astype(np.uint8).tobytes() for row in (grouped << np.arange(8 - bits, -1, -bits)).sum(axis=2)]


def scale(values: np.ndarray, bits: int) -> np.ndarray:
    return ((values.astype(float) * 255 / ((1 << bits) - 1)) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("size", HEADERS)
@pytest.mark.parametrize("bits", [24, 32])
def test_plain_colours(photo, bits, size, top_down):
    bgr = np.asarray(photo)[..., ::-1]
    stored = bgr if bits == 24 else np.dstack([bgr, np.random.default_rng(0).integers(0, 256, bgr.shape[:2], np.uint8)])
    data = write([row.tobytes() for row in stored], 317, bits, size, top_down=top_down)
    assert np.array_equal(decode(data), bgr)  # without a mask for it, the fourth byte means nothing


@pytest.mark.parametrize("size", [12, 16, INFO, OS2, V4, V5])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(photo, bits, size):
    levels = 1 << bits
    numbers = np.asarray(photo.convert("L")) // (256 // levels)
    colours = np.random.default_rng(1).integers(0, 256, (levels, 3), dtype=np.uint8)
    entries = colours if size == 12 else np.pad(colours, ((0, 0), (0, 1)))
    data = write(pack(numbers, bits), 317, bits, size, palette=entries.tobytes(), gap=6)
    assert np.array_equal(decode(data), colours[numbers])


def test_a_short_palette_leaves_the_rest_black(photo):
    numbers = np.asarray(photo.convert("L")) // 16
    colours = np.random.default_rng(1).integers(0, 256, (10, 4), dtype=np.uint8)
    data = write(pack(numbers, 8), 317, 8, palette=colours.tobytes(), colours=10)
    assert np.array_equal(decode(data), np.vstack([colours[:, :3], np.zeros((6, 3), np.uint8)])[numbers])


def test_a_palette_of_24_bit_colours_is_passed_over(photo):
    bgr = np.asarray(photo)[..., ::-1]
    data = write([row.tobytes() for row in bgr], 317, 24, palette=bytes(400), colours=100)
    assert np.array_equal(decode(data), bgr)


@pytest.mark.parametrize("size", HEADERS)
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF800, 0x07E0, 0x001F)),
        (16, (0x7C00, 0x03E0, 0x001F)),
        (16, (0x0F00, 0x00F0, 0x000F)),
        (16, (0x000F, 0x00F0, 0x0F00)),
        (32, (0xFF0000, 0x00FF00, 0x0000FF)),
        (32, (0x0000FF, 0x00FF00, 0xFF0000)),
        (32, (0xFF000000, 0x00FF0000, 0x0000FF00)),
        (32, (0x3FF00000, 0x000FFC00, 0x000003FF)),
        (32, (0xFFE00000, 0x001FFC00, 0x000003FF)),
    ],
)
def test_any_masks(photo, bits, masks, size):
    rgb = np.asarray(photo).astype(np.uint64)
    values, expected = np.zeros(rgb.shape[:2], np.uint64), []
    for channel, mask in zip(np.moveaxis(rgb, 2, 0), masks, strict=True):
        shift = (mask & -mask).bit_length() - 1
        width = mask.bit_length() - shift
        stored = channel << (width - 8) if width > 8 else channel >> (8 - width)
        values |= stored << shift
        expected.append(scale(stored >> max(0, width - 8), min(width, 8)))
    rows = [row.astype(f"<u{bits // 8}").tobytes() for row in values]
    data = (
        write(rows, 317, bits, size, MASKS, (*masks, 0)) if size > INFO else write(rows, 317, bits, size, MASKS, masks)
    )
    assert np.abs(decode(data).astype(int) - np.dstack(expected[::-1])).max() == 0


def test_masks_of_nothing_are_the_usual_ones(photo):
    bgr = np.asarray(photo)[..., ::-1]
    stored = np.dstack([bgr, np.zeros(bgr.shape[:2], np.uint8)])
    data = write([row.tobytes() for row in stored], 317, 32, V4, MASKS, (0, 0, 0, 0))
    assert np.array_equal(decode(data), bgr)


def test_16_bits_without_masks_are_5_each(photo):
    rgb = np.asarray(photo).astype(int) >> 3
    values = rgb[..., 0] << 10 | rgb[..., 1] << 5 | rgb[..., 2]
    data = write([row.astype("<u2").tobytes() for row in values], 317, 16)
    assert np.array_equal(decode(data), scale(rgb, 5)[..., ::-1])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_what_pillow_writes(photo, mode):
    image = photo.convert(mode)
    assert np.array_equal(decode(encode(image, "BMP")), np.asarray(image.convert("RGB"))[..., ::-1])


def run_lengths(numbers: np.ndarray) -> bytes:
    """RLE8, of runs and of literal stretches in turn."""
    coded = b""
    for row in numbers[::-1]:
        position = 0
        while position < len(row):
            same = 1
            while same < 255 and position + same < len(row) and row[position + same] == row[position]:
                same += 1
            if same < 3 and len(row) - position >= 5:
                coded += b"\0\5" + row[position : position + 5].tobytes() + b"\0"
                position += 5
            else:
                coded += bytes((same, row[position]))
                position += same
        coded += b"\0\0"
    return coded + b"\0\1"


def test_run_lengths_of_8_bits(photo):
    numbers = np.asarray(photo.convert("L")) // 4 * 4
    colours = np.random.default_rng(1).integers(0, 256, (256, 4), dtype=np.uint8)
    data = write_raw(run_lengths(numbers), 317, 240, 8, INFO, RLE8, (), colours.tobytes())
    assert np.array_equal(decode(data), colours[numbers][..., :3])


def test_run_lengths_of_4_bits():
    colours = np.random.default_rng(1).integers(0, 256, (16, 4), dtype=np.uint8)
    row = b"".join(bytes((20, number << 4 | number)) for number in range(16)) + b"\0\0"
    data = write_raw(row * 50 + b"\0\1", 320, 50, 4, INFO, RLE4, (), colours.tobytes())
    assert np.array_equal(decode(data), np.tile(colours[np.arange(320) // 20, :3], (50, 1, 1)))


def test_run_lengths_may_be_top_down(photo):
    """Against the specification, and read by all."""
    numbers = np.asarray(photo.convert("L")) // 4 * 4
    colours = np.random.default_rng(1).integers(0, 256, (256, 4), dtype=np.uint8)
    data = write_raw(run_lengths(numbers[::-1]), 317, -240, 8, INFO, RLE8, (), colours.tobytes())
    assert np.array_equal(decode(data), colours[numbers][..., :3])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("start", [0, 2**31, 20, 54])
def test_a_senseless_start_of_the_pixels_is_where_they_must_be(photo, mode, start):
    data = encode(photo.convert(mode), "BMP")
    assert np.array_equal(decode(data[:10] + struct.pack("<I", start) + data[14:]), decode(data))


def test_the_filling_of_the_last_row_may_be_missing(photo):
    data = write([row.tobytes() for row in np.asarray(photo)[..., ::-1]], 317, 24)
    assert np.array_equal(decode(data[:-1]), decode(data))
    with pytest.raises(ImageRefusedError, match="BMP file of 317x240 px is truncated or corrupt: its data end before"):
        decode(data[:-2])


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_run_lengths_that_end_early_are_refused(photo, kept):
    numbers = np.asarray(photo.convert("L")) // 4 * 4
    coded = run_lengths(numbers)
    data = write_raw(coded[: int(len(coded) * kept)], 317, 240, 8, INFO, RLE8, (), bytes(1024))
    with pytest.raises(ImageRefusedError, match="BMP file of 317x240 px is truncated or corrupt"):
        decode(data)


@pytest.mark.parametrize(
    ("bits", "size", "compression"),
    [(24, INFO, JPEG), (24, INFO, PNG), (1, OS2, 3), (24, OS2, 4), (3, INFO, RGB), (64, INFO, RGB), (8, INFO, 77)],
)
def test_rare_kinds_are_refused_by_name(bits, size, compression):
    data = write_raw(bytes(1000), 10, 10, bits, size, compression)
    with pytest.raises(ImageRefusedError, match=f"a rare kind .{bits} bits a pixel, compression {compression}.* PNG"):
        decode(data)


@pytest.mark.parametrize(
    ("width", "height", "size"), [(0, 10, INFO), (-10, 10, INFO), (10, 0, INFO), (10, 10, 13), (10, 10, 2**31)]
)
def test_a_header_that_makes_no_sense_is_no_image(width, height, size):
    header = struct.pack("<IiiHHIIiiII", size, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ImageRefusedError, match="not an image that can be read"):
        decode(struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54) + header + bytes(400))


@pytest.mark.parametrize("height", [10_000, -(2**31)])
def test_the_pixel_limit_holds(height):
    with pytest.raises(ImageRefusedError, match="is over the limit of 50,000,000 pixels"):
        decode(write_raw(bytes(400), 10_000, height, 24))
