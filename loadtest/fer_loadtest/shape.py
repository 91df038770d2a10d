"""Locust's shape: asks the conductor of the test each second how many users there are to be."""

from __future__ import annotations

from collections.abc import Callable

from locust import LoadTestShape

Tick = Callable[[], tuple[int, float] | None]


class FerShape(LoadTestShape):
    """Whatever course the options ask for."""

    lead: Tick | None = None

    def tick(self) -> tuple[int, float] | None:
        """Users and users to start per second; None ends the test."""
        return None if FerShape.lead is None else FerShape.lead()


def attach(tick: Tick) -> None:
    """Say whom to ask."""
    FerShape.lead = staticmethod(tick)
