"""Names of other hosts: which are wanted, and what they lead to."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Callable, Dict, List, Mapping, Protocol, Sequence, Tuple

from ropeway.app.config.model import Peer
from ropeway.core.endpoint import Endpoint
from ropeway.steward.answers import Resolved
from ropeway.steward.orders import Resolve

# Tuning
#: Whether hosts are reached is looked at this often, in seconds.
LOOK_EVERY_S = 1.0

_INF = float("inf")


class Node(Protocol):
    """What names need of a secure node."""

    def set_resolved(self, host: str, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take the endpoints that the names of a host have now."""

    def unreached(self) -> List[str]:
        """Return the hosts without an established connection."""


class Names:
    """Has the names of `peers` resolved, and the node told of what they lead to.

    `send` gives an order to the steward, `called_elsewhere` is called when the node calls other
    addresses.
    """

    def __init__(
        self,
        node: Node,
        peers: Sequence[Peer],
        send: Callable[[Resolve], None],
        called_elsewhere: Callable[[float], None],
    ) -> None:
        self._node = node
        self._send = send
        self._called_elsewhere = called_elsewhere
        self._of_host = _of_host(peers)
        self._addresses: Mapping[str, Tuple[str, ...]] = {}
        self._due = -_INF
        self._sent = Resolve()
        #: What is wrong with names, as sentences.
        self.faults: Sequence[str] = ()

    def set_peers(self, peers: Sequence[Peer], now: float) -> None:
        """Have the names of these peers resolved, which the node knows already."""
        self._of_host = _of_host(peers)
        self._tell_node(now)
        self._order()

    def begin(self) -> None:
        """Tell a steward that knows nothing yet."""
        self._sent = Resolve()
        self._order()

    def take(self, resolved: Resolved, now: float) -> None:
        """Take what the steward has found; what it has no answer for stays as it was."""
        names = {name for named in self._of_host.values() for name, _ in named}
        known = {**self._addresses, **resolved.addresses}
        self._addresses = {name: known[name] for name in known if name in names}
        self.faults = resolved.faults
        self._tell_node(now)

    def deadline(self) -> float:
        """Return when it is looked at next which hosts are reached."""
        return self._due if self._of_host else _INF

    def tick(self, now: float) -> None:
        """Say which names are urgent, if that has changed."""
        if now >= self._due:
            self._due = now + LOOK_EVERY_S
            if self._of_host:
                self._order()

    def status(self, host: str) -> List[Dict[str, Any]]:
        """Return the names of a host, ready for JSON."""
        return [
            {"name": name, "port": port, "addresses": list(self._addresses.get(name, ()))}
            for name, port in self._of_host.get(host, ())
        ]

    def _tell_node(self, now: float) -> None:
        for host, named in self._of_host.items():
            self._node.set_resolved(host, endpoints_of(named, self._addresses), now)
        self._called_elsewhere(now)

    def _order(self) -> None:
        unreached = set(self._node.unreached())
        names: Dict[str, bool] = {}
        for host, named in self._of_host.items():
            for name, _ in named:
                names[name] = names.get(name, False) or host in unreached
        order = Resolve(tuple(names), tuple(name for name, urgent in names.items() if urgent))
        if order != self._sent:
            self._sent = order
            self._send(order)


def endpoints_of(
    named: Sequence[Endpoint], addresses: Mapping[str, Tuple[str, ...]]
) -> List[Endpoint]:
    """Return where names with ports lead; each name has one endpoint before any has a second."""
    rows = [[(address, port) for address in addresses.get(name, ())] for name, port in named]
    return [endpoint for row in zip_longest(*rows) for endpoint in row if endpoint is not None]


def _of_host(peers: Sequence[Peer]) -> Dict[str, Tuple[Endpoint, ...]]:
    return {peer.host: peer.names for peer in peers if peer.names}
