"""What the engine drives, of either encapsulation: bytes and the time go in, everything else out.

:class:`ropeway.core.node.SecureNode` and :class:`ropeway.core.classic.node.ClassicNode` are such.
"""

from __future__ import annotations

from typing import Any, Dict, Hashable, Iterable, List, Protocol, Sequence, Tuple

from ropeway.core import events
from ropeway.core.data.router import Router
from ropeway.core.link import Link
from ropeway.core.redundancy import LinkHealth, Watch
from ropeway.core.tables import Tables


class Node(Protocol):
    """One host of the virtual network, without its sockets and its clock.

    Every ``now`` is in seconds of one monotonic clock and never goes back. Bytes from links
    and device may be anything: they are counted and dropped, they never raise.
    """

    @property
    def router(self) -> Router:
        """The packets that wait to be taken for the device, for a glance."""

    @property
    def tables(self) -> Tables[Any]:
        """The connections whose outbox holds something, for a glance."""

    @property
    def watch(self) -> Watch:
        """Whether links carry and peers are reached over them."""

    def outbound(self, packets: Sequence[bytes], now: float, partial: bool = False) -> None:
        """Send packets that were read from the device.

        With ``partial`` the TCP or UDP checksums in them cover only the pseudo-header so far.
        """

    def inbound(self, received: Iterable[Any], key: Any, now: float) -> None:
        """Take what arrived at the socket that ``key`` names."""

    def packets_in(self, received: Any) -> int:
        """Return how many packets there are in one thing that a socket gave, 1 or more."""

    def flow(self, received: Any) -> Hashable:
        """Return what tells apart who waits, where more arrives than can be handled.

        Each host has flows of its own; what is not known to come from one shares a flow.
        """

    def without_packets(self, received: Sequence[Any]) -> Tuple[List[Any], int]:
        """Return what counts of things that sockets gave too late, and how many packets do not.

        Old packets are worth nothing. What ends say to each other besides is worth something: a
        connection must not look dead because this host stood still.
        """

    def expire_packets(self) -> None:
        """Drop all packets that wait to be taken: it has become too late for them meanwhile."""

    def set_max_age(self, max_age_s: float) -> None:
        """Have no packet wait for longer than that, in seconds, where some wait."""

    def send_failed(self, key: Any, reason: str, count: int) -> None:
        """Count datagrams that a socket refused; ``reason`` is the errno's name."""

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""

    def expect(self, unusable: Sequence[LinkHealth]) -> None:
        """Take the links that should carry and cannot, for a reason that only the outside knows."""

    def called(self) -> List[str]:
        """Return the addresses that routes are to be looked up for, each once.

        Hosts are called there, or have called from there.
        """

    @property
    def wants_lookup(self) -> bool:
        """Whether the node met an address of :meth:`called` whose route was not looked up yet.

        It does not call there before :meth:`set_links` brings the answer. Or whether something else
        has changed that the outside has to know.
        """

    def deadline(self) -> float:
        """Return the time of the next :meth:`tick`."""

    def tick(self, now: float) -> None:
        """Do what is due."""

    @property
    def device_mtu(self) -> int:
        """The MTU in bytes that the device should have, so that a packet fits every link in use."""

    def note(self, event: events.Event, now: float) -> None:
        """Take note of what has happened outside, to be reported as the node's own events are."""

    def take_events(self) -> List[events.Event]:
        """Return what has happened since the last call, oldest first."""

    def status(self, now: float) -> Dict[str, Any]:
        """Return everything that there is to see, ready for JSON."""
