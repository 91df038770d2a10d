"""The client for threads: carries out the steps of `_core`, one after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from typing import Protocol as Interface

from fer_client._calls import Call
from fer_client._cancellation import Cancellation
from fer_client._core import Ask, Core, Encode, Pause, Step, Steps
from fer_client._endpoint import Protocol
from fer_client._errors import FerClientError
from fer_client._extras import require_extra
from fer_client._images import Channels, ImageSource, encoded
from fer_client._results import CroppedPrediction, Prediction
from fer_client._server_info import ServerInfo
from fer_client._settings import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, Compression, Settings, read_settings
from fer_client._tls import Tls

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Result = TypeVar("_Result")


class Transport(Interface):
    """A way to reach one server, shared by threads. What goes wrong on the way comes out as FerClientError."""

    def ask(self, call: Call, timeout_s: float, cancellation: Cancellation | None = None) -> Any:
        """Make a call. Raises CancelledError when it was given up."""

    def close(self) -> None:
        """Close all connections."""


class FerClient:
    """Asks one Triton server for the apparent facial expressions in images.

    Nothing is sent before the first question. Use it in a `with` statement, or call `close` in the end.

    Threads: one client may be shared by any number of them.

    Forked processes (`os.fork`, multiprocessing with fork, gunicorn's preload, Celery, PyTorch's DataLoader on Linux):
    a client may be made and used before the fork, also while other threads use it, and goes on working on both sides.
    The child opens connections of its own and leaves its parent's alone, even where it closes the client. Over gRPC,
    the fork waits up to 5 s for calls under way; where gRPC cannot work in the child all the same, because other parts
    of the program were using it at the fork or its support for forks is switched off, the first call there raises
    RuntimeError within some seconds. What `predict_many` began before a fork goes on in the parent alone; to continue
    it in the child raises RuntimeError.

    Spawned processes (spawn, forkserver): a client can be pickled, and so be an argument of a process or an attribute
    of a Dataset. The pickle holds what the client was told, its headers and token included, and no connection.
    """

    def __init__(
        self,
        url: str = "localhost",
        protocol: Protocol | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        deadline_s: float | None = None,
        retries: int = DEFAULT_RETRIES,
        tls: Tls | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        compression: Compression | None = None,
    ) -> None:
        """Say where the server is, and how to talk to it.

        Args:
            url: `host`, `host:port`, or that after `http://`, `grpc://`, `https://` or `grpcs://`. Without a port,
                Triton's own: 8000 for HTTP, 8001 for gRPC; with TLS 443.
            protocol: `http` or `grpc`; None takes the URL's, or HTTP where it names none.
            timeout_s: How long one try may take, in seconds.
            deadline_s: How long all tries of one call may take together, pauses included, in seconds; None for no
                limit beyond that of each try.
            retries: How often a request is sent again after the server was overloaded (HTTP 503, gRPC UNAVAILABLE) or
                the connection was refused or dropped, with growing random pauses. After nothing else.
            tls: Certificates for an encrypted connection, which this asks for where the URL has no scheme. With
                `https://` or `grpcs://`, None is good where the server's certificate is signed by a public authority.
            headers: Sent with each request; over gRPC as metadata.
            token: Sent with each request as `Authorization: Bearer TOKEN`.
            compression: `gzip` or `deflate`: compress requests, and ask for compressed answers. It pays for arrays of
                pixels over a slow line; JPEG and PNG files are compressed already.

        Raises:
            ValueError: An argument makes no sense, or contradicts another; the message says which, and no secret.
        """
        settings = read_settings(url, protocol, timeout_s, deadline_s, retries, tls, headers, token, compression)
        self._core = Core(settings)
        self._transport = _open_transport(settings)

    @property
    def url(self) -> str:
        """The server's URL in full: `http://host:port`, or another of the schemes."""
        return self._core.settings.endpoint.url

    @property
    def labels(self) -> tuple[str, ...]:
        """The expressions that the served model tells apart, in its order. Raises as `predict`, but for the image."""
        return self._run(self._core.served()).labels

    @property
    def model_version(self) -> str:
        """Version of the network served when this client first asked. Raises as `predict`, but for the image."""
        return self._run(self._core.served()).version

    @property
    def uncertain_below(self) -> float:
        """A face whose highest probability is below it is uncertain, 0..1. Raises as `predict`, but for the image."""
        return self._run(self._core.served()).uncertain_below

    @property
    def quality_columns(self) -> tuple[str, ...]:
        """What the server measures of each face's picture; empty where it says nothing. Raises as `labels`."""
        return self._run(self._core.served()).quality_columns

    def predict(self, image: ImageSource, *, channels: Channels | None = None) -> Prediction:
        """Find the faces in an image and their apparent expressions.

        Args:
            image: Path of an image file, the file's content, a file open for reading bytes, a Pillow image, or an array
                of pixels. JPEG, PNG, WebP and BMP files are accepted; their EXIF orientation is honoured. Files are
                sent as they are and decoded by the server alone; pixels are sent without loss.
                An array has the shape (height, width) or (height, width, 1), gray, (height, width, 3) in the order of
                `channels`, or (height, width, 4) with alpha last. It is of uint8, 0..255, of uint16, 0..65535, of bool,
                or of floats, 0..1; of int32 or a longer integer, it is taken for 0..65535 where a value is above 255.
                A Pillow image may be of any mode; I and F have the ranges of int32 and float arrays. As it was opened,
                it is turned as its EXIF data say. One that Pillow has made of another, by rotate or convert for
                example, is taken as it stands: call `ImageOps.exif_transpose` first, right after opening a photo.
                Transparent pictures are seen on white.
            channels: `rgb` or `bgr`: order of the colours of an array. It must be said, because nothing else tells.

        Returns:
            The faces, largest first. A picture without a face gives a prediction without faces.

        Raises:
            ImageUnreadableError: The file cannot be read. It is an OSError too.
            ImageRefusedError: The server does not accept the image.
            ServerUnreachableError: No server answers at the URL.
            TlsError: No encrypted connection comes about that both sides trust. It is a ServerUnreachableError too.
            AuthenticationError: The server wants another token or header.
            RequestTimeoutError: The answer takes longer than `timeout_s` or `deadline_s`.
            ServerOverloadedError: The server has no room for the request, after all retries.
            ContractError: The server does not serve the model that this client expects; the message says what differs.
            ServerError: The server failed.
            TypeError: The image is nothing of the above.
            ValueError: The array or Pillow image is no picture, its values have another range, or `channels` is
                missing.
            RuntimeError: The client is closed, or gRPC does not work in this process, because it was forked.
        """
        return self._run(self._core.predict(image, channels))

    def predict_cropped(self, image: ImageSource, *, channels: Channels | None = None) -> CroppedPrediction:
        """The apparent expression of an image that is one face, cut out as FER2013's are. Nothing is detected.

        Takes and raises the same as `predict`.
        """
        return self._run(self._core.predict_cropped(image, channels))

    def infer(self, image: ImageSource, *, channels: Channels | None = None) -> dict[str, NDArray[Any]]:
        """The raw tensors of the model `fer`, checked. Takes and raises the same as `predict`.

        Returns:
            For N faces, largest first, in px of the upright image: IMAGE_SIZE int32 (2,), width and height; FACES_FOUND
            int32 (1,), N or more, where the server has it; BOXES
            float32 (N, 4), x_min, y_min, x_max, y_max; LANDMARKS float32 (N, 5, 2), x and y of the right eye, left eye,
            nose tip, right and left mouth corner; DETECTION_SCORES float32 (N,), 0..1; PROBABILITIES float32
            (N, number of labels), 0..1, in the order of `labels`; QUALITY float32 (N, number of columns), in the order
            of `quality_columns`, where the server has it. The arrays are read-only.
        """
        return self._run(self._core.infer(image, channels))

    def predict_many(
        self, images: Iterable[ImageSource], *, concurrency: int = 8, channels: Channels | None = None
    ) -> Generator[Prediction | FerClientError, None, None]:
        """Predict many images, several at a time, and return the results in the order of the images.

        What goes wrong with one image stays with it: its error comes in its place, and the others go on. So does an
        unreachable server, once for each image; whoever has seen enough stops asking. Images are taken as results are
        asked for, at most `2 * concurrency` ahead, so that memory stays flat however many there are. Stopping (leaving
        the loop, `close()` of the iterator, Ctrl-C) gives up what is under way.

        Args:
            images: What `predict` takes, from any iterable, without an end too. An array must not be changed before its
                result has come.
            concurrency: How many images are sent at a time, each in a thread of its own.
            channels: Order of the colours of all arrays among the images.

        Raises:
            TypeError: An image is nothing that `predict` takes.
            ValueError: An array is no picture, `channels` is missing, or the concurrency is less than 1.
            RuntimeError: The client is closed.
        """
        results = self._many(images, concurrency, channels, in_order=True)
        return _without_index(results)

    def predict_as_completed(
        self, images: Iterable[ImageSource], *, concurrency: int = 8, channels: Channels | None = None
    ) -> Generator[tuple[int, Prediction | FerClientError], None, None]:
        """As `predict_many`, but results come as soon as they are there, each with the index of its image."""
        return self._many(images, concurrency, channels, in_order=False)

    def describe(self) -> ServerInfo:
        """What the server says about itself: software, models, labels, limits. Raises as `labels`."""
        return self._run(self._core.describe())

    def is_ready(self) -> bool:
        """Whether the server says that it and the model are ready; False as well where it cannot even be asked.

        It is quick and meant for waiting for a server. `check_health` proves more.

        Raises:
            RuntimeError: The client is closed.
        """
        return self._run(self._core.is_ready())

    def check_health(self) -> None:
        """Send a plain gray picture through the whole model, and return if it is answered.

        A server can call itself ready while every request fails, for one after a worker of it has died. Only an
        answer proves that it works. Raises as `predict`.
        """
        self._run(self._core.check_health())

    def close(self) -> None:
        """Close the connections. Closing twice is fine."""
        self._core.is_closed = True
        self._transport.close()

    def __enter__(self) -> FerClient:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: all that the client was told, headers and token included."""
        return {"settings": self._core.settings, "is_closed": self._core.is_closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the same client anew, with connections of its own."""
        self._core = Core(state["settings"])
        self._core.is_closed = state["is_closed"]
        self._transport = _open_transport(state["settings"])

    def __repr__(self) -> str:
        return f"FerClient({self.url!r})"

    def _many(
        self, images: Iterable[ImageSource], concurrency: int, channels: Channels | None, in_order: bool
    ) -> Generator[tuple[int, Prediction | FerClientError], None, None]:
        from fer_client._threads import work_in_threads  # Not at the top, so that `import fer_client` stays light.

        def predict(image: ImageSource, cancellation: Cancellation) -> Prediction | FerClientError:
            try:
                return self._run(self._core.predict(image, channels), cancellation)
            except FerClientError as error:
                return error

        return work_in_threads(images, predict, concurrency, in_order)

    def _run(self, steps: Steps[_Result], cancellation: Cancellation | None = None) -> _Result:
        """Carry out steps until they end."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._carry_out(step, cancellation)
                except FerClientError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            value: _Result = end.value
            return value

    def _carry_out(self, step: Step, cancellation: Cancellation | None) -> Any:
        match step:
            case Ask(call, timeout_s):
                return self._transport.ask(call, timeout_s, cancellation)
            case Encode(image, channels):
                return encoded(image, channels)
            case Pause(duration_s):
                return time.sleep(duration_s) if cancellation is None else cancellation.wait(duration_s)


def _without_index(numbered: Generator[tuple[int, _Result], None, None]) -> Generator[_Result, None, None]:
    with contextlib.closing(numbered):
        for _, result in numbered:
            yield result


def _open_transport(settings: Settings) -> Transport:
    """The transport for the endpoint's protocol. The other one, and what it imports, is not even loaded."""
    if settings.endpoint.protocol == "grpc":
        require_extra("grpc")
        from fer_client._grpc import GrpcTransport

        return GrpcTransport(settings)
    from fer_client._http import HttpTransport

    return HttpTransport(settings)
