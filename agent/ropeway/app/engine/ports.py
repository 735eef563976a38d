"""The sockets of the links, as packets use them: what sends by key, and what is read."""

from __future__ import annotations

from functools import partial
from typing import Callable, Dict, Hashable, Union

from ropeway.app.engine.freshness import LinkMerge, LinkSource
from ropeway.app.engine.intake import Intake
from ropeway.app.engine.loop import Loop
from ropeway.kernel.classic_sockets import LinkSockets
from ropeway.kernel.meter import Meter
from ropeway.kernel.udp import Receiver, UdpSocket

Sockets = Union[LinkSockets, UdpSocket]
Receivers = Union[LinkSockets, Receiver]
#: Takes a source that epoll reports, its events and the time.
Receive = Callable[[LinkSource, int, float], None]


class Ports:
    """What is open, and what was read of it. `incoming` takes what arrives."""

    def __init__(self, loop: Loop, incoming: Intake) -> None:
        self._loop = loop
        #: What arrives at links is handed on, or waits its turn.
        self.incoming = incoming
        #: What arrived at links while the agent stood still.
        self.merge = LinkMerge(loop.bound)
        #: What sends, by the node's key.
        self.senders: Dict[Hashable, Sockets] = {}
        #: What is read, by descriptor.
        self.sources: Dict[int, LinkSource] = {}
        self._meters: Dict[int, Meter] = {}

    def open(self, receiver: Receivers, receive: Receive) -> None:
        """Have `receive` called for what was just opened, or close it and raise the `OSError`."""
        source = LinkSource(receiver, self._loop.bound, self.incoming.expire)
        try:
            self._loop.register(receiver.fileno(), partial(receive, source))
        except OSError:
            receiver.close()
            raise
        self.sources[receiver.fileno()] = source
        self._measure(receiver)

    def close(self, receiver: Receivers) -> None:
        """Close what was opened, and forget what was read of it."""
        self.merge.forget(self.sources.pop(receiver.fileno()))
        self._loop.unregister(receiver.fileno())
        receiver.close()

    def open_sender(self, sockets: Sockets, receive: Receive) -> None:
        """Send and receive by what was just opened, as `open`."""
        self.open(sockets, receive)
        self.senders[sockets.key] = sockets

    def close_sender(self, key: Hashable) -> None:
        """Close the sockets of the node's `key`."""
        self.incoming.forget(key)
        self.close(self.senders.pop(key))

    def set_meters(self, meters: Dict[int, Meter]) -> None:
        """Have the bytes of these links counted, by interface index, and those of no others."""
        self._meters = meters
        for source in self.sources.values():
            self._measure(source.sockets)

    def _measure(self, receiver: Receivers) -> None:
        if isinstance(receiver, Receiver):
            receiver.meter = self._meters.get(receiver.index)

    def receive_drops(self) -> Dict[int, int]:
        """Return how many datagrams the kernel dropped for want of room, by interface index."""
        drops: Dict[int, int] = {}
        for receiver in (source.sockets for source in self.sources.values()):
            drops[receiver.index] = drops.get(receiver.index, 0) + receiver.receive_drops()
        return drops
