"""JPEG files taken apart and put together again, and a small encoder for what Pillow does not write."""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from pictures import encode
from PIL import Image

SOI, EOI, SOS, DQT, DHT, DRI, DNL, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xDC, 0xFE
SOF0, APP0, APP1, APP2, APP13, APP14 = 0xC0, 0xE0, 0xE1, 0xE2, 0xED, 0xEE
END = b"\xff\xd9"


@dataclass
class Segment:
    """A segment of a file; of a scan also the data behind its header."""

    marker: int
    content: bytes
    data: bytes = b""

    def write(self) -> bytes:
        return segment(self.marker, self.content) + self.data


def segment(marker: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def take_apart(file: bytes) -> list[Segment]:
    """The segments of a file that an encoder wrote, between the first mark and the last."""
    position, found = 2, []
    while file[position + 1] != EOI:
        end = position + 2 + int.from_bytes(file[position + 2 : position + 4], "big")
        found.append(Segment(file[position + 1], file[position + 4 : end]))
        if file[position + 1] == SOS:
            behind = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL).search(file, end)
            found[-1].data = file[end : behind.start()]
            end = behind.start()
        position = end
    return found


def put_together(segments: Sequence[Segment], end: bytes = END) -> bytes:
    return b"\xff\xd8" + b"".join(part.write() for part in segments) + end


def change_scan(file: bytes, change, which: int = 0) -> bytes:
    """The file with other data in one of its scans: `change` is given them."""
    segments = take_apart(file)
    scan = [part for part in segments if part.marker == SOS][which]
    scan.data = change(scan.data)
    return put_together(segments)


def insert(file: bytes, marker: int, what: bytes) -> bytes:
    """The file with something in front of its first segment of a kind."""
    parts = [part.write() for part in take_apart(file)]
    index = next(index for index, part in enumerate(parts) if part[1] == marker)
    return b"\xff\xd8" + b"".join([*parts[:index], what, *parts[index:]]) + END


def with_exif(file: bytes, tiff: bytes) -> bytes:
    return file[:2] + segment(APP1, b"Exif\0\0" + tiff) + file[2:]


def tiff(orientation: int, order: str = "<", kind: int = 3, at: int = 8) -> bytes:
    """An EXIF block of one entry in its first directory, which begins `at` this byte."""
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], orientation)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, at)
    entry = struct.pack(order + "HHHI", 1, 0x0112, kind, 1) + value
    return head + bytes(at - 8) + entry + struct.pack(order + "I", 0)


_ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i % 8 if (i // 8 + i % 8) % 2 == 0 else i // 8))


def encode_sampled(
    picture: Image.Image, sampling: Sequence[tuple[int, int]], restart: int = 0, height: int | None = None
) -> bytes:
    """A baseline JPEG with any sampling factors.

    Args:
        picture: what to encode.
        sampling: horizontal and vertical factor of Y, Cb and Cr.
        restart: blocks of all components between two restart markers; 0 for none.
        height: what the header says, if that is not the picture's own.
    """
    planes = np.asarray(picture.convert("YCbCr")).astype(np.float32) - 128
    rows, columns = planes.shape[:2]
    wide, high = (max(factors) for factors in zip(*sampling, strict=True))
    across, down = -(-columns // (8 * wide)), -(-rows // (8 * high))
    padded = np.pad(planes, ((0, down * 8 * high - rows), (0, across * 8 * wide - columns), (0, 0)), "edge")
    tables = [part for part in take_apart(encode(picture.convert("YCbCr"), "JPEG", quality=90)) if part.marker == DHT]
    codes = {part.content[0]: _codes(part.content) for part in tables}
    quant = np.full((8, 8), 4)
    blocks = []
    for plane, (h, v) in zip(np.moveaxis(padded, 2, 0), sampling, strict=True):
        small = cv2.resize(plane, (across * 8 * h, down * 8 * v), interpolation=cv2.INTER_AREA)
        blocks.append(np.stack([_transform(small, y, x, quant) for y in range(down * v) for x in range(across * h)]))
    writer, before, scan, count = _Bits(), [0, 0, 0], b"", 0
    for unit in range(across * down):
        if restart and unit and unit % restart == 0:
            scan, writer, before = scan + writer.finish() + bytes((0xFF, 0xD0 + count % 8)), _Bits(), [0, 0, 0]
            count += 1
        for index, (h, v) in enumerate(sampling):
            for block in range(h * v):
                row, column = unit // across * v + block // h, unit % across * h + block % h
                coefficients = blocks[index][row * across * h + column]
                _encode_block(writer, coefficients, before[index], codes[min(index, 1)], codes[16 + min(index, 1)])
                before[index] = int(coefficients[0])
    frame = struct.pack(">BHHB", 8, rows if height is None else height, columns, 3)
    frame += b"".join(bytes((i + 1, h << 4 | v, 0)) for i, (h, v) in enumerate(sampling))
    segments = [Segment(DQT, b"\0" + bytes(64 * [4])), Segment(SOF0, frame), *tables]
    if restart:
        segments.append(Segment(DRI, struct.pack(">H", restart)))
    return put_together([*segments, Segment(SOS, b"\3\1\0\2\x11\3\x11\0\x3f\0", scan + writer.finish())])


def _transform(plane: npt.NDArray[np.float32], row: int, column: int, quant: npt.NDArray[np.int64]):
    block = np.ascontiguousarray(plane[8 * row : 8 * row + 8, 8 * column : 8 * column + 8])
    return np.rint(cv2.dct(block) / quant).astype(int).ravel()[_ZIGZAG]


def _encode_block(writer, coefficients, before: int, dc, ac) -> None:
    difference = int(coefficients[0]) - before
    writer.add(*dc[abs(difference).bit_length()])
    writer.add_number(difference)
    run = 0
    for value in np.trim_zeros(coefficients[1:], "b").tolist():
        if value == 0:
            run += 1
            continue
        for _ in range(run // 16):
            writer.add(*ac[0xF0])
        writer.add(*ac[run % 16 << 4 | abs(value).bit_length()])
        writer.add_number(value)
        run = 0
    if not coefficients[63]:
        writer.add(*ac[0])


def _codes(table: bytes) -> dict[int, tuple[int, int]]:
    """Symbol -> its code and how many bits that has."""
    codes, code, position = {}, 0, 17
    for length, count in enumerate(table[1:17], 1):
        for symbol in table[position : position + count]:
            codes[symbol] = (code, length)
            code += 1
        position += count
        code <<= 1
    return codes


class _Bits:
    """Bits in their order, as the bytes of a scan."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def add(self, code: int, length: int) -> None:
        self._bits.append(format(code, f"0{length}b"))

    def add_number(self, value: int) -> None:
        """The lowest bits of a number; of a negative one, of that less one."""
        length = abs(value).bit_length()
        if length:
            self.add(value if value > 0 else value + (1 << length) - 1, length)

    def finish(self) -> bytes:
        bits = "".join(self._bits)
        bits += "1" * (-len(bits) % 8)
        return int(bits or "1" * 8, 2).to_bytes(max(1, len(bits) // 8), "big").replace(b"\xff", b"\xff\0")
