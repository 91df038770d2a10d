"""A prediction as people read it in a terminal. ASCII only, so that it prints anywhere."""

from fer_client._results import Box, Face, Prediction

_GAP = "  "


def format_prediction(image: str, prediction: Prediction, url: str, request_ms: float) -> str:
    """Lay out one prediction: a line about the request, then a row for each face, largest first.

    Args:
        image: Name of the image.
        prediction: What the server found in it.
        url: The server's URL.
        request_ms: How long the request took, in milliseconds.

    Returns:
        Lines without a final newline; about 105 columns wide for FER2013's seven labels.
    """
    size = prediction.image_size
    request = (
        f"{image}: {size.width} x {size.height} px, model {prediction.model_version}, {request_ms:.0f} ms at {url}"
    )
    return f"{request}\n\n{_format_faces(prediction.faces) if prediction.faces else 'no face found'}"


def _format_faces(faces: tuple[Face, ...]) -> str:
    """The table of at least one face."""
    header = ["#", "box (x, y, w x h)", "score", "apparent expression", *faces[0].probabilities]
    rows = [
        [
            str(number),
            _format_box(face.box),
            f"{face.detection_score:.2f}",
            f"{face.emotion} {face.confidence:.1%}",
            *(f"{probability:.1%}" for probability in face.probabilities.values()),
        ]
        for number, face in enumerate(faces, start=1)
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    left_aligned = {1, 3}
    return "\n".join(
        _GAP.join(
            cell.ljust(width) if index in left_aligned else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, *rows]
    )


def _format_box(box: Box) -> str:
    return f"{box.x_min:.0f}, {box.y_min:.0f}, {box.width:.0f} x {box.height:.0f}"
