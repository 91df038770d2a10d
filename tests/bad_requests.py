"""Requests that are wrong in themselves, whatever image they carry: over HTTP and over gRPC, and what they may get.

Triton 2.51 answers some of them in ways of its own, which are stated here as they are: JSON that cannot be read, or has
another type than expected somewhere, gets 500; an unknown Content-Encoding 501; bytes that are no gRPC message
INTERNAL; and HTTP that it cannot make out is answered by closing the connection.
"""

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import grpc
import numpy as np
from bad_files import bombs, every_kind, spoilt
from PIL import Image
from raw_requests import (
    CLOSED,
    Answer,
    ask_grpc,
    ask_grpc_bytes,
    ask_http,
    grpc_message,
    http_request,
    infer_request,
)
from tritonclient.grpc import service_pb2

from fer_contract import FER_CROPPED_MODEL, FER_MODEL, IMAGE

NOT_JSON = r"parse|JSON|attempt to|request params"
"""How Triton's front end words the errors for which it answers 500."""


@dataclass(frozen=True)
class Served:
    """Where to send requests."""

    http_url: str
    channel: grpc.Channel


@dataclass(frozen=True)
class BadRequest:
    """One bad request and the answers that are right for it."""

    name: str
    send: Callable[[Served], Answer]
    answers: frozenset[int | str]
    says: str
    """A regular expression that the message of a refusal must contain."""


_Case = tuple[str, bytes, int | str | set[int | str], str]
"""Name, HTTP request, right status or statuses, what a refusal says."""


def bad_images(photo: Image.Image, rng: np.random.Generator, count: int) -> Iterator[BadRequest]:
    """`count` spoilt files and all bombs, to both models, over both protocols in turn."""
    files = [*spoilt(every_kind(photo), rng, count), *bombs().items()]
    for index, (name, data) in enumerate(files):
        model = (FER_MODEL, FER_CROPPED_MODEL)[index // 2 % 2]
        if index % 2:
            yield BadRequest(f"{name}, http", _http(infer_request(data, model=model)), frozenset({200, 400}), "IMAGE: ")
        else:
            answers = frozenset({"OK", "INVALID_ARGUMENT"})
            yield BadRequest(f"{name}, grpc", _grpc(grpc_message(data, model)), answers, "IMAGE: ")


def bad_http(photo: bytes, rng: np.random.Generator, flipped: int) -> Iterator[BadRequest]:
    """What HTTP allows to be said wrongly, and `flipped` requests with bits flipped in front of the image."""
    for name, request, status, says in _bad_http(photo):
        statuses = frozenset({status} if isinstance(status, int | str) else status)
        yield BadRequest(f"http: {name}", _http(request), statuses, says)
    request = infer_request(photo)
    start, end = request.index(b"{"), request.index(b"}]")
    for index in range(flipped):
        spoilt_request = bytearray(request)
        for position in rng.integers(start, end, 1 << int(rng.integers(0, 4))):
            spoilt_request[position] ^= 1 << int(rng.integers(0, 8))
        yield BadRequest(f"http: flipped {index}", _http(bytes(spoilt_request)), frozenset({200, 400, 404, 500}), "")


def _bad_http(photo: bytes) -> Iterator[_Case]:
    yield from _bad_json()
    yield from _bad_tensors(photo)
    yield from _bad_lengths(photo)
    yield from _bad_fields(photo)
    yield from _bad_data()
    yield from _bad_targets()
    yield from _bad_framing(photo)


def _bad_json() -> Iterator[_Case]:
    for body in (b"hello", b"[]", b"{}", b'{"inputs":[{"name":"IMAGE"', b'{"inputs":null}', b'{"inputs":"IMAGE"}'):
        yield f"body {body!r}", http_request(body), 500, NOT_JSON
    yield "an empty body", http_request(b""), 400, "IMAGE: there are no bytes"
    yield "inputs that are numbers", http_request(b'{"inputs":[1]}'), 400, "no field is set"
    yield "a name that is not UTF-8", http_request(b'{"inputs":[{"name":"\xff\xfe"}]}'), 400, "no field is set"
    for depth in (1_000, 100_000, 1_000_000):
        yield f"{depth} nested arrays", http_request(b"[" * depth), 500, NOT_JSON
        nested = b"[" * depth + b"]" * depth
        data = b'{"inputs":[{"name":"IMAGE","shape":[1],"datatype":"BYTES","data":%s}]}' % nested
        yield f"data in {depth} arrays", http_request(data), {400, 500}, f"{IMAGE}|{NOT_JSON}"


def _bad_tensors(photo: bytes) -> Iterator[_Case]:
    for shape in ([], [0], [2], [1, 1], [2**31], [2**63 - 1], [1] * 1000):
        yield f"shape {str(shape)[:20]}", infer_request(photo, {"shape": shape}), 400, f"shape for input '{IMAGE}'"
    for shape in ([-1], [2**64], "1", ["1"], [1.5], None, {}):
        yield f"shape {shape!r}", infer_request(photo, {"shape": shape}), 500, NOT_JSON
    for datatype in ("INT32", "FP16", "UINT8", "BOOL", "", "bytes", "X" * 10_000):
        says = f"'{IMAGE}' data-type is .* expects 'BYTES'"
        yield f"datatype {datatype[:10]}", infer_request(photo, {"datatype": datatype}), 400, says
    for name in ("", "image", "IMAGE ", "FACES", "X" * 100_000):
        yield f"name {name[:10]}", infer_request(photo, {"name": name}), 400, "unexpected inference input"
    for field in ("name", "datatype"):
        yield f"{field} as a number", infer_request(photo, {field: 7}), 500, NOT_JSON


def _bad_lengths(photo: bytes) -> Iterator[_Case]:
    for size in (0, 1, len(photo), 10**9, 2**63):
        yield f"{size} binary bytes", infer_request(photo, {"parameters": {"binary_data_size": size}}), 400, FER_MODEL
    for size in (-1, "x", 2**64):
        yield f"{size} binary bytes", infer_request(photo, {"parameters": {"binary_data_size": size}}), 500, NOT_JSON
    for length in (0, 1, len(photo) + 1, 2**31, 2**32 - 1):
        yield f"an element of {length} bytes", infer_request(photo, stated_length=length), 400, IMAGE
    for length in (-1, 10**7, 2**64 + 3):
        request = infer_request(photo, Inference_Header_Content_Length=length)
        yield f"a JSON header of {length} bytes", request, 400, "inference header size"
    for length in (0, "x"):  # then the whole body is taken for the image
        request = infer_request(photo, Inference_Header_Content_Length=length)
        yield f"a JSON header of {length} bytes", request, 400, "IMAGE: the bytes are not an image"
    yield "a JSON header cut short", infer_request(photo, Inference_Header_Content_Length=5), 500, NOT_JSON


def _bad_fields(photo: bytes) -> Iterator[_Case]:
    memory = {"shared_memory_region": "any", "shared_memory_byte_size": 4}
    unknown_memory = (404, "find shared memory region")
    yield "shared memory in", infer_request(photo, {"parameters": memory}), *unknown_memory

    def with_fields(**fields: object) -> bytes:
        return infer_request(photo, request=fields)

    yield "an unknown output", with_fields(outputs=[{"name": "NONE"}]), 400, "unexpected inference output 'NONE'"
    yield "shared memory out", with_fields(outputs=[{"name": "BOXES", "parameters": memory}]), *unknown_memory
    for classes in (-1, "x"):
        outputs = [{"name": "BOXES", "parameters": {"classification": classes}}]
        yield f"{classes} classes", with_fields(outputs=outputs), 500, NOT_JSON
    yield "outputs as text", with_fields(outputs="BOXES"), 500, NOT_JSON
    yield "parameters as text", with_fields(parameters="x"), 500, NOT_JSON
    yield "a long id", with_fields(id="x" * 1_000_000), 200, ""
    yield "a priority", with_fields(parameters={"priority": 2**60}), 200, ""
    yield "a sequence", with_fields(parameters={"sequence_id": 5, "sequence_start": True}), 200, ""


def _bad_data() -> Iterator[_Case]:
    def with_data(*tensors: dict[str, object]) -> bytes:
        right = {"name": IMAGE, "shape": [1], "datatype": "BYTES", "data": ["no image"]}
        return http_request(json.dumps({"inputs": [right | tensor for tensor in tensors]}).encode())

    yield "an image as JSON text", with_data({}), 400, "IMAGE: the bytes are not an image"
    yield "two elements", with_data({"data": ["a", "b"]}), 400, f"string elements 2 for inference input '{IMAGE}'"
    yield "no element", with_data({"data": []}), 400, f"string elements for inference input '{IMAGE}'"
    yield "numbers for text", with_data({"data": [1]}), 500, NOT_JSON
    yield "IMAGE twice", with_data({}, {}), 400, f"input '{IMAGE}' already exists"
    yield "another input too", with_data({}, {"name": "X"}), 400, "expected 1 inputs but got 2"
    yield "no inputs", with_data(), 400, f"missing required input.*{IMAGE}"


def _bad_targets() -> Iterator[_Case]:
    for path in ("v2/models/none/infer", "v2/models/fer/versions/9/infer", "v2/models/fer/versions/x/infer", "any"):
        yield path, http_request(b"{}", f"/{path}"), 404, "not found|Not Found"
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        yield method, http_request(b"", method=method), 405, "Method Not Allowed"


def _bad_framing(photo: bytes) -> Iterator[_Case]:
    for encoding in ("br", "zstd", "identity, gzip", "x" * 1000):
        yield f"Content-Encoding {encoding[:20]}", infer_request(photo, Content_Encoding=encoding), 501, "compression"
    for encoding in ("gzip", "deflate"):
        yield f"{encoding} that is none", infer_request(photo, Content_Encoding=encoding), 400, "header size"
    bomb = gzip.compress(bytes(32 << 20))
    request = http_request(bomb, Content_Encoding="gzip", Inference_Header_Content_Length=0)
    yield "gzip of 32 MiB", request, 400, "IMAGE: 33,554,432 bytes are over the limit of 20,971,520"
    request = infer_request(photo)
    yield "a body shorter than it is", infer_request(photo, Content_Length=100), 400, "header size"
    for length in (len(request) + 10_000, 10**10, -5, "x", 2**65):
        yield f"a body said to be {length}", infer_request(photo, Content_Length=length), CLOSED, ""
    yield "a body without length", infer_request(photo, Content_Length=None), 400, "header size"
    for size in ("zz", "ffffffffffffffff", "-1"):
        chunks = b"%s\r\nno image\r\n0\r\n\r\n" % size.encode()
        request = http_request(chunks, Content_Length=None, Transfer_Encoding="chunked")
        yield f"a chunk of {size}", request, {400, 500, CLOSED}, f"{IMAGE}|{NOT_JSON}"
    yield "no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n", CLOSED, ""
    yield "a long path", http_request(b"", "/" + "a" * 1_000_000), {404, CLOSED}, "Not Found"
    yield "a long header", http_request(b"", X="a" * 10_000_000), {400, CLOSED}, ""
    yield "21 MiB", infer_request(bytes(21 << 20)), 400, "IMAGE: 22,020,096 bytes are over the limit of 20,971,520"


def bad_grpc(photo: bytes, rng: np.random.Generator, flipped: int) -> Iterator[BadRequest]:
    """What a gRPC message can say wrongly, and `flipped` messages with bits flipped in front of the image."""
    for name, spoil, status, says in _BAD_MESSAGES:
        message = grpc_message(photo)
        spoil(message)
        yield BadRequest(f"grpc: {name}", _grpc(message), frozenset({status}), says)
    over = grpc_message(bytes(21 << 20))
    yield BadRequest("grpc: 21 MiB", _grpc(over), frozenset({"INVALID_ARGUMENT"}), "IMAGE: 22,020,096 bytes are over")
    whole = grpc_message(photo).SerializeToString()
    raw = (("noise", b"\xff" * 100), ("half a message", whole[: len(whole) // 2]))
    for name, data in raw:
        yield BadRequest(f"grpc: {name}", _grpc_bytes(data), frozenset({"INTERNAL"}), "Unable to parse request")
    yield BadRequest("grpc: nothing", _grpc_bytes(b""), frozenset({"NOT_FOUND"}), "unknown model")
    yield BadRequest("grpc: no such call", _grpc_bytes(b"", "Guess"), frozenset({"UNIMPLEMENTED"}), "")
    answers = frozenset({"OK", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"})
    for index in range(flipped):
        data = bytearray(whole)
        for position in rng.integers(0, 60, 1 << int(rng.integers(0, 4))):
            data[position] ^= 1 << int(rng.integers(0, 8))
        yield BadRequest(f"grpc: flipped {index}", _grpc_bytes(bytes(data)), answers, "")


Message = service_pb2.ModelInferRequest


def _with_shape(shape: Iterable[int]) -> Callable[[Message], None]:
    def spoil(message: Message) -> None:
        del message.inputs[0].shape[:]
        message.inputs[0].shape.extend(shape)

    return spoil


def _with_raw(*raw: bytes) -> Callable[[Message], None]:
    def spoil(message: Message) -> None:
        del message.raw_input_contents[:]
        message.raw_input_contents.extend(raw)

    return spoil


def _with_contents(*elements: bytes) -> Callable[[Message], None]:
    def spoil(message: Message) -> None:
        del message.raw_input_contents[:]
        message.inputs[0].contents.bytes_contents.extend(elements)

    return spoil


_BAD_MESSAGES: tuple[tuple[str, Callable[[Message], object], str, str], ...] = (
    *(
        (f"shape {shape}", _with_shape(shape), "INVALID_ARGUMENT", f"input '{IMAGE}'")
        for shape in ([], [0], [2], [-1], [1, 1], [2**63 - 1], [-(2**63)])
    ),
    *(
        (f"datatype {datatype}", lambda m, d=datatype: setattr(m.inputs[0], "datatype", d), "INVALID_ARGUMENT", IMAGE)
        for datatype in ("INT32", "FP16", "", "bytes")
    ),
    *(
        (f"name {name}", lambda m, n=name: setattr(m.inputs[0], "name", n), "INVALID_ARGUMENT", "unexpected inference")
        for name in ("", "image", "FACES")
    ),
    ("no bytes", _with_raw(b""), "INVALID_ARGUMENT", f"string elements for inference input '{IMAGE}'"),
    ("half a length", _with_raw(b"ab"), "INVALID_ARGUMENT", f"length indicator for inference input '{IMAGE}'"),
    (
        "a long length",
        _with_raw(b"\xff\xff\xff\xffabc"),
        "INVALID_ARGUMENT",
        f"string data for inference input '{IMAGE}'",
    ),
    (
        "a short length",
        _with_raw(b"\1\0\0\0abc"),
        "INVALID_ARGUMENT",
        f"length indicator for inference input '{IMAGE}'",
    ),
    ("no data", _with_raw(), "INVALID_ARGUMENT", f"data for input tensor '{IMAGE}'"),
    ("an image in contents", _with_contents(b"no image"), "INVALID_ARGUMENT", "IMAGE: the bytes are not an image"),
    ("two in contents", _with_contents(b"a", b"b"), "INVALID_ARGUMENT", f"elements 2 for inference input '{IMAGE}'"),
    ("no inputs", lambda m: m.ClearField("inputs"), "INVALID_ARGUMENT", f"missing required input.*{IMAGE}"),
    ("an unknown model", lambda m: setattr(m, "model_name", "none"), "NOT_FOUND", "unknown model: 'none'"),
    ("an unknown version", lambda m: setattr(m, "model_version", "9"), "NOT_FOUND", "version 9 is not found"),
    ("a version in words", lambda m: setattr(m, "model_version", "x"), "INVALID_ARGUMENT", "version string 'x'"),
    ("an unknown output", lambda m: m.outputs.add(name="NONE"), "INVALID_ARGUMENT", "inference output 'NONE'"),
)


def _http(request: bytes) -> Callable[[Served], Answer]:
    return lambda served: ask_http(served.http_url, request)


def _grpc(message: Message) -> Callable[[Served], Answer]:
    return lambda served: ask_grpc(served.channel, message)


def _grpc_bytes(message: bytes, method: str = "ModelInfer") -> Callable[[Served], Answer]:
    return lambda served: ask_grpc_bytes(served.channel, message, method)
