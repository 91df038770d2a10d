"""A thin client of the facial expression model served by Triton: a photo goes in, faces and expressions come out.

    from fer_client import FerClient

    with FerClient("localhost:8000") as client:
        for face in client.predict("photo.jpg").faces:
            print(face.box, face.emotion, face.confidence)

What comes back is the apparent expression, as an annotator would label the picture. It is not what a person feels.
"""

from fer_client._async_client import AsyncFerClient
from fer_client._client import FerClient
from fer_client._errors import (
    AuthenticationError,
    ContractError,
    FerClientError,
    ImageRefusedError,
    ImageUnreadableError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
    TlsError,
)
from fer_client._extras import MissingExtraError
from fer_client._images import Channels, ImageSource
from fer_client._quality import QualityBound
from fer_client._results import Box, CroppedPrediction, Face, ImageSize, Landmarks, Point, Prediction
from fer_client._server_info import ModelInfo, ServerInfo
from fer_client._tls import Tls

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
