"""Changes of a host's routes and interfaces, many and as fast as its kernel makes them.

The requests are encoded once and sent again and again, so that the kernel is busy and not the test.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, Callable, Iterator, Sequence

from pyroute2 import IPBatch

from tests.system.bed.topology import Host

ROUTES = 10_000
INTERFACES = 200
#: Each route is one address, from here on; no test sends anything there.
ROUTES_FROM = 172 << 24 | 16 << 16
INTERFACE = "churn"
#: A request of the kernel is shorter; the socket's default buffer takes so many at a time.
REQUESTS_AT_ONCE = 50

Change = Callable[[IPBatch], Any]


class Churn:
    """Makes something in a host's kernel and removes it again, with prepared requests."""

    def __init__(self, host: Host, make: Sequence[Change], remove: Sequence[Change]) -> None:
        self._making, self._removing = _encoded(make), _encoded(remove)
        self._socket = host.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)

    def make(self) -> None:
        self._send(self._making)

    def remove(self) -> None:
        self._send(self._removing)

    def repeat(self, seconds: float) -> int:
        """Make and remove it for at least so long; return how often."""
        times, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            self.make()
            self.remove()
            times += 1
        return times

    def close(self) -> None:
        self._socket.close()

    def _send(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            # The kernel has done what is asked when this returns.
            self._socket.send(chunk)
            # Whether it did shows in what is there, so nobody reads what it answers.
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(1)


def _encoded(changes: Sequence[Change]) -> list[bytes]:
    chunks = []
    for start in range(0, len(changes), REQUESTS_AT_ONCE):
        batch = IPBatch()
        for change in changes[start : start + REQUESTS_AT_ONCE]:
            change(batch)
        chunks.append(bytes(batch.batch))
        batch.close()
    return chunks


def _route(command: str, number: int, index: int) -> Change:
    address = socket.inet_ntoa((ROUTES_FROM + number).to_bytes(4, "big"))
    return lambda batch: batch.route(command, dst=f"{address}/32", oif=index)


def _make_pair(number: int) -> Change:
    name, far = f"{INTERFACE}{number}", f"{INTERFACE}{number}-far"
    return lambda batch: batch.link("add", ifname=name, kind="veth", peer={"ifname": far})


def _remove_pair(number: int) -> Change:
    return lambda batch: batch.link("del", ifname=f"{INTERFACE}{number}")


@contextlib.contextmanager
def routes(host: Host, interface: str) -> Iterator[Churn]:
    """Have ROUTES routes over an interface ready to be inserted and removed."""
    index = int(host.link(interface)["index"])
    churn = Churn(
        host,
        [_route("add", number, index) for number in range(ROUTES)],
        [_route("del", number, index) for number in range(ROUTES)],
    )
    with contextlib.closing(churn):
        churn.make()
        assert len(host.ip_json("route", "show", "dev", interface)) > ROUTES, "the kernel took them"
        churn.remove()
        yield churn


@contextlib.contextmanager
def interfaces(host: Host) -> Iterator[Churn]:
    """Have INTERFACES interfaces, the ends of veth pairs, ready to be made and deleted."""
    pairs = range(INTERFACES // 2)
    churn = Churn(host, [_make_pair(n) for n in pairs], [_remove_pair(n) for n in pairs])
    with contextlib.closing(churn):
        churn.make()
        assert len(host.kernel.get_links()) > INTERFACES, "the kernel took them"
        churn.remove()
        yield churn
