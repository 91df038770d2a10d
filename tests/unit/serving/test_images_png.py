"""fer_png: chunks that carry no pixels have no veto, those that do are checked, and every kind of pixel is right."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from jpeg_files import tiff
from pictures import STORED_AS, encode, encode_png_rows, png_chunk
from PIL import Image

from fer_images import ImageLimits, ImageRefusedError, decode_image

LIMITS = ImageLimits()
Chunks = Sequence[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(astronaut)).convert("RGB").crop((100, 0, 420, 240))  # 320 x 240, not square
    image.info.clear()
    return image


@pytest.fixture(scope="module")
def chunks(photo: Image.Image) -> Chunks:
    """IHDR, one IDAT, IEND."""
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(photo)))
    return [(b"IHDR", struct.pack(">IIBBBBB", 320, 240, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]


def write(chunks: Chunks) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, LIMITS, 10_000).pixels


def break_checksum(data: bytes, kind: bytes) -> bytes:
    start = data.index(kind) - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    return data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:]


def with_chunk(chunks: Chunks, kind: bytes, content: bytes, place: int = 1) -> Chunks:
    return [*chunks[:place], (kind, content), *chunks[place:]]


def split_data(chunks: Chunks, step: int, between: Chunks = ()) -> Chunks:
    header, (_, data), end = chunks
    parts = [data[start : start + step] for start in range(0, len(data), step)]
    return [header, *[chunk for part in parts for chunk in ((b"IDAT", part), *between)], end]


LARGE_TEXT = b"comment\0\0" + zlib.compress(bytes(64 << 20))

DECORATED = {
    "a compressed text of 64 MB": lambda c: write(with_chunk(c, b"zTXt", LARGE_TEXT)),
    "an international text of 64 MB": lambda c: write(
        with_chunk(c, b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(64 << 20)))
    ),
    "a text of 15 MB": lambda c: write(with_chunk(c, b"tEXt", b"a\0" + bytes(15 << 20))),
    "a text behind the pixels": lambda c: write(with_chunk(c, b"zTXt", LARGE_TEXT, place=2)),
    "a text that is no text": lambda c: write(with_chunk(c, b"iTXt", b"\xff" * 99)),
    "a wrong checksum of a text": lambda c: break_checksum(write(with_chunk(c, b"tEXt", b"a\0b")), b"tEXt"),
    "a wrong checksum of a profile": lambda c: break_checksum(write(with_chunk(c, b"iCCP", b"a\0\0b")), b"iCCP"),
    "a colour profile of 64 MB": lambda c: write(with_chunk(c, b"iCCP", LARGE_TEXT)),
    "a gamma of nothing": lambda c: write(with_chunk(c, b"gAMA", bytes(4))),
    "a gamma": lambda c: write(with_chunk(c, b"gAMA", struct.pack(">I", 100_000))),
    "a header of an animation of nothing": lambda c: write(with_chunk(c, b"acTL", bytes(8))),
    "a date that is none": lambda c: write(with_chunk(c, b"tIME", b"\xff" * 7)),
    "unknown chunks": lambda c: write(with_chunk(with_chunk(c, b"teSt", bytes(999)), b"QQQQ", b"", place=3)),
    "a suggested palette": lambda c: write(with_chunk(c, b"PLTE", bytes(9))),
    "no end": lambda c: write(c[:-1]),
    "half an end": lambda c: write(c)[:-6],
    "trailing rubbish": lambda c: write(c) + bytes(range(256)) * 1000,
    "a second picture behind it": lambda c: write(c) * 2,
    "more data than pixels": lambda c: write(
        [c[0], (b"IDAT", zlib.compress(zlib.decompress(c[1][1]) + bytes(999))), c[2]]
    ),
    "data in pieces": lambda c: write(split_data(c, 100)),
    "empty pieces of data": lambda c: write(split_data(c, 5000, [(b"IDAT", b"")])),
    "texts between pieces of data": lambda c: write(split_data(c, 5000, [(b"tEXt", b"a\0b")])),
}


@pytest.mark.parametrize("how", DECORATED)
def test_what_is_no_pixel_has_no_veto(chunks, photo, how):
    assert np.array_equal(decode(DECORATED[how](chunks)), np.asarray(photo)[..., ::-1])


def test_a_large_text_is_never_unpacked(chunks):
    data = write(with_chunk(chunks, b"zTXt", LARGE_TEXT))
    tracemalloc.start()
    decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


DAMAGED = {
    "a wrong checksum of the data": lambda c: break_checksum(write(c), b"IDAT"),
    "a wrong checksum inside the data": lambda c: write([c[0], (b"IDAT", c[1][1][:-4] + b"0000"), c[2]]),
    "a third of the data missing": lambda c: write([c[0], (b"IDAT", c[1][1][: len(c[1][1]) * 2 // 3]), c[2]]),
    "the last row missing": lambda c: write([c[0], (b"IDAT", zlib.compress(zlib.decompress(c[1][1])[:-961])), c[2]]),
    "data lost in the middle": lambda c: write([c[0], (b"IDAT", c[1][1][:5000] + c[1][1][5300:]), c[2]]),
    "a piece of the data lost": lambda c: write(split_data(c, 5000)[:3] + split_data(c, 5000)[4:]),
    "a piece of the data doubled": lambda c: write(split_data(c, 5000)[:4] + split_data(c, 5000)[3:]),
    "no data": lambda c: write([c[0], c[2]]),
    "two headers": lambda c: write([c[0], c[0], *c[1:]]),
    "an unknown filter": lambda c: write(
        [c[0], (b"IDAT", zlib.compress(b"\x09" + zlib.decompress(c[1][1])[1:])), c[2]]
    ),
    "a million chunks": lambda c: write(c[:1]) + png_chunk(b"teSt", b"") * 1_000_000 + write(c[1:])[8:],
}


@pytest.mark.parametrize("how", DAMAGED)
def test_missing_or_wrong_pixels_are_refused(chunks, how):
    with pytest.raises(ImageRefusedError, match="the PNG file of 320x240 px is truncated or corrupt: .* Send a whole"):
        decode(DAMAGED[how](chunks))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: break_checksum(write(c), b"IHDR"),
        lambda c: write([(b"IHDR", bytes(8) + c[0][1][8:]), *c[1:]]),
        lambda c: write(c[1:]),
        lambda c: write([(b"CgBI", bytes(4)), *c]),
        lambda c: write(c)[:30],
    ],
    ids=["checksum", "no size", "no header", "Apple's own", "only the start"],
)
def test_a_header_that_can_t_be_read_is_no_image(chunks, spoil):
    with pytest.raises(ImageRefusedError, match="not an image that can be read, or only the start of one"):
        decode(spoil(chunks))


def test_a_damaged_palette_is_refused(photo):
    data = encode(photo.quantize(64))
    with pytest.raises(ImageRefusedError, match="truncated or corrupt"):
        decode(break_checksum(data, b"PLTE"))
    without = data.replace(b"PLTE", b"plTe")
    with pytest.raises(ImageRefusedError, match="truncated or corrupt"):
        decode(without)


def test_the_first_frame_of_an_animation_is_taken(photo):
    data = encode(photo, save_all=True, append_images=[photo.rotate(90), photo.rotate(180)])
    assert b"acTL" in data
    assert np.array_equal(decode(data), np.asarray(photo)[..., ::-1])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["gray", "palette"])
def test_few_bits_are_scaled(photo, bits, kind):
    levels = 1 << bits
    numbers = np.asarray(photo.convert("L")).astype(int) * levels // 256
    rows = b"".join(b"\0" + pack(row, bits) for row in numbers)
    palette = np.random.default_rng(1).integers(0, 256, (levels, 3), dtype=np.uint8)
    header = struct.pack(">IIBBBBB", 320, 240, bits, 0 if kind == "gray" else 3, 0, 0, 0)
    extra = [] if kind == "gray" else [(b"PLTE", palette.tobytes())]
    data = write([(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    gray = (numbers * 255 // (levels - 1)).astype(np.uint8)
    expected = np.repeat(gray[..., None], 3, axis=2) if kind == "gray" else palette[numbers][..., ::-1]
    assert np.array_equal(decode(data), expected)


def pack(row: np.ndarray, bits: int) -> bytes:
    text = "".join(format(number, f"0{bits}b") for number in row.tolist())
    return int(text, 2).to_bytes(len(text) // 8, "big")


def test_interlaced_rows_are_put_in_order(photo):
    pixels = np.asarray(photo)
    rows = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[y::dy, x::dx])
    header = struct.pack(">IIBBBBB", 320, 240, 8, 2, 0, 0, 1)
    data = write([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    assert np.array_equal(decode(data), pixels[..., ::-1])


def test_a_single_chunk_of_many_megabytes_is_decoded():
    noise = np.random.default_rng(0).integers(0, 256, (2000, 1700, 3), dtype=np.uint8)
    assert np.array_equal(decode(encode_png_rows(noise, 2)), noise[..., ::-1])


@pytest.mark.parametrize("place", [1, 2], ids=["before", "behind"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_orientation_is_read_before_and_behind_the_pixels(chunks, orientation, place):
    turned = decode(write(with_chunk(chunks, b"eXIf", tiff(orientation), place)))
    expected = {1: lambda p: p, 6: lambda p: np.rot90(p, -1), 3: lambda p: np.rot90(p, 2), 8: np.rot90}
    if orientation in expected:
        assert np.array_equal(turned, expected[orientation](decode(write(chunks))))
    assert turned.shape[:2] == ((240, 320) if orientation < 5 else (320, 240))


def test_a_damaged_exif_chunk_turns_nothing(chunks):
    data = break_checksum(write(with_chunk(chunks, b"eXIf", tiff(6))), b"eXIf")
    assert np.array_equal(decode(data), decode(write(chunks)))
