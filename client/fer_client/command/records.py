"""Results of `fer-client predict`, written image by image as they come: as a table, JSON, JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TextIO, TypeAlias

from fer_client import Box, CroppedPrediction, Face, FerClientError, Prediction
from fer_client._errors import ImageRefusedError, ImageUnreadableError
from fer_commands.messages import align, one_line, printable, utf8_name

_Expression: TypeAlias = Face | CroppedPrediction

_GAP: Final = "  "
_WHY: Final = "why uncertain"
_LONGEST_NAME: Final = 44
"""Columns that names get in a list of many. A longer one pushes its row to the right."""

REFUSED: Final = ImageRefusedError.kind
UNREADABLE: Final = ImageUnreadableError.kind


@dataclass(frozen=True)
class Outcome:
    """What became of one image: a prediction, or an error.

    Attributes:
        name: The image's.
        prediction: What the server found, or None.
        error: Why there is no prediction, or None.
        request_ms: How long the request took, in milliseconds, where it went alone.
    """

    name: str
    prediction: Prediction | CroppedPrediction | None = None
    error: FerClientError | None = None
    request_ms: float | None = None

    @property
    def error_kind(self) -> str:
        """One word for programs; empty where there is no error."""
        return "" if self.error is None else self.error.kind

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON. A name that is not text keeps its bytes as surrogates: see `utf8_name`."""
        name = utf8_name(self.name)
        if self.prediction is not None:
            duration = {} if self.request_ms is None else {"request_ms": round(self.request_ms, 1)}
            return {"image": name, **duration, **self.prediction.to_dict()}
        return {"image": name, "error": {"kind": self.error_kind, "message": str(self.error)}}


@dataclass
class Tally:
    """How many images became what.

    Attributes:
        images: Images that were dealt with.
        faces: Faces in all images together.
        faces_left_out: Faces that the server found and did not classify.
        without_face: Images that were answered and have no face.
        refused: Images that the server does not accept.
        unreadable: Images that could not be sent.
        failed: Images that have no answer for another reason.
        seconds: How long it took.
        left_out: Number of files that were passed over in folders, by extension: see `Sources`.
    """

    images: int = 0
    faces: int = 0
    faces_left_out: int = 0
    without_face: int = 0
    refused: int = 0
    unreadable: int = 0
    failed: int = 0
    seconds: float = 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Images with a result; no face is one."""
        return self.images - self.without_result

    @property
    def without_result(self) -> int:
        """Images that have none."""
        return self.refused + self.unreadable + self.failed

    def count(self, outcome: Outcome) -> None:
        """Add an image."""
        self.images += 1
        if outcome.prediction is not None:
            faces = getattr(outcome.prediction, "faces", (outcome.prediction,))  # A crop is one face.
            self.faces += len(faces)
            self.faces_left_out += getattr(outcome.prediction, "faces_left_out", 0)
            self.without_face += not faces
        elif outcome.error_kind == REFUSED:
            self.refused += 1
        elif outcome.error_kind == UNREADABLE:
            self.unreadable += 1
        else:
            self.failed += 1

    @property
    def images_per_s(self) -> float:
        """Answered images for each second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "images": self.images,
            "answered": self.answered,
            "faces": self.faces,
            "faces_found": self.faces + self.faces_left_out,
            "without_face": self.without_face,
            "refused": self.refused,
            "unreadable": self.unreadable,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "images_per_s": round(self.images_per_s, 2),
            "left_out": dict(sorted(self.left_out.items())),
        }

    def __str__(self) -> str:
        """Return one line for people."""
        faces = f"{self.faces} face{'s' * (self.faces != 1)}"
        if self.faces_left_out:
            faces = f"{self.faces} of {self.faces + self.faces_left_out} faces (the largest of each image)"
        parts = [
            f"{self.images} image{'s' * (self.images != 1)}",
            faces,
            *(f"{self.without_face} without a face" for _ in range(self.without_face > 0)),
            f"{self.refused} refused",
            *(f"{self.unreadable} unreadable" for _ in range(self.unreadable > 0)),
            *(f"{self.failed} failed" for _ in range(self.failed > 0)),
        ]
        return f"{', '.join(parts)}; {self.seconds:.1f} s, {self.images_per_s:.1f} images/s"


class Writer(ABC):
    """Writes outcomes in one format. What is written so far is always complete up to `end`."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a text stream."""
        self._stream = stream

    def begin(self, labels: Sequence[str], quality_columns: Sequence[str] = ()) -> None:  # noqa: B027 - some have none
        """Write what comes before the first image.

        Args:
            labels: The served model's, in order.
            quality_columns: Names of what the server measures of each face; empty where it measures nothing.
        """

    @abstractmethod
    def write(self, outcome: Outcome) -> None:
        """Write what became of one image."""

    def end(self, tally: Tally) -> None:  # noqa: B027 - some formats have no end
        """Write what comes after the last image, also where the run was cut short."""

    def _line(self, text: str) -> None:
        """Write a line and hand it to the system at once: another program can follow along, and nothing is lost."""
        self._stream.write(f"{text}\n")
        self._stream.flush()


class OneTableWriter(Writer):
    """A single image for people: a line about the request, then a row for each face, largest first.

    The rows are about 105 columns wide for FER2013's seven labels. All tables are ASCII but for names and labels.
    """

    def __init__(self, stream: TextIO, url: str) -> None:
        """Write to a text stream; `url` is the server's."""
        super().__init__(stream)
        self._url = url

    def write(self, outcome: Outcome) -> None:
        """Write the table, unless the image has no result: that is on standard error."""
        prediction = outcome.prediction
        if prediction is None:
            return
        size, version = prediction.image_size, one_line(prediction.model_version)
        request = f"{size.width} x {size.height} px, model {version}, {outcome.request_ms or 0.0:.0f} ms at {self._url}"
        self._line(f"{printable(outcome.name)}: {request}\n\n{_format_faces(prediction)}")

    def add(self, line: str) -> None:
        """Write another line below."""
        self._line(line)


class ManyTableWriter(Writer):
    """A line for each face of many images, written as they come: columns have to fit what is not known yet.

    An image without a face has a line too, and so have the faces that the server left out. Images without a result are
    on standard error only.
    """

    def __init__(self, stream: TextIO, names: Sequence[str]) -> None:
        """Write to a text stream; the first column fits `names`, those of all images."""
        super().__init__(stream)
        longest = max(len(printable(name)) for name in names)
        self._widths = (min(max(longest, len("image")), _LONGEST_NAME), 4, 24, 5, 26, 14)

    def begin(self, labels: Sequence[str], quality_columns: Sequence[str] = ()) -> None:  # noqa: ARG002
        """Write the heads of the columns."""
        self._row("image", "face", "box (x, y, w x h)", "score", "apparent expression", "next likely", _WHY)

    def write(self, outcome: Outcome) -> None:
        """Write the rows of an image."""
        name, prediction = printable(outcome.name), outcome.prediction
        if isinstance(prediction, CroppedPrediction):
            self._row(name, "-", "-", "-", *_likeliest(prediction))
        elif prediction is not None:
            for number, face in enumerate(prediction.faces, start=1):
                self._row(name, str(number), _box(face.box), f"{face.detection_score:.2f}", *_likeliest(face))
            if prediction.faces_left_out:
                self._row(name, "-", "-", "-", f"{prediction.faces_left_out} more, not classified")
            if not prediction.faces:
                self._row(name, "-", "-", "-", "no face found")

    def _row(self, *cells: str) -> None:
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=False)]
        self._line(_GAP.join([*padded, *cells[len(padded) :]]).rstrip())


class JsonWriter(Writer):
    """One document, `{"images": [...], "summary": {...}}`, written as it grows: memory stays flat."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a text stream."""
        super().__init__(stream)
        self._separator = ""

    def begin(self, labels: Sequence[str], quality_columns: Sequence[str] = ()) -> None:  # noqa: ARG002
        """Open the document."""
        self._stream.write('{\n  "images": [')

    def write(self, outcome: Outcome) -> None:
        """Write an element of `images`."""
        record = textwrap.indent(json.dumps(outcome.to_dict(), indent=2), "    ")
        self._stream.write(f"{self._separator}\n{record}")
        self._separator = ","

    def end(self, tally: Tally) -> None:
        """Write the summary and close the document."""
        summary = textwrap.indent(json.dumps(tally.to_dict(), indent=2), "  ").lstrip()
        self._line(f'\n  ],\n  "summary": {summary}\n}}')


class JsonLinesWriter(Writer):
    """A document on each line, for one image each."""

    def write(self, outcome: Outcome) -> None:
        """Write a line."""
        self._line(json.dumps(outcome.to_dict()))


class CsvWriter(Writer):
    """A row for each face, and one for an image without a face or without a result."""

    _BOX: Final = ("x_min", "y_min", "x_max", "y_max")

    def begin(self, labels: Sequence[str], quality_columns: Sequence[str] = ()) -> None:
        """Write the heads of the columns."""
        columns = ["image", "width", "height", "face", *self._BOX, "detection_score", "emotion", "confidence"]
        # What later versions added comes last, so that a column keeps its number.
        columns += ["uncertain", *labels, "model_version", "error", "faces_found", "uncertain_reasons"]
        columns += quality_columns
        self._rows = csv.DictWriter(self._stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
        self._rows.writeheader()

    def write(self, outcome: Outcome) -> None:
        """Write the rows of an image."""
        name = utf8_name(outcome.name).encode("utf-8", "surrogateescape").decode(errors="backslashreplace")
        if self._stream.isatty():  # A program can take any name, a terminal would do what is in it.
            name = one_line(name)
        self._rows.writerows(_csv_rows(name, outcome))
        self._stream.flush()


def _csv_rows(name: str, outcome: Outcome) -> Iterator[dict[str, Any]]:
    image: dict[str, Any] = {"image": name}
    if outcome.prediction is None:
        yield image | {"error": f"{outcome.error_kind}: {printable(str(outcome.error))}"}
        return
    document = outcome.prediction.to_dict()
    image |= document["image_size"] | {"model_version": document["model_version"]}
    image["faces_found"] = document.get("faces_found", "")
    faces = document.get("faces", [document])  # A crop is one face.
    for number, face in enumerate(faces, start=1):
        expression = {key: face[key] for key in ("detection_score", "emotion", "confidence") if key in face}
        expression["uncertain"] = str(face["uncertain"]).lower()
        expression["uncertain_reasons"] = "; ".join(face["uncertain_reasons"])
        measured = face.get("quality", {}) | face["probabilities"]
        yield image | {"face": number} | face.get("box", {}) | expression | measured
    if not faces:
        yield image


def _format_faces(prediction: Prediction | CroppedPrediction) -> str:
    """Return the table of one image without a final newline."""
    faces: Sequence[_Expression] = [prediction] if isinstance(prediction, CroppedPrediction) else prediction.faces
    if not faces:
        return "no face found"
    # What a server calls its labels is not trusted to be harmless.
    rows = [["apparent expression", *(one_line(label) for label in faces[0].probabilities)]]
    rows += [[_expression(face), *(f"{share:.1%}" for share in face.probabilities.values())] for face in faces]
    left_aligned = {0}
    if not isinstance(prediction, CroppedPrediction):
        places = [[str(n), _box(face.box), f"{face.detection_score:.2f}"] for n, face in enumerate(prediction.faces, 1)]
        rows = [[*place, *row] for place, row in zip([["#", "box (x, y, w x h)", "score"], *places], rows, strict=True)]
        left_aligned = {1, 3}
    if any(face.uncertain_reasons for face in faces):
        left_aligned.add(len(rows[0]))
        rows = [[*row, cell] for row, cell in zip(rows, [_WHY, *map(_reasons, faces)], strict=True)]
    table = align(rows, left_aligned)
    if left_out := getattr(prediction, "faces_left_out", 0):
        found = len(faces) + left_out
        table += f"\n\nthe {len(faces)} largest of {found} faces; the others are not classified"
    return table


def _expression(face: _Expression) -> str:
    return f"{one_line(face.emotion)} {face.confidence:.1%}{' (uncertain)' if face.uncertain else ''}"


def _likeliest(face: _Expression) -> tuple[str, str, str]:
    """Return cells: the expression, the next likely one (close behind, it makes the first doubtful), and the doubts."""
    label, probability = sorted(face.probabilities.items(), key=lambda item: item[1], reverse=True)[1]
    return _expression(face), f"{one_line(label)} {probability:.1%}", _reasons(face)


def _reasons(face: _Expression) -> str:
    return one_line(", ".join(face.uncertain_reasons))


def _box(box: Box) -> str:
    return f"{box.x_min:.0f}, {box.y_min:.0f}, {box.width:.0f} x {box.height:.0f}"
