"""What a server says a picture of a face must be like, and why an answer is called uncertain where it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LOW_CONFIDENCE: Final = "low confidence"
"""The reason where the highest probability is below the server's threshold."""


@dataclass(frozen=True)
class QualityBound:
    """One of the bounds that a server publishes for the quality of a face.

    Attributes:
        column: The measure that it is about, one of the server's columns.
        minimum: A lower value is out of bounds; minus infinity where there is no such bound.
        maximum: A higher value is out of bounds; infinity where there is no such bound.
        reason: Why a face beyond it is uncertain, in the server's words: `too small`, `turned away`.
    """

    column: str
    minimum: float
    maximum: float
    reason: str

    @classmethod
    def parse(cls, text: str) -> QualityBound:
        """Read `column:min:max:reason`.

        One of the numbers may be missing, and so may the reason, which is `COLUMN out of bounds` then.

        Raises:
            ValueError: It is something else.
        """
        column, low, high, *rest = (part.strip() for part in [*text.split(":"), "", ""])
        reason, *more = rest
        minimum, maximum = float(low or "-inf"), float(high or "inf")
        if not column or any(more) or not minimum <= maximum or not (low or high):
            raise ValueError(text)
        return cls(column, minimum, maximum, reason or f"{column} out of bounds")

    def is_broken_by(self, value: float) -> bool:
        """Whether a value lies beyond the bound. What is not a number does."""
        return not self.minimum <= value <= self.maximum

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: a bound that is not there is null."""
        return {
            "column": self.column,
            "min": self.minimum if math.isfinite(self.minimum) else None,
            "max": self.maximum if math.isfinite(self.maximum) else None,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        low = f"at least {self.minimum:g}" if math.isfinite(self.minimum) else ""
        high = f"at most {self.maximum:g}" if math.isfinite(self.maximum) else ""
        return f"{self.column} {' and '.join(filter(None, (low, high)))}, else {self.reason}"


def find_reasons(
    confidence: float, uncertain_below: float, quality: Mapping[str, float], bounds: Sequence[QualityBound]
) -> tuple[str, ...]:
    """Tell why a face is uncertain.

    Args:
        confidence: The highest probability, 0..1.
        uncertain_below: The server's threshold for it, 0..1.
        quality: Value by column.
        bounds: The server's, for these columns.

    Returns:
        The reasons of the bounds that it breaks, in the server's order, then LOW_CONFIDENCE; each once.
    """
    broken = [bound.reason for bound in bounds if bound.is_broken_by(quality[bound.column])]
    return tuple(dict.fromkeys([*broken, *[LOW_CONFIDENCE] * (confidence < uncertain_below)]))
