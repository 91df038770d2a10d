"""Results as people read them in a terminal. ASCII only but for names and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fer_client import Box, CroppedPrediction, Face, Prediction
from fer_commands.messages import one_line, printable

_GAP: Final = "  "
_WHY: Final = "why uncertain"
_LONGEST_NAME: Final = 44
"""Columns that names get in a list of many. A longer one pushes its row to the right."""


def format_one(name: str, prediction: Prediction | CroppedPrediction, url: str, request_ms: float) -> str:
    """Lay out one prediction: a line about the request, then a row for each face, largest first.

    Args:
        name: Name of the image.
        prediction: What the server found in it.
        url: The server's URL.
        request_ms: How long the request took, in milliseconds.

    Returns:
        Lines without a final newline; about 105 columns wide for FER2013's seven labels.
    """
    size, version = prediction.image_size, one_line(prediction.model_version)
    request = f"{printable(name)}: {size.width} x {size.height} px, model {version}, {request_ms:.0f} ms at {url}"
    if isinstance(prediction, CroppedPrediction):
        rows = [["apparent expression", *_labels(prediction)], [_expression(prediction), *_percents(prediction)]]
        return f"{request}\n\n{_aligned(_with_reasons(rows, [prediction]), {0, len(rows[0])})}"
    if not prediction.faces:
        return f"{request}\n\nno face found"
    header = ["#", "box (x, y, w x h)", "score", "apparent expression", *_labels(prediction.faces[0])]
    rows = [
        [str(number), _box(face.box), f"{face.detection_score:.2f}", _expression(face), *_percents(face)]
        for number, face in enumerate(prediction.faces, start=1)
    ]
    table = _aligned(_with_reasons([header, *rows], prediction.faces), {1, 3, len(header)})
    if prediction.faces_left_out:
        table += f"\n\nthe {len(rows)} largest of {prediction.faces_found} faces; the others are not classified"
    return f"{request}\n\n{table}"


class ManyTable:
    """One line for each face of many images, written as they come: columns have to fit what is not known yet."""

    def __init__(self, names: Sequence[str]) -> None:
        """Fit the first column to the names."""
        longest = max(len(printable(name)) for name in names)
        self._widths = (min(max(longest, len("image")), _LONGEST_NAME), 4, 24, 5, 26, 14)

    @property
    def header(self) -> str:
        """The first line."""
        cells = ("image", "face", "box (x, y, w x h)", "score", "apparent expression", "next likely", _WHY)
        return self._row(*cells)

    def rows(self, name: str, prediction: Prediction | CroppedPrediction) -> list[str]:
        """The lines of one image; an image without a face has one too, and so have faces that the server left out."""
        shown = printable(name)
        if isinstance(prediction, CroppedPrediction):
            cells = ("-", "-", "-", _expression(prediction), _runner_up(prediction), _reasons(prediction))
            return [self._row(shown, *cells)]
        if not prediction.faces:
            return [self._row(shown, "-", "-", "-", "no face found", "")]
        rows = [
            self._row(
                shown,
                str(number),
                _box(face.box),
                f"{face.detection_score:.2f}",
                _expression(face),
                _runner_up(face),
                _reasons(face),
            )
            for number, face in enumerate(prediction.faces, start=1)
        ]
        if prediction.faces_left_out:
            rows.append(self._row(shown, "-", "-", "-", f"{prediction.faces_left_out} more, not classified", ""))
        return rows

    def _row(self, *cells: str) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=False)]
        return _GAP.join([*padded, *cells[len(padded) :]]).rstrip()


def _aligned(rows: Sequence[Sequence[str]], left_aligned: set[int]) -> str:
    """Rows in columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        _GAP.join(
            cell.ljust(width) if index in left_aligned else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _expression(face: Face | CroppedPrediction) -> str:
    return f"{one_line(face.emotion)} {face.confidence:.1%}{' (uncertain)' if face.uncertain else ''}"


def _with_reasons(rows: list[list[str]], faces: Sequence[Face | CroppedPrediction]) -> list[list[str]]:
    """The rows, a header among them, with a column that says why faces are uncertain, where any is known to be."""
    if not any(face.uncertain_reasons for face in faces):
        return rows
    return [[*row, cell] for row, cell in zip(rows, [_WHY, *map(_reasons, faces)], strict=True)]


def _reasons(face: Face | CroppedPrediction) -> str:
    return one_line(", ".join(face.uncertain_reasons))


def _runner_up(face: Face | CroppedPrediction) -> str:
    """The second most probable label: where it is close behind, the first one says little."""
    label, probability = _ranked(face.probabilities)[1]
    return f"{one_line(label)} {probability:.1%}"


def _labels(face: Face | CroppedPrediction) -> list[str]:
    """The heads of the columns: what a server calls its labels is not trusted to be harmless."""
    return [one_line(label) for label in face.probabilities]


def _ranked(probabilities: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(probabilities.items(), key=lambda item: item[1], reverse=True)


def _percents(face: Face | CroppedPrediction) -> list[str]:
    return [f"{probability:.1%}" for probability in face.probabilities.values()]


def _box(box: Box) -> str:
    return f"{box.x_min:.0f}, {box.y_min:.0f}, {box.width:.0f} x {box.height:.0f}"
