"""Many images at a time: which to take from their source next, and which results to hand out.

Nothing is run here: `_threads` and `_tasks` take images, work on them and hand results out as the window says. It keeps
memory flat however many images there are, and keeps the server busy while the oldest image keeps others waiting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

_Result = TypeVar("_Result")

_AHEAD: Final = 2
"""Images taken for each one worked on: so many that nobody waits for work while the oldest is still under way."""


@dataclass(frozen=True)
class Failure:
    """Stands for a result where there is none, but an error to be raised in its place."""

    error: Exception


@dataclass
class Window(Generic[_Result]):
    """The images that were taken from their source and whose results were not handed out yet.

    Attributes:
        concurrency: How many images are worked on at a time.
        in_order: Whether results are handed out in the order of the images, or else as they come.
    """

    concurrency: int
    in_order: bool
    _taken: int = 0
    _handed_out: int = 0
    _source_ended: bool = False
    _source_error: Exception | None = None
    _waiting: dict[int, _Result | Failure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError where nothing would ever be worked on."""
        if self.concurrency < 1:
            raise ValueError(f"concurrency of {self.concurrency}: expected 1 or more")

    @property
    def wants_more(self) -> bool:
        """Whether to take another image from the source."""
        return not self._source_ended and self._taken - self._handed_out < _AHEAD * self.concurrency

    @property
    def is_over(self) -> bool:
        """Whether all results were handed out. Raises what the source raised, once they were."""
        is_over = self._source_ended and self._handed_out == self._taken
        if is_over and self._source_error is not None:
            raise self._source_error
        return is_over

    @property
    def has_result(self) -> bool:
        """Whether there is a result to be handed out."""
        return self._handed_out in self._waiting if self.in_order else bool(self._waiting)

    def take(self) -> int:
        """Note that an image was taken. Returns its index."""
        self._taken += 1
        return self._taken - 1

    def end(self, error: Exception | None = None) -> None:
        """Note that the source is at its end, or failed. Results under way are handed out before that is raised."""
        self._source_ended, self._source_error = True, error

    def put(self, index: int, result: _Result | Failure) -> None:
        """Note the result for an image."""
        self._waiting[index] = result

    def hand_out(self) -> tuple[int, _Result]:
        """The next result and the index of its image. Raises the error that stands in its place."""
        index = self._handed_out if self.in_order else next(iter(self._waiting))
        result = self._waiting.pop(index)
        self._handed_out += 1
        if isinstance(result, Failure):
            raise result.error
        return index, result
