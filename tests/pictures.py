"""Pictures that tests send: drawn or re-encoded here, none but the shipped photo comes from a camera."""

import io
import struct
import zlib
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fer_contract import IMAGE

# EXIF orientation -> what a camera held that way did to the upright picture.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """One image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def encode_turned(upright: Image.Image, orientation: int, format: str = "JPEG") -> bytes:
    """A file whose pixels are stored as EXIF `orientation` says, so that a viewer shows `upright`."""
    transpose = STORED_AS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if transpose is None else upright.transpose(transpose)
    return encode(stored, format, exif=exif)


def encode_png_rows(rows: npt.NDArray[np.uint16] | npt.NDArray[np.uint8], color_type: int) -> bytes:
    """A PNG of (height, width, channels) samples, 8 or 16 bits each: Pillow cannot write 16-bit colour."""
    height, width = rows.shape[:2]
    bits = rows.dtype.itemsize * 8
    big_endian = rows.astype(rows.dtype.newbyteorder(">")).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in big_endian)
    return png_file(width, height, zlib.compress(data), bits, color_type)


def png_file(width: int, height: int, compressed: bytes, bits: int = 8, color_type: int = 2) -> bytes:
    """A PNG with any header in front of any data: also one that lies."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", compressed) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def contact_sheet(face: Image.Image, columns: int, rows: int) -> Image.Image:
    """The same face many times, each a little smaller than the one before."""
    sheet = Image.new("RGB", (columns * (face.width + 10), rows * (face.height + 10)))
    for index in range(columns * rows):
        shrink = 1 - 0.3 * index / (columns * rows)
        smaller = face.resize((round(face.width * shrink), round(face.height * shrink)))
        row, column = divmod(index, columns)
        sheet.paste(smaller, (column * (face.width + 10), row * (face.height + 10)))
    return sheet


def image_tensor(client_module: ModuleType, data: bytes) -> Any:
    """IMAGE as an InferInput of `tritonclient.http` or `tritonclient.grpc`."""
    tensor = client_module.InferInput(IMAGE, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([data], np.object_))
    return tensor


def intersection_over_union(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """IoU of two boxes x_min, y_min, x_max, y_max."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
