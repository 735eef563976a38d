"""Datagrams of the control side that wait to be sent."""

from __future__ import annotations

from typing import List, Tuple

from ropeway.core.endpoint import Endpoint, SocketKey


class Outgoing:
    """Handshakes, resets and control frames, in the order in which they are to be sent."""

    def __init__(self) -> None:
        self._datagrams: List[Tuple[SocketKey, Endpoint, bytes]] = []

    def put(self, socket: SocketKey, endpoint: Endpoint, datagram: bytes) -> None:
        """Have a datagram sent by a socket to an endpoint."""
        self._datagrams.append((socket, endpoint, datagram))

    def take(self) -> List[Tuple[SocketKey, Endpoint, bytes]]:
        """Return what has to be sent, and keep nothing of it."""
        datagrams, self._datagrams = self._datagrams, []
        return datagrams
