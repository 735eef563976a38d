"""Opens what links send and receive by."""

from __future__ import annotations

import errno
import os
from typing import Iterable, Tuple

from ropeway.core.link import Link
from ropeway.kernel import classic_sockets, udp
from ropeway.steward.orders import OpenSocket


def open_for_link(order: OpenSocket, links: Iterable[Link], port: int) -> Tuple[int, ...]:
    """Return the descriptors that an order asks for; `OSError` if they cannot be had.

    The order names one of `links`, and an address of it in a secure network, whose sockets have
    that UDP `port`.
    """
    link = next((one for one in links if (one.index, one.name) == (order.index, order.name)), None)
    if link is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    if not order.address:
        return classic_sockets.open_pair(order.index, order.name)
    if not link.holds(order.address):
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    if order.stray:
        return (udp.open_stray(order.address, port),)
    return (udp.open_socket(order.index, order.name, order.address, port),)
