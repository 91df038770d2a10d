"""Follows faces from frame to frame by where they are. Nobody is recognised."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_client._results import Face, ImageSize
from fer_client.video.settings import PATIENCE_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_DIFFERENT: Final = 0.75
"""A pair of track and face has to cost less. Without overlap, landmarks must be within half a face of where they are
expected."""
_LARGEST_GROWTH: Final = 2.0
"""Largest factor of growth in width or height from one sighting to the next."""
_VELOCITY_TIME_CONSTANT_S: Final = 0.2
"""Time over which the velocity is averaged: detections jitter by a pixel or two, which is 50 px/s at 30 frames/s."""
_COASTING_TIME_CONSTANT_S: Final = 1.0
"""Decay time of an unseen face's velocity: a walk continues, a nod does not."""
_STRAYING_PER_S: Final = 1.0
"""Share by which an offset counts less for each second out of sight, in which the face may have gone anywhere."""


class Tracker:
    """Gives each face the number of its track. Numbers start at 1 and are never used twice."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        """Start before the first frame.

        Args:
            patience_s: A track ends when its face has been out of sight for longer than this, in seconds.
        """
        self._patience_s = patience_s
        self._tracks: list[_Track] = []
        self._started = 0
        self._size: ImageSize | None = None

    @property
    def open_tracks(self) -> Collection[int]:
        """Numbers of the tracks that may still go on."""
        return {track.number for track in self._tracks}

    def end_all(self) -> None:
        """End every track, as at a cut."""
        self._tracks.clear()

    def update(self, time_s: float, faces: Sequence[Face], size: ImageSize) -> list[int]:
        """Tell which track each face belongs to; a face that belongs to none starts one.

        Args:
            time_s: Time of the frame in seconds, later than that of the frame before.
            faces: Faces in the frame.
            size: Size of the frame in pixels. Where it changes, tracks keep their places in the picture.

        Returns:
            The number of each face's track, in the order of `faces`.
        """
        if self._size is not None and self._size != size:
            for track in self._tracks:
                track.rescale(size.width / self._size.width, size.height / self._size.height)
        self._size = size
        self._tracks = [track for track in self._tracks if time_s - track.seen_s <= self._patience_s]
        boxes = np.array([face.box for face in faces], np.float64).reshape(-1, 4)
        landmarks = np.array([face.landmarks for face in faces], np.float64).reshape(-1, 5, 2)
        costs = np.array([track.differences(time_s, boxes, landmarks) for track in self._tracks])
        pairs = assign(costs.reshape(len(self._tracks), len(faces)), _MOST_DIFFERENT)
        track_of = {face: self._tracks[track] for track, face in pairs}
        for index, (box, points) in enumerate(zip(boxes, landmarks, strict=True)):
            if index in track_of:
                track_of[index].move(time_s, box, points)
            else:
                self._started += 1
                track_of[index] = _Track(self._started, time_s, box, points)
                self._tracks.append(track_of[index])
        return [track_of[index].number for index in range(len(faces))]


class _Track:
    """Where one face was last seen, and where it was going.

    Attributes:
        number: Its name.
        seen_s: When it was last seen.
    """

    def __init__(self, number: int, time_s: float, box: NDArray[np.float64], landmarks: NDArray[np.float64]) -> None:
        """Start with a first sighting: box (4,) and landmarks (5, 2) in pixels."""
        self.number = number
        self.seen_s = time_s
        self._box = box
        self._landmarks = landmarks
        self._velocity = np.zeros(2)  # px/s

    def move(self, time_s: float, box: NDArray[np.float64], landmarks: NDArray[np.float64]) -> None:
        """Add a sighting."""
        elapsed_s = time_s - self.seen_s
        # Landmarks move with the head where a box's edges jump. The mean of five moves least by chance.
        velocity = (landmarks - self._landmarks).mean(axis=0) / elapsed_s
        self._velocity += (velocity - self._velocity) * -math.expm1(-elapsed_s / _VELOCITY_TIME_CONSTANT_S)
        self.seen_s, self._box, self._landmarks = time_s, box, landmarks

    def rescale(self, across: float, down: float) -> None:
        """Multiply coordinates by these factors: the same picture has another size from now on."""
        factors = np.array([across, down])
        self._box, self._landmarks = self._box * np.tile(factors, 2), self._landmarks * factors
        self._velocity *= factors

    def differences(
        self, time_s: float, boxes: NDArray[np.float64], landmarks: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Measure how badly each face of a frame fits this track.

        Half of it is how far the boxes are from covering each other, half is how far landmarks are from where they
        should be, in face sizes.

        Args:
            time_s: Time of the frame in seconds.
            boxes: float, (N, 4), in pixels.
            landmarks: float, (N, 5, 2), in pixels.

        Returns:
            (N,): from 0, perfect, on; infinite where a face is too large or small to be the same.
        """
        coasting_s = -_COASTING_TIME_CONSTANT_S * math.expm1(-(time_s - self.seen_s) / _COASTING_TIME_CONSTANT_S)
        shift = self._velocity * coasting_s
        expected_box = self._box + np.tile(shift, 2)
        sizes, expected_size = boxes[:, 2:] - boxes[:, :2], self._box[2:] - self._box[:2]
        shared = np.minimum(boxes[:, 2:], expected_box[2:]) - np.maximum(boxes[:, :2], expected_box[:2])
        overlap = np.clip(shared, 0, None).prod(axis=1)
        union = sizes.prod(axis=1) + expected_size.prod() - overlap
        offsets = np.linalg.norm(landmarks - (self._landmarks + shift), axis=2).mean(axis=1)
        face_sizes = np.sqrt(np.sqrt(sizes.prod(axis=1) * expected_size.prod()))
        offsets = offsets / (np.maximum(face_sizes, 1) * (1 + _STRAYING_PER_S * (time_s - self.seen_s)))
        growth = np.exp(np.abs(np.log(np.maximum(sizes, 1) / np.maximum(expected_size, 1))).max(axis=1))
        costs = 0.5 * (1 - overlap / np.maximum(union, 1)) + 0.5 * offsets
        return np.where(growth <= _LARGEST_GROWTH, costs, np.inf)


def assign(costs: NDArray[np.float64], most: float) -> list[tuple[int, int]]:
    """Pair rows with columns so that the sum is least, where leaving a row without a column costs `most`.

    Each row in turn takes the cheapest path to a free column, along which rows placed before may move to others. Time
    grows with the cube of the rows; 32 rows take 5 ms.

    Args:
        costs: float, (rows, columns); infinite where a pair is out of the question.
        most: No pair costs as much.

    Returns:
        (row, column) of each pair, by row.

    Source: R. Jonker and A. Volgenant, A shortest augmenting path algorithm for dense and sparse linear assignment
    problems, Computing 38, 1987, without its initialisation.
    """
    rows, columns = costs.shape
    # Each row has a column of its own besides, which stands for being left alone.
    alone = np.where(np.eye(rows, dtype=bool), most, np.inf)
    padded = np.concatenate([np.where(costs < most, costs, np.inf), alone], axis=1)  # (rows, columns + rows)
    row_of = np.full(columns + rows, -1)
    prices = np.zeros(columns + rows)  # The dual price of each column.
    for row in range(rows):
        _place(row, padded, row_of, prices)
    return sorted((int(row_of[column]), column) for column in range(columns) if row_of[column] >= 0)


def _place(new_row: int, costs: NDArray[np.float64], row_of: NDArray[np.intp], prices: NDArray[np.float64]) -> None:
    """Give `new_row` a column, moving rows placed before where that is cheaper. Changes `row_of` and `prices`."""
    width = costs.shape[1]
    distance, came_from = np.full(width, np.inf), np.full(width, -1)
    is_settled = np.zeros(width, bool)
    row, travelled = new_row, 0.0
    column_of = {int(placed): column for column, placed in enumerate(row_of) if placed >= 0}
    while True:
        reduced = costs[row] - prices
        # How much dearer a column is than the one this row has; that one is 0 further away.
        ways = travelled + reduced - (reduced[column_of[row]] if row != new_row else 0.0)
        is_shorter = ~is_settled & (ways < distance)
        distance[is_shorter], came_from[is_shorter] = ways[is_shorter], row
        column = int(np.argmin(np.where(is_settled, np.inf, distance)))
        travelled = float(distance[column])
        if row_of[column] < 0:
            break
        is_settled[column] = True
        row = int(row_of[column])
    prices[is_settled] += distance[is_settled] - travelled
    while True:  # Along the way, each row takes the column that the next one left.
        row = int(came_from[column])
        row_of[column] = row
        if row == new_row:
            return
        column = column_of[row]
