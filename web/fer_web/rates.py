"""How many pictures a client may send."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from typing import Final

from fer_web.problems import Problem

_REMEMBERED: Final = 10_000
"""Clients. The one that was not seen for longest is forgotten first, and begins anew."""


class Rates:
    """A bucket of credit for each client, which fills at the rate that is allowed."""

    def __init__(self, images_per_s: float | None, burst: int) -> None:
        """Know no client.

        Args:
            images_per_s: Pictures a second that each client may send in the long run; None sets no limit.
            burst: Pictures that it may send at once after a pause.
        """
        self._images_per_s, self._burst = images_per_s, float(burst)
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def charge(self, client: str, images: int, *, on_credit: bool = False) -> None:
        """Take pictures from a client's credit.

        Args:
            client: A word for who asks.
            images: How many pictures.
            on_credit: Take them in any case, so that later ones have to wait: they have been received already.

        Raises:
            Problem: The credit does not suffice.
        """
        if self._images_per_s is None:
            return
        now = time.monotonic()
        credit, seen = self._clients.pop(client, (self._burst, now))
        credit = min(self._burst, credit + (now - seen) * self._images_per_s)
        is_allowed = on_credit or credit >= images
        self._clients[client] = (credit - images * is_allowed, now)
        if len(self._clients) > _REMEMBERED:
            self._clients.popitem(last=False)
        if not is_allowed:
            wait_s = (images - credit) / self._images_per_s
            detail = f"Expected at most {self._images_per_s:g} pictures a second: try again in {wait_s:.1f} s."
            raise Problem("rate-limited", detail, retry_after_s=wait_s)


def network_of(host: str) -> str:
    """Return an address, of IPv6 its network of 64 bits: one client may have all addresses of it."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
