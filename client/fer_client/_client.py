"""The client object: checks the server once, then turns images into predictions."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Final

import fer_contract
from fer_client._endpoint import Protocol, parse_endpoint
from fer_client._errors import FerClientError
from fer_client._results import ImageSize, Prediction, faces_from_tensors
from fer_client._served import ServedModel
from fer_client._transport import open_transport

DEFAULT_TIMEOUT_S: Final = 30.0
"""Long enough for a large photo over a slow line, short enough to notice a server that hangs."""
_LONGEST_TIMEOUT_S: Final = 86_400.0
"""A day. Sockets cannot wait for ever-larger numbers, and nobody wants to."""


class FerClient:
    """Asks one Triton server for the apparent facial expressions in images.

    Nothing is sent before the first question. One client may be shared by any number of threads. Use it in a `with`
    statement, or call `close` when it is no longer needed.
    """

    def __init__(
        self, url: str = "localhost", protocol: Protocol | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        """Say where the server is.

        Args:
            url: `host`, `host:port`, `http://host:port` or `grpc://host:port`. Without a port, Triton's own: 8000
                for HTTP, 8001 for gRPC.
            protocol: `http` or `grpc`; None takes the URL's, or HTTP where it names none.
            timeout_s: How long to wait for an answer, in seconds. Over gRPC it bounds the whole request, over HTTP
                the connecting and each wait for the server's next bytes.

        Raises:
            ValueError: The URL is none, it contradicts `protocol`, or the timeout is not between 0 and a day.
        """
        if not 0 < timeout_s <= _LONGEST_TIMEOUT_S:
            raise ValueError(f"timeout of {timeout_s:g} s: expected more than 0 and at most {_LONGEST_TIMEOUT_S:g} s")
        endpoint = parse_endpoint(url, protocol)
        self._url = endpoint.url
        self._transport = open_transport(endpoint, timeout_s)
        self._served: ServedModel | None = None
        self._closed = False

    @property
    def url(self) -> str:
        """The server's URL in full: `http://host:port` or `grpc://host:port`."""
        return self._url

    @property
    def labels(self) -> tuple[str, ...]:
        """The expressions that the served model tells apart, in its order. Raises as `predict`, but for the image."""
        return self._served_model().labels

    @property
    def model_version(self) -> str:
        """Version of the network served when this client first asked. Raises as `predict`, but for the image."""
        return self._served_model().version

    def predict(self, image: str | os.PathLike[str] | bytes) -> Prediction:
        """Find the faces in an image and their apparent expressions.

        Args:
            image: Path of an image file, or the file's content. JPEG, PNG, WebP and BMP are accepted; EXIF orientation
                is honoured. The content is sent as it is and decoded by the server alone.

        Returns:
            The faces, largest first. A picture without a face gives a prediction without faces.

        Raises:
            OSError: The file cannot be read.
            ImageRefusedError: The server does not accept the image.
            ServerUnreachableError: No server answers at the URL.
            RequestTimeoutError: The answer takes longer than `timeout_s`.
            ServerOverloadedError: The server has no room for the request now.
            ContractError: The server does not serve the model that this client expects.
            ServerError: The server failed.
            RuntimeError: The client is closed.
        """
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        served = self._served_model()
        tensors = self._transport.infer(fer_contract.FER_MODEL, content, list(served.output_shapes))
        checked = served.checked(tensors, self._url)
        return Prediction(
            image_size=ImageSize(*checked[fer_contract.IMAGE_SIZE].tolist()),
            faces=faces_from_tensors(checked, served.labels),
            model_version=served.version,
        )

    def is_ready(self) -> bool:
        """Whether the server says that it and the model are ready; False as well where it cannot even be asked.

        It is quick and meant for waiting for a server. `check_health` proves more.

        Raises:
            RuntimeError: The client is closed.
        """
        self._require_open()
        try:
            return self._transport.is_ready(fer_contract.FER_MODEL)
        except FerClientError:
            return False

    def check_health(self) -> None:
        """Send a plain gray picture through the whole model, and return if it is answered.

        A server can call itself ready while every request fails, for one after a worker of it has died. Only an
        answer proves that it works. Raises as `predict`.
        """
        self.predict(_GRAY_PICTURE)

    def close(self) -> None:
        """Close the connections. Closing twice is fine."""
        self._closed = True
        self._transport.close()

    def __enter__(self) -> FerClient:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def _served_model(self) -> ServedModel:
        """What the server serves, asked for once. Two threads may both be the first; they learn the same."""
        self._require_open()
        if self._served is None:
            config = self._transport.model_config(fer_contract.FER_MODEL)
            self._served = ServedModel.from_config(config, self._url)
        return self._served

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this FerClient is closed: make a new one, or close it later")


def _gray_bmp(size_px: int) -> bytes:
    """A BMP file: a square of `size_px` in mid-gray, 24 bits per pixel."""
    pixels = b"\x80" * (3 * size_px * size_px)  # Rows need no padding where size_px is a multiple of 4.
    info_header = struct.pack("<IiiHHIIiiII", 40, size_px, size_px, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    offset = 14 + len(info_header)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + info_header + pixels


_GRAY_PICTURE: Final = _gray_bmp(64)
