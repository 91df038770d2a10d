"""The description of the service: OpenAPI 3.1, with schemas made of the types in `answers`."""

from __future__ import annotations

import importlib.metadata
from typing import Any, Final

import msgspec

from fer_web.answers import (
    NOTICE,
    OPTION_WORDS,
    PROHIBITED,
    FacesAnswer,
    FacesRequest,
    Health,
    ModelAnswer,
    Options,
    ProblemDetails,
)
from fer_web.problems import KINDS, MEDIA_TYPE

_JSON: Final = "application/json"
_ANYWHERE: Final = (400, 401, 403, 405, 431, 500)
"""Statuses of problems that each path below /v1 may have."""
_OF_PICTURES: Final = (408, 413, 415, 422, 429, 502, 503, 504)
_BASE64: Final = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)$"
_FILE: Final = {"type": "string", "minLength": 1, "contentMediaType": "application/octet-stream"}


def describe_service(max_images: int) -> dict[str, Any]:
    """Return the document.

    Args:
        max_images: Pictures that one request may have.
    """
    types = [FacesAnswer, FacesRequest, Health, ModelAnswer, Options, ProblemDetails]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for name, words in OPTION_WORDS.items():
        schemas["Options"]["properties"][name]["description"] = words
        schemas["FacesRequest"]["properties"][name]["description"] = words
    schemas["SentImage"]["properties"]["data"]["pattern"] = _BASE64
    schemas["FacesRequest"]["properties"]["images"]["maxItems"] = max_images
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fer-web",
            "version": importlib.metadata.version("fer-triton"),
            "summary": "Apparent facial expressions in pictures.",
            "description": f"{NOTICE}\n\nProhibited: {'; '.join(PROHIBITED)}.\n\nNo picture is stored or logged.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/faces": {"post": _post_faces(schemas["Options"]["properties"], max_images)},
            "/v1/model": {
                "get": _get("describe_model", "Labels, versions, limits, prohibited uses", _answer("ModelAnswer"))
                | {"security": [{}, {"token": []}]}
            },
            "/healthz": {"get": _get("check_alive", "Whether the service is alive", _answer("Health"), ())},
            "/readyz": {
                "get": _get("check_ready", "Whether a real inference succeeds", _answer("Health"), (502, 503, 504))
            },
            "/metrics": {
                "get": _get("read_metrics", "Counts for Prometheus", _of_type("text/plain"), (401,))
                | {"security": [{}, {"token": []}]}
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {str(status): _problem(status) for status in sorted({kind.status for kind in KINDS.values()})},
        },
    }


def _post_faces(options: dict[str, Any], max_images: int) -> dict[str, Any]:
    """Return the operation that takes pictures in three ways."""
    files = {"type": "array", "items": _FILE, "minItems": 1, "maxItems": max_images}
    form = {
        "type": "object",
        "properties": {"image": {**files, "description": "A part for each picture."}, **options},
        "required": ["image"],
        "additionalProperties": False,
    }
    raw = {"schema": _FILE}
    return {
        "operationId": "find_faces",
        "summary": "Find faces and their apparent expressions",
        "description": (
            "A request with one picture that fails is answered with its problem. Of several, each that fails "
            "has its problem in its place. No face is an answer too. Options may stand in the query, in fields of a "
            "form, or in members of a JSON body, which those of the query override."
        ),
        "parameters": [
            {
                "name": name,
                "in": "query",
                "description": OPTION_WORDS[name],
                "schema": {key: value for key, value in schema.items() if key != "description"},
            }
            for name, schema in options.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                **dict.fromkeys(("image/jpeg", "image/png", "image/webp", "image/bmp"), raw),
                "application/octet-stream": raw,
                _JSON: {"schema": {"$ref": "#/components/schemas/FacesRequest"}},
            },
        },
        "responses": {"200": _answer("FacesAnswer"), **_problems((*_ANYWHERE, *_OF_PICTURES))},
        "security": [{}, {"token": []}],
    }


def _get(
    operation: str, summary: str, answer: dict[str, Any], statuses: tuple[int, ...] = (401, 502, 503, 504)
) -> dict[str, Any]:
    responses = {"200": answer, **_problems((400, 403, 405, 431, 500, *statuses))}
    return {"operationId": operation, "summary": summary, "responses": responses}


def _answer(name: str) -> dict[str, Any]:
    return {
        "description": "The answer",
        "headers": {"X-Request-ID": {"schema": {"type": "string"}}},
        "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }


def _of_type(media_type: str) -> dict[str, Any]:
    return {"description": "The answer", "content": {media_type: {"schema": {"type": "string"}}}}


def _problems(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(set(statuses))}


def _problem(status: int) -> dict[str, Any]:
    kinds = {slug: kind for slug, kind in KINDS.items() if kind.status == status}
    headers: dict[str, Any] = {"X-Request-ID": {"schema": {"type": "string"}}}
    if status in (429, 503):
        headers["Retry-After"] = {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
    return {
        "description": "; ".join(f"{slug}: {kind.title}. {kind.remedy}" for slug, kind in kinds.items()),
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
