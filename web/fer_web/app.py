"""The application: its routes, put together."""

from __future__ import annotations

import contextlib
import hashlib
import html
import importlib.metadata
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from importlib import resources
from typing import Any, Final

import msgspec
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from fer_client import AsyncFerClient
from fer_web import metrics as prometheus
from fer_web.answers import NOTICE, OPTION_WORDS, PROHIBITED, Bound, Health, LimitsAnswer, ModelAnswer, Options
from fer_web.faces import Faces
from fer_web.guards import Guard
from fer_web.metrics import Metrics
from fer_web.model import Model
from fer_web.openapi import describe_service
from fer_web.problems import KINDS
from fer_web.settings import Settings

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PAGES: Final = {"/": "index.html", "/docs": "docs.html", "/favicon.ico": "icon.svg"}


def make_app(settings: Settings, make_client: Callable[[], AsyncFerClient] | None = None) -> ASGIApp:
    """Return the application.

    Args:
        settings: What it is told.
        make_client: Makes a client of the model server, for tests; None makes one of `settings.url`.
    """
    service = _Service(settings, make_client or _client_of(settings))
    document = msgspec.json.encode(describe_service(settings.limits.max_images))
    routes = [
        Route("/v1/faces", service.post_faces, methods=["POST"]),
        Route("/v1/model", service.get_model, methods=["GET"]),
        Route("/healthz", service.get_health, methods=["GET"]),
        Route("/readyz", service.get_readiness, methods=["GET"]),
        Route("/metrics", service.get_metrics, methods=["GET"]),
        Route("/openapi.json", _constant(document, "application/json"), methods=["GET"]),
        *_static_routes(),
    ]
    app: ASGIApp = Guard(Router(routes, redirect_slashes=False, lifespan=service.lifespan), settings, service.metrics)
    if not settings.cors_origins:
        return app
    return CORSMiddleware(  # Outermost, so that a browser may read refusals too.
        app,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
        expose_headers=["Retry-After", "X-Request-ID"],
    )


class _Service:
    """What the routes share. The model's part of it is made in the event loop that serves."""

    def __init__(self, settings: Settings, make_client: Callable[[], AsyncFerClient]) -> None:
        self.metrics = Metrics()
        self._settings, self._make_client = settings, make_client
        self._model: Model
        self._faces: Faces

    @contextlib.asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        self._model = Model(self._make_client, self._settings.limits)
        self._faces = Faces(self._model, self._settings.limits, self.metrics)
        try:
            yield
        finally:
            await self._model.close()

    async def post_faces(self, request: Request) -> Response:
        return await self._faces.post(request)

    async def get_model(self, _: Request) -> Response:
        server = await self._model.describe()
        limits = self._settings.limits
        return _json(
            ModelAnswer(
                model_version=server.model_version,
                labels=list(server.labels),
                uncertain_below=server.uncertain_below,
                quality_columns=list(server.quality_columns),
                quality_bounds=[Bound(**bound.to_dict()) for bound in server.quality_bounds],
                server=f"{server.name} {server.version}",
                service_version=importlib.metadata.version("fer-triton"),
                limits=LimitsAnswer(
                    max_images=limits.max_images,
                    max_request_bytes=limits.max_request_bytes,
                    max_image_bytes=min(limits.max_image_bytes, server.max_image_bytes or limits.max_image_bytes),
                    max_image_pixels=server.max_image_pixels,
                    images_per_s=limits.images_per_s,
                ),
                notice=NOTICE,
                prohibited_uses=list(PROHIBITED),
            )
        )

    async def get_health(self, _: Request) -> Response:
        return _json(Health("alive"))

    async def get_readiness(self, _: Request) -> Response:
        await self._model.check_ready()
        return _json(Health("ready"))

    async def get_metrics(self, _: Request) -> Response:
        return Response(self.metrics.render(), headers={"Content-Type": prometheus.CONTENT_TYPE})


def _client_of(settings: Settings) -> Callable[[], AsyncFerClient]:
    """Return what makes clients of the model server. One retry rides out a connection that was dropped."""
    timeout_s = settings.limits.inference_timeout_s
    return lambda: AsyncFerClient(settings.url, timeout_s=timeout_s, deadline_s=timeout_s, retries=1)


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _static_routes() -> list[Route]:
    """Return a route for each file of the page. They are read once; nothing of a request leads to a path."""
    contents: dict[str, bytes] = {}
    for file in resources.files("fer_web").joinpath("static").iterdir():
        if file.name.rpartition(".")[2] in _TYPES:
            contents[file.name] = file.read_bytes()
    contents["docs.html"] = _with_tables(contents["docs.html"].decode()).encode()
    paths = {**{f"/static/{name}": name for name in contents}, **_PAGES}
    return [
        Route(path, _constant(contents[name], _TYPES[name.rpartition(".")[2]]), methods=["GET"], name=name)
        for path, name in paths.items()
    ]


def _with_tables(page: str) -> str:
    """Return the documents with the tables of options and problems filled in, so that each is written once."""
    defaults = msgspec.to_builtins(Options())
    options = [
        f"<tr><td><code>{name}</code></td><td><code>{json.dumps(defaults[name])}</code></td>"
        f"<td>{_prose(words)}</td></tr>"
        for name, words in OPTION_WORDS.items()
    ]
    problems = [
        f'<tr id="{slug}"><td>{kind.status}</td><td><code>{slug}</code></td>'
        f"<td>{_prose(kind.title)}</td><td>{_prose(kind.remedy)}</td></tr>"
        for slug, kind in KINDS.items()
    ]
    return page.replace("<!-- options -->", "".join(options)).replace("<!-- problems -->", "".join(problems))


def _prose(words: str) -> str:
    """Return words as HTML, what stands in backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(words))


def _constant(content: bytes, media_type: str) -> Callable[[Request], Any]:
    """Return an endpoint that answers the same each time, and nothing where the browser has it already."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers: Mapping[str, str] = {"ETag": tag, "Cache-Control": "no-cache", "Content-Type": media_type}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return answer
