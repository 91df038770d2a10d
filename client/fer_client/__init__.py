"""A thin client of the facial expression model served by Triton: a photo goes in, faces and expressions come out.

    from fer_client import FerClient

    with FerClient("localhost:8000") as client:
        for face in client.predict("photo.jpg").faces:
            print(face.box, face.emotion, face.confidence)

What comes back is the apparent expression, as an annotator would label the picture. It is not what a person feels.

Where to find what:

    _client, _async_client    the two clients: their questions, documented
    _base_client              their arguments; what each question asks of the server, for both clients
    _retries                  when a call is tried again, pauses, deadlines
    _errors                   every error, its exit code, and which HTTP status, gRPC code or OSError means it
    _config                   URL, TLS, headers and patience, checked
    _images                   files, arrays and Pillow images turned into the file that is sent
    _results                  predictions, and how tensors become them
    _server                   the contract that a server is held to, and what `describe` returns
    _many                     many images at a time, in threads and in tasks
    _http, _http_async        connections over HTTP, blocking and for asyncio
    _grpc                     the same over gRPC, and what gRPC needs across forks
    _forks                    what a forked process does with connections that it inherits
    protocol, protocol_grpc   requests and answers without a connection, for programs that bring their own; public
    command, video, cli       the command `fer-client`
"""

from fer_client._async_client import AsyncFerClient
from fer_client._client import FerClient
from fer_client._config import Tls
from fer_client._errors import (
    AuthenticationError,
    ContractError,
    FerClientError,
    ImageRefusedError,
    ImageUnreadableError,
    MissingExtraError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
    TlsError,
)
from fer_client._images import Channels, ImageSource
from fer_client._results import Box, CroppedPrediction, Face, ImageSize, Landmarks, Point, Prediction
from fer_client._server import ModelInfo, QualityBound, ServerInfo

__all__ = [
    "AsyncFerClient",
    "AuthenticationError",
    "Box",
    "Channels",
    "ContractError",
    "CroppedPrediction",
    "Face",
    "FerClient",
    "FerClientError",
    "ImageRefusedError",
    "ImageSize",
    "ImageSource",
    "ImageUnreadableError",
    "Landmarks",
    "MissingExtraError",
    "ModelInfo",
    "Point",
    "Prediction",
    "QualityBound",
    "RequestTimeoutError",
    "ServerError",
    "ServerInfo",
    "ServerOverloadedError",
    "ServerUnreachableError",
    "Tls",
    "TlsError",
]
