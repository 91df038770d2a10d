"""A thin client of the facial expression model served by Triton: a photo goes in, faces and expressions come out.

    from fer_client import FerClient

    with FerClient("localhost:8000") as client:
        for face in client.predict("photo.jpg").faces:
            print(face.box, face.emotion, face.confidence)

What comes back is the apparent expression, as an annotator would label the picture. It is not what a person feels.
"""

from fer_client._client import FerClient
from fer_client._errors import (
    ContractError,
    FerClientError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_client._results import Box, Face, ImageSize, Landmarks, Point, Prediction

__all__ = [
    "Box",
    "ContractError",
    "Face",
    "FerClient",
    "FerClientError",
    "ImageRefusedError",
    "ImageSize",
    "Landmarks",
    "Point",
    "Prediction",
    "RequestTimeoutError",
    "ServerError",
    "ServerOverloadedError",
    "ServerUnreachableError",
]
