"""Read an ONNX file together with weights that it keeps in other files, which are put into it.

The whole room reads ONNX files in this way, so that what is checked, hashed, compiled and served are the same bytes. An
ONNX file is a protocol buffer; the few fields in which tensors stand are followed here, in every graph, function and
attribute, without the package `onnx`, which is not installed where a repository is assembled.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from fer_build.errors import ContractError

MAX_BYTES: Final = 512 << 20
"""Limit of a file with all its parts. The released one has 8.5 MB; a protocol buffer cannot have more than 2 GB."""
_MAX_DEPTH: Final = 100
"""Limit of the nesting of protocol buffers."""

_TENSOR: Final = "TensorProto"
INSIDE: Final[dict[str, dict[int, str]]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: _TENSOR, 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: _TENSOR,
        6: "GraphProto",
        10: _TENSOR,
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
}
"""By message: the fields that lead to tensors, and what they hold. Source: onnx.proto of ONNX 1.19."""
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
_EXTERNAL: Final = 1
_KEY, _VALUE = 1, 2

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
"""Wire types of protocol buffers."""
_OUTSIDE: Final = re.compile(r"^[/\\]|^\w:|(^|[/\\])\.\.([/\\]|$)|\0")
"""An absolute path, one of Windows, or one that goes up."""


class _BrokenError(Exception):
    """The bytes are no protocol buffer."""


class _Field(NamedTuple):
    number: int
    value: memoryview | int
    """The content, or the number."""
    whole: memoryview
    """The field with its tag and length."""


def read_onnx(path: Path) -> bytes:
    """Read an ONNX file, with all its weights inside.

    Args:
        path: The file. What it names as external data must lie in its folder.

    Returns:
        The file's own bytes where it has no external data, else those of a file that needs no other.

    Raises:
        ContractError: It is missing, broken or too large, or a part of it is missing, too short or outside the folder.
    """
    return _Inliner(path).read()


def list_parts(path: Path) -> list[str]:
    """Return the other files in which an ONNX file keeps weights, as it names them, whether they are there or not.

    Raises:
        ContractError: It is missing or broken.
    """
    inliner = _Inliner(path, only_look=True)
    inliner.read()
    return sorted(inliner.parts)


class _Inliner:
    """Reads one file."""

    def __init__(self, path: Path, only_look: bool = False) -> None:
        self._path = path
        self._only_look = only_look
        self._size = 0
        self.parts: set[str] = set()

    def read(self) -> bytes:
        if not self._path.is_file():
            raise ContractError(f"{self._path}: no such ONNX file")
        self._count(self._path.stat().st_size)
        content = self._path.read_bytes()
        try:
            return bytes(self._inline(memoryview(content), "ModelProto", 0))
        except _BrokenError:
            raise ContractError(f"{self._path}: not an ONNX file, or only the start of one") from None

    def _inline(self, message: memoryview, kind: str, depth: int) -> memoryview:
        """Return the message with all weights inside: the very same object if they are inside already."""
        if depth > _MAX_DEPTH:
            raise _BrokenError
        if kind == _TENSOR:
            return self._inline_tensor(message)
        pieces, changed = [], False
        for field in _walk(message):
            inside = INSIDE[kind].get(field.number)
            if inside is None or not isinstance(field.value, memoryview):
                pieces.append(field.whole)
                continue
            inlined = self._inline(field.value, inside, depth + 1)
            changed = changed or inlined is not field.value
            pieces.append(field.whole if inlined is field.value else memoryview(_write(field.number, inlined)))
        return memoryview(b"".join(pieces)) if changed else message

    def _inline_tensor(self, message: memoryview) -> memoryview:
        fields = list(_walk(message))
        if (_DATA_LOCATION, _EXTERNAL) not in [(field.number, field.value) for field in fields]:
            return message
        entries = dict(_read_entry(field) for field in fields if field.number == _EXTERNAL_DATA)
        self.parts.add(entries.get("location", ""))
        if self._only_look:
            return message
        kept = [f.whole for f in fields if f.number not in (_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION)]
        return memoryview(b"".join([*kept, _write(_RAW_DATA, self._read_part(entries))]))

    def _read_part(self, entries: dict[str, str]) -> bytes:
        """Return the bytes that `location`, `offset` and `length` name."""
        location = entries.get("location", "")
        told = f"{self._path}: keeps weights in the file {location!r}"
        folder = self._path.parent.resolve()
        part = folder / location
        if not location or _OUTSIDE.search(location) or not part.resolve().is_relative_to(folder):
            raise ContractError(f"{told}, which is not in its own folder: export it again, into one file")
        if not part.is_file():
            raise ContractError(f"{told}, which is missing: put it beside the ONNX file")
        size = part.stat().st_size
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", str(size - offset)))
        except ValueError:
            offset = length = -1
        if offset < 0 or length < 0 or offset + length > size:
            raise ContractError(f"{told}, which has {size:,} bytes, fewer than it should: copy it anew")
        self._count(length)
        with part.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_BYTES:
            raise ContractError(f"{self._path}: has more than {MAX_BYTES >> 20} MiB with all its weights")


def _walk(message: memoryview) -> Iterator[_Field]:
    position = 0
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        value: memoryview | int
        if tag & 7 == _VARINT:
            value, position = _read_varint(message, position)
        else:
            if tag & 7 == _BYTES:
                size, position = _read_varint(message, position)
            else:
                size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(tag & 7, len(message) + 1)
            value = message[position : position + size]
            position += size
        if position > len(message) or tag < 8:
            raise _BrokenError
        yield _Field(tag >> 3, value, message[start:position])


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read a number in groups of 7 bits, the lowest first; return it and the position behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise _BrokenError


def _write(number: int, content: bytes | memoryview) -> bytes:
    """Return a field of bytes."""
    return _write_varint(number << 3 | _BYTES) + _write_varint(len(content)) + bytes(content)


def _write_varint(number: int) -> bytes:
    groups = []
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _read_entry(field: _Field) -> tuple[str, str]:
    """Return key and value of an entry of `external_data`."""
    if not isinstance(field.value, memoryview):
        raise _BrokenError
    texts = {inner.number: inner.value for inner in _walk(field.value) if isinstance(inner.value, memoryview)}
    try:
        key, value = (bytes(texts.get(number, b"")).decode() for number in (_KEY, _VALUE))
    except UnicodeDecodeError:
        raise _BrokenError from None
    return key, value
