"""Reads pictures out of a request body: multipart, one raw file, or JSON with base64.

Everything is counted while it arrives and refused as soon as it is too much. Pictures stay in memory; nothing is
written to disk, and no picture is decoded here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from fer_web.answers import FacesRequest, Options
from fer_web.problems import Problem
from fer_web.settings import MIB, Limits

_MAX_FIELDS: Final = 16
"""Parts of a multipart body that are not files. There are five options."""
_MAX_FIELD_BYTES: Final = 256
_LONGEST_NAME: Final = 255
_ACCEPTED: Final = "multipart/form-data, image/*, application/octet-stream or application/json"


@dataclass(frozen=True)
class Picture:
    """An encoded picture, as it was sent, and the name it came with."""

    content: bytes = field(repr=False)
    name: str = ""


@dataclass(frozen=True)
class Upload:
    """What a request asks."""

    pictures: list[Picture]
    options: Options


class Buffered:
    """Counts the bytes of all bodies that are held."""

    def __init__(self, limit_bytes: int) -> None:
        """Hold nothing."""
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, count: int) -> None:
        """Hold more bytes. Raises Problem where that would be too many."""
        if self.held_bytes + count > self.limit_bytes:
            raise Problem("overloaded", "Too many pictures are being received: try again a little later.")
        self.held_bytes += count


class Body:
    """A request body, counted while it arrives.

    Use it in a `with` statement: what it holds of `buffered` is returned at the end.
    """

    def __init__(self, request: Request, limits: Limits, buffered: Buffered) -> None:
        """Refuse what is refused by its head alone. Raises Problem."""
        self._request, self._limits, self._buffered = request, limits, buffered
        self._taken = 0
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise Problem("unsupported-media-type", "Content-Encoding is not accepted: send the body as it is.")
        length = request.headers.get("content-length", "0")
        if int(length) > limits.max_request_bytes:  # h11 has made sure that it is a number.
            raise self._too_large()

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._buffered.held_bytes -= self._taken

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises Problem, or ClientDisconnect where the client has left."""
        async for chunk in self._request.stream():
            if self._taken + len(chunk) > self._limits.max_request_bytes:
                raise self._too_large()
            self._buffered.take(len(chunk))
            self._taken += len(chunk)
            yield chunk

    async def read(self, limit_bytes: int, what: str) -> bytes:
        """Return the whole body. Raises as `chunks`, and Problem where it is larger than a limit."""
        content = bytearray()
        async for chunk in self.chunks():
            content += chunk
            if len(content) > limit_bytes:
                raise _file_too_large(what, limit_bytes)
        return bytes(content)

    def _too_large(self) -> Problem:
        allowed = _size(self._limits.max_request_bytes)
        return Problem("too-large", f"The request body is larger than {allowed}: send fewer or smaller pictures.")


async def read_upload(request: Request, body: Body, limits: Limits) -> Upload:
    """Read what a request asks.

    Raises:
        Problem: It cannot be read, or is too much.
        ClientDisconnect: The client has left.
    """
    with anyio.move_on_after(limits.body_timeout_s):
        upload = await _read(request, body, limits)
        if not upload.pictures:
            raise Problem("malformed-request", "There is no picture in the request: send at least one file.")
        return upload
    expected = f"expected it within {limits.body_timeout_s:g} s"
    raise Problem("slow-request", f"The request body did not arrive in time: {expected}.")


async def _read(request: Request, body: Body, limits: Limits) -> Upload:
    media_type, parameters = parse_options_header(request.headers.get("content-type"))
    query = dict(request.query_params)
    if media_type == b"multipart/form-data":
        pictures, fields = await _read_multipart(body, parameters.get(b"boundary", b""), limits)
        return Upload(pictures, read_options({**query, **fields}))
    if media_type == b"application/json":
        return await _read_json(body, query, limits)
    if media_type.startswith(b"image/") or media_type == b"application/octet-stream":
        options = read_options(query)
        content = await body.read(limits.max_image_bytes, "The picture")
        return Upload([Picture(content)] if content else [], options)
    raise Problem("unsupported-media-type", f"Expected a Content-Type of {_ACCEPTED}.")


def read_options(values: Mapping[str, Any]) -> Options:
    """Read options of a query or a form, which are all text. Raises Problem."""
    try:
        return msgspec.convert(dict(values), Options, strict=False)
    except msgspec.ValidationError as error:
        raise Problem("malformed-request", f"Options: {error}.") from error


async def _read_json(body: Body, query: Mapping[str, str], limits: Limits) -> Upload:
    content = await body.read(limits.max_request_bytes, "The body")
    try:
        sent = await anyio.to_thread.run_sync(_decode_json, content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Problem("malformed-request", f"JSON: {error}.") from error
    except RecursionError as error:
        raise Problem("malformed-request", "JSON: it is nested too deeply.") from error
    if len(sent.images) > limits.max_images:
        raise _too_many(limits)
    for image in sent.images:
        if len(image.data) > limits.max_image_bytes:
            raise _file_too_large("A picture", limits.max_image_bytes)
    options = read_options({**{name: getattr(sent, name) for name in Options.__struct_fields__}, **query})
    return Upload([Picture(image.data, clean_name(image.name)) for image in sent.images], options)


def _decode_json(content: bytes) -> FacesRequest:
    return msgspec.json.decode(content, type=FacesRequest)


async def _read_multipart(body: Body, boundary: bytes, limits: Limits) -> tuple[list[Picture], dict[str, str]]:
    if not boundary:
        raise Problem("malformed-request", "multipart/form-data: expected a boundary in the Content-Type.")
    parts = _Parts(limits)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # a TypedDict of the same names
        async for chunk in body.chunks():
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Problem("malformed-request", "multipart/form-data: the body is not what its boundary says.") from error
    if not parts.is_complete:
        raise Problem("malformed-request", "multipart/form-data: the body ends before its last boundary.")
    return parts.pictures, parts.fields


class _Parts:
    """Takes the parts of a multipart body from the parser, and refuses them as soon as they are too much."""

    def __init__(self, limits: Limits) -> None:
        self.pictures: list[Picture] = []
        self.fields: dict[str, str] = {}
        self.is_complete = False
        self._limits = limits
        self._headers: dict[bytes, bytes] = {}
        self._header_name, self._header_value = b"", b""
        self._content = bytearray()
        self._field_name, self._file_name = "", ""
        self._is_file = False

    def callbacks(self) -> dict[str, Any]:
        """Return what the parser calls, by its names for it."""
        return {
            "on_part_begin": self._headers.clear,
            "on_header_begin": self._begin_header,
            "on_header_field": self._extend_header_name,
            "on_header_value": self._extend_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._extend_content,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_header(self) -> None:
        self._header_name, self._header_value = b"", b""

    def _extend_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _extend_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value

    def _begin_content(self) -> None:
        disposition, parameters = parse_options_header(self._headers.get(b"content-disposition"))
        media_type, _ = parse_options_header(self._headers.get(b"content-type"))
        if disposition != b"form-data" or b"name" not in parameters:
            raise Problem("malformed-request", "multipart/form-data: a part has no Content-Disposition with a name.")
        if media_type.startswith(b"multipart/"):
            raise Problem("malformed-request", "multipart/form-data: expected one part for each file.")
        if self._headers.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
            raise Problem("malformed-request", "multipart/form-data: expected files as they are, not encoded again.")
        self._field_name = clean_name(parameters[b"name"].decode(errors="replace"))
        self._file_name = clean_name(parameters.get(b"filename", b"").decode(errors="replace"))
        self._is_file = b"filename" in parameters or media_type.startswith(b"image/")
        self._content = bytearray()
        if self._is_file and len(self.pictures) == self._limits.max_images:
            raise _too_many(self._limits)
        if not self._is_file and len(self.fields) == _MAX_FIELDS:
            raise Problem("malformed-request", f"multipart/form-data: expected at most {_MAX_FIELDS} fields.")

    def _extend_content(self, data: bytes, start: int, end: int) -> None:
        size = len(self._content) + end - start
        if self._is_file and size > self._limits.max_image_bytes:
            raise _file_too_large("A picture", self._limits.max_image_bytes)
        if not self._is_file and size > _MAX_FIELD_BYTES:
            raise Problem("malformed-request", f"Options: expected at most {_MAX_FIELD_BYTES} bytes for each.")
        self._content += memoryview(data)[start:end]

    def _end_part(self) -> None:
        if self._is_file:
            self.pictures.append(Picture(bytes(self._content), self._file_name))
            self._content = bytearray()
        elif self._field_name in self.fields:
            raise Problem("malformed-request", f"Options: `{self._field_name}` is given twice.")
        else:
            self.fields[self._field_name] = self._content.decode(errors="replace")

    def _end(self) -> None:
        self.is_complete = True


def clean_name(name: str) -> str:
    """Return a file's name without folders and without characters that do not print."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if unicodedata.category(c)[0] != "C")[:_LONGEST_NAME]


def _too_many(limits: Limits) -> Problem:
    return Problem("too-large", f"Expected at most {limits.max_images} pictures in one request.")


def _file_too_large(what: str, limit_bytes: int) -> Problem:
    return Problem("too-large", f"{what} is larger than {_size(limit_bytes)}: send a smaller one.")


def _size(count: int) -> str:
    return f"{count / MIB:.3g} MiB" if count >= MIB else f"{count} bytes"
