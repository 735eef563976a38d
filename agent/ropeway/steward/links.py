"""Opens what links send and receive by."""

from __future__ import annotations

from typing import Tuple

from ropeway.kernel import classic_sockets, udp
from ropeway.steward.orders import OpenSocket


def open_for_link(order: OpenSocket) -> Tuple[int, ...]:
    """Return the descriptors that an order asks for; `OSError` if they cannot be had."""
    if not order.address:
        return classic_sockets.open_pair(order.index, order.name)
    if order.stray:
        return (udp.open_stray(order.address, order.port),)
    return (udp.open_socket(order.index, order.name, order.address, order.port),)
