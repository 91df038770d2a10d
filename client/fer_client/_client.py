"""The client for threads: carries out the steps of `_base_client` and `_retries`, one after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload
from typing import Protocol as Interface

from fer_client._base_client import BaseClient
from fer_client._config import Settings
from fer_client._errors import FerClientError, require_extra
from fer_client._images import Channels, ImageSource, encode
from fer_client._results import CroppedPrediction, Prediction
from fer_client._retries import Ask, Encode, Pause, Step, Steps
from fer_client._server import ServerInfo
from fer_client.protocol import Call

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fer_client._many import Cancellation

_Result = TypeVar("_Result")

Images: TypeAlias = Iterable[ImageSource]
Results: TypeAlias = Generator[_Result | FerClientError, None, None]
IndexedResults: TypeAlias = Generator[tuple[int, _Result | FerClientError], None, None]


class Transport(Interface):
    """A way to reach one server, shared by threads. What goes wrong on the way comes out as FerClientError."""

    def ask(self, call: Call, timeout_s: float, cancellation: Cancellation | None = None) -> Any:
        """Make a call. Raises CancelledError when it was given up."""

    def close(self) -> None:
        """Close all connections."""


class FerClient(BaseClient):
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

    _transport: Transport

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
        """Classify the apparent expression of an image that is one face, cut out as FER2013's are, detecting nothing.

        Takes and raises the same as `predict`.
        """
        return self._run(self._core.predict_cropped(image, channels))

    def infer(self, image: ImageSource, *, channels: Channels | None = None) -> dict[str, NDArray[Any]]:
        """Return the raw tensors of the model `fer`, checked. Takes and raises the same as `predict`.

        Returns:
            For N faces, largest first, in px of the upright image: IMAGE_SIZE int32 (2,), width and height; FACES_FOUND
            int32 (1,), N or more, where the server has it; BOXES
            float32 (N, 4), x_min, y_min, x_max, y_max; LANDMARKS float32 (N, 5, 2), x and y of the right eye, left eye,
            nose tip, right and left mouth corner; DETECTION_SCORES float32 (N,), 0..1; PROBABILITIES float32
            (N, number of labels), 0..1, in the order of `labels`; QUALITY float32 (N, number of columns), in the order
            of `quality_columns`, where the server has it. The arrays are read-only.
        """
        return self._run(self._core.infer(image, channels))

    @overload
    def predict_many(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: Literal[False] = False
    ) -> Results[Prediction]: ...

    @overload
    def predict_many(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: Literal[True]
    ) -> Results[CroppedPrediction]: ...

    @overload
    def predict_many(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: bool
    ) -> Results[Prediction | CroppedPrediction]: ...

    def predict_many(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: bool = False
    ) -> Results[Any]:
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
            cropped: Whether each image is one face, cut out. Results are those of `predict_cropped` then, else those
                of `predict`.

        Raises:
            TypeError: An image is nothing that `predict` takes.
            ValueError: An array is no picture, `channels` is missing, or the concurrency is less than 1.
            RuntimeError: The client is closed.
        """
        return _without_index(self._many(images, concurrency, channels, cropped, in_order=True))

    @overload
    def predict_as_completed(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: Literal[False] = False
    ) -> IndexedResults[Prediction]: ...

    @overload
    def predict_as_completed(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: Literal[True]
    ) -> IndexedResults[CroppedPrediction]: ...

    @overload
    def predict_as_completed(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: bool
    ) -> IndexedResults[Prediction | CroppedPrediction]: ...

    def predict_as_completed(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: bool = False
    ) -> IndexedResults[Any]:
        """Predict many images as `predict_many` does, and return each result with its index as soon as it is there."""
        return self._many(images, concurrency, channels, cropped, in_order=False)

    def describe(self) -> ServerInfo:
        """Return what the server says about itself: software, models, labels, limits. Raises as `labels`."""
        return self._run(self._core.describe())

    def is_ready(self) -> bool:
        """Return whether the server says that it and the model are ready; False as well where it cannot be asked.

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
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    @staticmethod
    def _open_transport(settings: Settings) -> Transport:
        if settings.endpoint.protocol == "grpc":
            require_extra("grpc")
            from fer_client._grpc import GrpcTransport

            return GrpcTransport(settings)
        from fer_client._http import HttpTransport

        return HttpTransport(settings)

    def _many(
        self, images: Images, concurrency: int, channels: Channels | None, cropped: bool, in_order: bool
    ) -> IndexedResults[Any]:
        from fer_client._many import work_in_threads  # Not at the top, so that `import fer_client` stays light.

        steps_of = self._core.predict_cropped if cropped else self._core.predict

        def predict(image: ImageSource, cancellation: Cancellation) -> Any:
            try:
                return self._run(steps_of(image, channels), cancellation)
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
                return encode(image, channels)
            case Pause(duration_s):
                return time.sleep(duration_s) if cancellation is None else cancellation.wait(duration_s)


def _without_index(numbered: Generator[tuple[int, _Result], None, None]) -> Generator[_Result, None, None]:
    with contextlib.closing(numbered):
        for _, result in numbered:
            yield result
