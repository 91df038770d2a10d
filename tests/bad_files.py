"""Files that are no pictures, or no longer, or too large: each made of the shipped photo or drawn here."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from pictures import encode, encode_png_rows, encode_turned, png_chunk, png_file
from PIL import Image

MAX_PIXELS = 50_000_000
"""`max_image_pixels` of fer_preprocess."""


def photo_as_jpeg(astronaut: bytes) -> bytes:
    return encode(Image.open(io.BytesIO(astronaut)).convert("RGB"), "JPEG")


BAD_FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda astronaut: b"",
    "random": lambda astronaut: np.random.default_rng(0).bytes(10_000),
    "HTML": lambda astronaut: b"<!doctype html><html><body>404 Not Found</body></html>",
    "GIF": lambda astronaut: encode(Image.new("P", (100, 100)), "GIF"),
    **{
        f"JPEG cut to {kept:.1%}": lambda astronaut, kept=kept: (data := photo_as_jpeg(astronaut))[
            : int(len(data) * kept)
        ]
        for kept in (0.001, 0.01, 0.1, 0.5, 0.9, 0.999)
    },
    "PNG cut in half": lambda astronaut: astronaut[: len(astronaut) // 2],
    "PNG that claims 60000x60000": lambda astronaut: png_file(60_000, 60_000, b""),
    "PNG that claims more than it has": lambda astronaut: png_file(1000, 1000, b""),
    "large PNG cut in half": lambda astronaut: (data := encode(Image.new("RGB", (8000, 6000), "teal")))[
        : len(data) // 2
    ],
    "PNG over the pixel limit": lambda astronaut: encode(Image.new("1", (10_000, 5_001))),
    "over the byte limit": lambda astronaut: astronaut + bytes(20 * 1024 * 1024),
}
"""What it is -> the file, made of the bytes of examples/astronaut.png."""


def every_kind(photo: Image.Image) -> dict[str, bytes]:
    """The same small picture in every kind of file that is accepted."""
    small = photo.resize((160, 160))
    clear = small.copy()
    clear.putalpha(Image.linear_gradient("L").resize(small.size))
    samples = np.asarray(small).astype(np.uint16) * 257
    return {
        "JPEG": encode(small, "JPEG"),
        "progressive JPEG": encode(small, "JPEG", progressive=True),
        "CMYK JPEG": encode(small.convert("CMYK"), "JPEG"),
        "turned JPEG": encode_turned(small, 6),
        "PNG": encode(small),
        "palette PNG": encode(small.convert("P")),
        "16-bit PNG": encode_png_rows(samples, 2),
        "WebP": encode(small, "WEBP"),
        "lossless WebP": encode(small, "WEBP", lossless=True),
        "transparent PNG": encode(clear),
        "PNG with a transparent colour": encode(small, transparency=small.getpixel((80, 80))),
        "palette PNG with a transparent colour": encode(small.convert("P"), transparency=3),
        "transparent WebP": encode(clear, "WEBP"),
        "transparent animated WebP": encode(clear, "WEBP", save_all=True, append_images=[clear.rotate(90)]),
        "palette BMP": encode(small.convert("P"), "BMP"),
        "animated WebP": encode(small, "WEBP", save_all=True, append_images=[small.rotate(90)]),
        "BMP": encode(small, "BMP"),
    }


def spoilt(kinds: dict[str, bytes], rng: np.random.Generator, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` files of every kind with something wrong in them, each with a name that says what."""
    names = list(kinds)
    for index in range(count):
        kind, other = (names[i] for i in rng.integers(0, len(names), 2))
        spoil = _WAYS_TO_SPOIL[index % len(_WAYS_TO_SPOIL)]
        yield f"{index}: {kind}, {spoil.__name__.strip('_')}", spoil(kinds[kind], kinds[other], rng)


def _flipped(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    spoilt = bytearray(data)
    reach = len(spoilt) if rng.random() < 0.5 else min(len(spoilt), 200)  # half of the time in the header
    for position in rng.integers(0, reach, 1 << int(rng.integers(0, 7))):
        spoilt[position] ^= 1 << int(rng.integers(0, 8))
    return bytes(spoilt)


def _truncated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def _overwritten(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 500))
    filling = rng.bytes(length) if rng.random() < 0.5 else bytes([rng.integers(0, 256)]) * length
    return data[:start] + filling + data[start + length :]


def _shortened(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(int(i) for i in rng.integers(0, len(data), 2))
    return data[:start] + data[end:]


def _repeated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(int(i) for i in rng.integers(0, len(data), 2))
    return data[:end] + data[start:end] * int(rng.integers(1, 4)) + data[end:]


def _spliced(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


def _lying(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The header says another size than the pixels have."""
    sides = (0, 1, 7_071, 16_383, 65_535, 2**24 - 1, 2**31 - 1, 2**32 - 1, int(rng.integers(2, 20_000)))
    width, height = (sides[i] for i in rng.integers(0, len(sides), 2))
    if data.startswith(b"\x89PNG"):
        return data[:8] + png_chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29]) + data[33:]
    if data.startswith(b"BM"):
        return data[:18] + struct.pack("<II", width, height) + data[26:]
    if data.startswith(b"RIFF"):
        return data[:24] + struct.pack("<II", width, height)[: 2 + 4 * (data[12:16] == b"VP8X")] + data[30:]
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: frame + 5] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + data[frame + 9 :]


_WAYS_TO_SPOIL = (_flipped, _truncated, _overwritten, _shortened, _repeated, _spliced, _lying)


def bombs() -> dict[str, bytes]:
    """Small files that ask for as much work or memory as is accepted, or for more."""
    side = int(MAX_PIXELS**0.5)
    largest = Image.new("RGB", (side, side), "teal")
    flat = zlib.compress(bytes(64 << 20), 9)
    pixels = zlib.compress(bytes(4), 9)
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)

    def png_with(kind: bytes, content: bytes) -> bytes:
        chunks = (b"IHDR", header), (kind, content), (b"IDAT", pixels), (b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)

    return {
        "PNG at the pixel limit": encode(largest),
        "gray PNG at the pixel limit, turned": encode_turned(largest.convert("L"), 5, "PNG"),
        "JPEG at the pixel limit": encode(largest, "JPEG"),
        "JPEG at the pixel limit, turned": encode_turned(largest, 6),
        "CMYK JPEG at the pixel limit": encode(largest.convert("CMYK"), "JPEG"),
        "progressive JPEG at the pixel limit": encode(largest, "JPEG", progressive=True),
        "progressive JPEG at the pixel limit with 16 scans": with_scans(largest, 16),
        "progressive JPEG with 200,000 scans": with_scans(largest, 200_000),
        "80x80 px in 120,000 scans": with_scans(Image.new("L", (80, 80)), 120_000),
        "1x1 px in 1,400,000 scans": with_scans(Image.new("L", (1, 1)), 1_400_000),
        "WebP at the pixel limit": encode(Image.new("RGB", (16_383, 3_051), "teal"), "WEBP"),
        "lossless WebP at the pixel limit": encode(Image.new("RGB", (16_383, 3_051), "teal"), "WEBP", lossless=True),
        "PNG that unpacks to 10 GB": png_file(100_000, 100_000, flat),
        "PNG with a colour profile of 64 MB": png_with(b"iCCP", b"a\0\0" + flat),
        "PNG with a text of 64 MB": png_with(b"zTXt", b"a\0\0" + flat),
        "PNG one px high": png_file(MAX_PIXELS, 1, flat),
        "BMP of 50 megapixels in one run": _run_length_bmp(side),
        "JPEG of four million comments": b"\xff\xd8" + b"\xff\xfe\0\2" * 4_000_000,
        "PNG of a million texts": png_with(b"tEXt", b"")[:33] + png_chunk(b"tEXt", b"") * 1_000_000,
        **{name: make() for name, make in TRANSPARENT_BOMBS.items()},
    }


_SIDE = int(MAX_PIXELS**0.5)
TRANSPARENT_BOMBS: dict[str, Callable[[], bytes]] = {
    "transparent PNG at the pixel limit": lambda: encode(Image.new("RGBA", (_SIDE, _SIDE), (0, 128, 128, 100))),
    "transparent PNG of 16 bits at the pixel limit": lambda: png_file(
        _SIDE, _SIDE, zlib.compress(bytes(1 + 8 * _SIDE) * _SIDE, 1), 16, 6
    ),
    "PNG with a transparent colour at the pixel limit": lambda: encode(
        Image.new("RGB", (_SIDE, _SIDE), "teal"), transparency=(0, 128, 128)
    ),
    "transparent WebP at the pixel limit": lambda: encode(
        Image.new("RGBA", (16_383, 3_051), (0, 128, 128, 100)), "WEBP"
    ),
}
"""Pictures that have to be put on white, all of them."""


def with_scans(flat: Image.Image, count: int) -> bytes:
    """A gray progressive JPEG with scans of nothing at its end until there are `count` of them: all in order."""
    data = encode(flat.convert("L"), "JPEG", progressive=True)
    last_scan = bytearray(data[data.rindex(b"\xff\xda") : -2])
    last_scan[9] = 0  # not the refinement of another scan's bits, which is allowed only once
    return data[:-2] + bytes(last_scan) * (count - data.count(b"\xff\xda")) + data[-2:]


def _run_length_bmp(side: int) -> bytes:
    """8 bits a pixel, RLE8: nothing but an end-of-bitmap mark for side x side px."""
    palette = bytes(4 * 256)
    start = 14 + 40 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + 2, 0, 0, start)
    return head + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 2, 0, 0, 256, 0) + palette + b"\x00\x01"
