"""What the service takes and answers, as types: JSON is checked by them and the OpenAPI schemas are made of them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

NOTICE: Final = (
    "The apparent facial expression as an annotator would label the picture; not what a person feels, and no evidence "
    "of truthfulness or intent."
)
"""Goes with each answer."""

PROHIBITED: Final = (
    "any use in workplaces or education institutions, for hiring, or for supervising examinations",
    "decisions about persons on the strength of an expression",
    "covert use",
)

Share = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0)]


class ImageSize(Struct):
    """Width and height of the upright picture in pixels."""

    width: int
    height: int


class Point(Struct):
    """A position in pixels of the upright picture, from its upper left corner."""

    x: float
    y: float


class Box(Struct):
    """A rectangle in pixels of the upright picture."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


class Landmarks(Struct):
    """Five points of a face. Right and left are the person's own: the right eye is further left in the picture."""

    right_eye: Point
    left_eye: Point
    nose_tip: Point
    right_mouth_corner: Point
    left_mouth_corner: Point


class Face(Struct):
    """A face and its apparent expression. A picture that is one face, cut out, has no box, landmarks and score."""

    emotion: Annotated[str, Meta(description="The label with the highest probability: the apparent expression.")]
    confidence: Annotated[float, Meta(ge=0, le=1, description="The probability of `emotion`.")]
    uncertain: Annotated[bool, Meta(description="Whether there is a reason not to rely on the answer.")]
    uncertain_reasons: Annotated[list[str], Meta(description="Which: `too small`, `low confidence` and the like.")]
    probabilities: Annotated[dict[str, float], Meta(description="Calibrated probability by label; they sum to 1.")]
    box: Box | UnsetType = UNSET
    landmarks: Landmarks | UnsetType = UNSET
    detection_score: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    quality: Annotated[dict[str, float], Meta(description="What the picture of the face is worth.")] | UnsetType = UNSET


class DrawnPicture(Struct):
    """The picture with its faces drawn on it, 2048 px at most on its longer side."""

    content_type: str
    data: bytes


class ProblemDetails(Struct):
    """What went wrong. Source: RFC 9457."""

    type: Annotated[str, Meta(description="Path in this service's documents: `/docs#image-refused`.")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(description="What was expected, what came, and what to do.")]
    request_id: str
    image: Annotated[int, Meta(ge=0, description="Which of the request's pictures it is about.")] | UnsetType = UNSET


class ImageAnswer(Struct):
    """One of the request's pictures: its faces, or `error`."""

    index: Annotated[int, Meta(ge=0, description="Place in the request, from 0.")]
    name: Annotated[str, Meta(description="The file's name as it was sent; empty where none was.")]
    error: ProblemDetails | UnsetType = UNSET
    image_size: ImageSize | UnsetType = UNSET
    faces_found: Annotated[int, Meta(ge=0, description="Before `max_faces` and the like.")] | UnsetType = UNSET
    faces: Annotated[list[Face], Meta(description="Largest first; empty where there is none.")] | UnsetType = UNSET
    annotated: DrawnPicture | UnsetType = UNSET
    wait_ms: Milliseconds | UnsetType = UNSET
    inference_ms: Milliseconds | UnsetType = UNSET


class FacesAnswer(Struct):
    """Answer of `POST /v1/faces`."""

    request_id: str
    model_version: Annotated[str, Meta(description="Of the network; empty where no picture was answered.")]
    notice: str
    total_ms: Annotated[float, Meta(ge=0, description="From the request's head to this answer.")]
    images: list[ImageAnswer]


class Bound(Struct):
    """A face beyond it is uncertain, for the reason given. What is null is not bounded."""

    column: str
    min: float | None
    max: float | None
    reason: str


class LimitsAnswer(Struct):
    """What is refused beyond."""

    max_images: int
    max_request_bytes: int
    max_image_bytes: int
    max_image_pixels: int | None
    images_per_s: float | None


class ModelAnswer(Struct):
    """Answer of `GET /v1/model`."""

    model_version: str
    labels: list[str]
    uncertain_below: Share
    quality_columns: list[str]
    quality_bounds: list[Bound]
    server: Annotated[str, Meta(description="Name and version of the model server.")]
    service_version: str
    limits: LimitsAnswer
    notice: str
    prohibited_uses: list[str]


class Health(Struct):
    """Answer of `GET /healthz` and `GET /readyz`."""

    status: str


class Options(Struct, forbid_unknown_fields=True):
    """What may be asked for, for all pictures of a request."""

    min_confidence: Annotated[float, Meta(ge=0, le=1)] = 0.0
    max_faces: Annotated[float, Meta(ge=1, le=32, multiple_of=1)] = 32  # 5.0 is an integer of JSON too.
    min_face_px: Annotated[float, Meta(ge=0, le=100_000)] = 0.0
    cropped: bool = False
    annotate: bool = False


OPTION_WORDS: Final = {
    "min_confidence": "Leave out faces whose most probable label has a lower probability.",
    "max_faces": "Answer the largest faces only.",
    "min_face_px": "Leave out faces whose box is narrower or lower, in pixels of the picture.",
    "cropped": "Each picture is one face, cut out: nothing is searched for in it.",
    "annotate": "Return each picture with its faces drawn on it, too.",
}


class SentImage(Struct, forbid_unknown_fields=True):
    """A picture in a JSON body."""

    data: Annotated[bytes, Meta(description="The file in base64, without a `data:` prefix.")]
    name: Annotated[str, Meta(max_length=1024)] = ""


class FacesRequest(Options, forbid_unknown_fields=True, kw_only=True):
    """A JSON body of `POST /v1/faces`."""

    images: Annotated[list[SentImage], Meta(min_length=1)]


def face_from(values: dict[str, Any]) -> Face:
    """Return a face of the answer.

    Args:
        values: What `to_dict` of the client's `Face` or `CroppedPrediction` returns.

    Raises:
        ValidationError: It is something else.
    """
    return msgspec.convert(values, Face)
