"""`POST /v1/faces`: pictures in, faces with their apparent expressions out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

import anyio
import msgspec
from msgspec import UNSET
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fer_client import CroppedPrediction, Prediction
from fer_web.answers import NOTICE, DrawnPicture, Face, FacesAnswer, ImageAnswer, ImageSize, Options, ProblemDetails
from fer_web.drawing import draw
from fer_web.metrics import Metrics
from fer_web.model import Answer, Model
from fer_web.problems import Problem
from fer_web.rates import Rates
from fer_web.settings import Limits
from fer_web.uploads import Body, Buffered, Picture, Upload, read_upload

_DRAWN_AT_ONCE: Final = 2
"""Pictures that are drawn at the same time: each takes a core, and memory for its pixels."""

_Result = TypeVar("_Result")


class Faces:
    """The endpoint and what it needs."""

    def __init__(self, model: Model, limits: Limits, metrics: Metrics) -> None:
        """Begin with no request."""
        self._model, self._limits, self._metrics = model, limits, metrics
        self._buffered = Buffered(limits.max_buffered_bytes)
        self._rates = Rates(limits.images_per_s, limits.max_images)
        self._in_flight = 0
        self._drawn = anyio.CapacityLimiter(_DRAWN_AT_ONCE)
        metrics.in_flight.set_function(lambda: self._in_flight)
        metrics.buffered_bytes.set_function(lambda: self._buffered.held_bytes)

    async def post(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            Problem: There is no answer, or its only picture has none.
            ClientDisconnect: The client has left.
        """
        client = request.state.client
        self._rates.charge(client, 1)
        with self._admitted(), Body(request, self._limits, self._buffered) as body:
            upload = await read_upload(request, body, self._limits)
            self._rates.charge(client, len(upload.pictures) - 1, on_credit=True)
            answer = await unless_left(request, lambda: self._answer(upload, request))
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        """Take one of the places for requests. Raises Problem where there is none."""
        if self._in_flight >= self._limits.max_requests:
            raise Problem("overloaded", "Too many requests are under way: try again a little later.")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _answer(self, upload: Upload, request: Request) -> FacesAnswer:
        """Ask about all pictures at once; the model's own limits say how many are under way."""
        images: list[ImageAnswer | Problem | None] = [None] * len(upload.pictures)
        versions: list[str] = []

        async def ask(index: int, picture: Picture) -> None:
            try:
                answer = await self._model.predict(picture.content, cropped=upload.options.cropped)
                versions.append(answer.prediction.model_version)
                images[index] = await self._describe(index, picture, answer, upload.options)
            except Problem as problem:
                images[index] = problem
                self._metrics.images.labels(problem.kind).inc()

        async with anyio.create_task_group() as group:
            for index, picture in enumerate(upload.pictures):
                group.start_soon(ask, index, picture)
        match images:
            case [Problem() as only]:
                raise only
        return FacesAnswer(
            request_id=request.state.id,
            model_version=versions[-1] if versions else "",
            notice=NOTICE,
            total_ms=_rounded(1e3 * (time.perf_counter() - request.state.started)),
            images=[
                _failed(index, picture, image, request.state.id) if isinstance(image, Problem) else image
                for index, (picture, image) in enumerate(zip(upload.pictures, images, strict=True))
                if image is not None
            ],
        )

    async def _describe(self, index: int, picture: Picture, answer: Answer, options: Options) -> ImageAnswer:
        """Return the answer about a picture, and count it."""
        prediction = answer.prediction
        faces = choose_faces(prediction, options)
        drawn = await self._draw(picture.content, faces) if options.annotate else UNSET
        self._metrics.images.labels("answered").inc()
        self._metrics.faces.inc(len(faces))
        self._metrics.wait_seconds.observe(answer.wait_ms / 1e3)
        self._metrics.inference_seconds.observe(answer.inference_ms / 1e3)
        return ImageAnswer(
            index=index,
            name=picture.name,
            image_size=ImageSize(*prediction.image_size),
            faces_found=prediction.faces_found if isinstance(prediction, Prediction) else 1,
            faces=faces,
            annotated=drawn,
            wait_ms=_rounded(answer.wait_ms),
            inference_ms=_rounded(answer.inference_ms),
        )

    async def _draw(self, content: bytes, faces: list[Face]) -> DrawnPicture:
        try:
            return await anyio.to_thread.run_sync(draw, content, faces, limiter=self._drawn)
        except ValueError as error:
            detail = "The model server has read the picture, but it cannot be drawn on: ask without `annotate`."
            raise Problem("image-refused", detail) from error


def choose_faces(prediction: Prediction | CroppedPrediction, options: Options) -> list[Face]:
    """Return the faces that the options leave, as the answer has them, largest first."""
    if isinstance(prediction, CroppedPrediction):
        return [msgspec.convert(prediction.to_dict(), Face)]
    kept = [
        face
        for face in prediction.faces
        if face.confidence >= options.min_confidence and min(face.box.width, face.box.height) >= options.min_face_px
    ]
    return [msgspec.convert(face.to_dict(), Face) for face in kept[: int(options.max_faces)]]


async def unless_left(request: Request, work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Do work for a request whose body has been read, and cancel it when the client leaves.

    Raises:
        ClientDisconnect: The client has left.
        Problem: The work raised it.
    """
    done: list[_Result | Problem] = []

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            done.append(await work())
        except Problem as problem:  # Out of the group it would come as an ExceptionGroup.
            done.append(problem)
        group.cancel_scope.cancel()
    if not done:
        raise ClientDisconnect
    [outcome] = done
    if isinstance(outcome, Problem):
        raise outcome
    return outcome


def _failed(index: int, picture: Picture, problem: Problem, request_id: str) -> ImageAnswer:
    values: dict[str, Any] = problem.to_dict(request_id, index)
    return ImageAnswer(index=index, name=picture.name, error=ProblemDetails(**values))


def _rounded(milliseconds: float) -> float:
    return round(milliseconds, 2)
