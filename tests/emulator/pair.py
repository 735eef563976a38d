"""Two secure nodes joined by emulated links, on a clock that jumps from event to event.

Nothing waits and nothing is measured of this machine: the same seed gives the same packets at the
same times. Each node does what the engine makes it do: packets of the device in, trains out, the
tick at the deadline.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import sys
from collections import deque
from dataclasses import replace
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union

from ropeway.core.frame.data import CONTROL, DATA, OVERHEAD, PARTIAL
from ropeway.core.frame.outer import IPV4_SIZE, UDP_SIZE
from ropeway.core.link import Link
from ropeway.core.node import SecureNode
from ropeway.core.packet import ipv4
from ropeway.core.settings import PeerSettings, SecureSettings
from ropeway.core.strand.state import State
from tests.emulator.flow import LOST, Flow, Usage
from tests.emulator.link import LinkModel
from tests.emulator.spec import BothWays, parse
from tests.unit.core.secure_world import NETWORK, PORT, key, link, peer

A, B = "10.0.0.1", "10.0.0.2"
OUTER = IPV4_SIZE + UDP_SIZE
#: The nodes' clock at 0 s of the links: monotonic clocks do not start at 0.
EPOCH_S = 1000.0
#: The nodes meet in this time before 0 s, over links that lose, queue and vary nothing.
WARM_UP_S = 5.0
#: After a stream, packets that are late have so long to come.
LINGER_S = 3.0
#: A flow that makes the way back known, as a call or an acknowledgement does: IP bytes, and rate.
BACK_SIZE, BACK_KBIT = 100, 16.0
#: An agent that ticks so often at one moment would use a whole processor.
TICKS_MAX = 1000

#: Control frames whose time on the way is known afterwards, by direction.
TRANSITS = 32

_PROTOCOL_AT, _UDP = 9, 17
_UDP_START = 20
_NUMBER_AT = _UDP_START + UDP_SIZE
SIZE_MIN = _NUMBER_AT + 6


class _Way:
    """One direction of a link."""

    def __init__(self, model: LinkModel, source: Tuple[str, int], to: int, key: Any) -> None:
        self.model = model
        self.source = source
        #: Number and socket of the node at the other end.
        self.to = to
        self.key = key
        self.usage = Usage()
        self.by_second: Dict[int, int] = {}
        #: How long the last control frames that arrived were on their way.
        self.transits_ms: Deque[float] = deque(maxlen=TRANSITS)
        self.up = True


class EmulatedPair:
    """Nodes a (10.0.0.1) and b (10.0.0.2) with a link of each kind given; a knows where b is.

    ``links`` are texts as :mod:`tests.emulator.spec` reads them, or what it returns. ``settings``
    are more fields of both nodes' SecureSettings. ``now`` is 0 when the traces begin.
    """

    def __init__(
        self, links: Sequence[Union[str, BothWays]], seed: int = 1, **settings: Any
    ) -> None:
        print(f"seed {seed}", file=sys.stderr)
        self.now = -WARM_UP_S
        self.names: List[str] = []
        self.flows: List[Flow] = []
        self._random = random.Random(seed)
        self._serial = itertools.count()
        self._events: List[Tuple[float, int, Callable[..., None], Tuple[Any, ...]]] = []
        self._ways: List[Tuple[_Way, _Way]] = []
        #: (socket's key, far address) -> way, by node.
        self._routes: Tuple[Dict[Any, _Way], Dict[Any, _Way]] = ({}, {})
        interfaces: Tuple[List[Link], List[Link]] = ([], [])
        for number, one in enumerate(links):
            self._join(number, parse(one) if isinstance(one, str) else one, interfaces)
        self._interfaces = interfaces
        far = [f"192.168.{number}.3" for number in range(len(links))]
        peers = (peer("b", B, *far), peer("a", A))
        self.nodes = tuple(
            self._node(name, address, one, settings)
            for name, address, one in zip("ab", (A, B), peers)
        )
        self._due = [0.0, 0.0]
        self._set_links()
        self.run(WARM_UP_S)
        state = self.nodes[0].tables.strands[B].best_state
        assert state == State.ESTABLISHED, f"the nodes did not meet: {state}"

    def _join(self, number: int, spec: BothWays, interfaces: Tuple[List[Link], List[Link]]) -> None:
        near, far = f"192.168.{number}.2", f"192.168.{number}.3"
        self.names.append(spec[0].name)
        interfaces[0].append(link(2 + number, near))
        interfaces[1].append(link(12 + number, far))
        keys = ((2 + number, near), (12 + number, far))
        ends = (near, far)
        models = [one.model(self._random.getrandbits(32)) for one in spec]
        ways = (
            _Way(models[0], (near, PORT), 1, keys[1]),
            _Way(models[1], (far, PORT), 0, keys[0]),
        )
        self._ways.append(ways)
        for end, way in enumerate(ways):
            self._routes[end][keys[end], ends[1 - end]] = way

    def _node(
        self, name: str, address: str, one: PeerSettings, settings: Dict[str, Any]
    ) -> SecureNode:
        entropy = random.Random(self._random.getrandbits(64))
        reset_key = entropy.getrandbits(256).to_bytes(32, "little")
        return SecureNode(
            SecureSettings(
                address,
                NETWORK,
                private_key=key(name),
                port=PORT,
                peers=(one,),
                epoch=1,
                reset_keys=(reset_key,),
                **settings,
            ),
            self._clock,
            random.Random(self._random.getrandbits(64)),
            lambda size: entropy.getrandbits(8 * size).to_bytes(size, "little"),
        )

    # Time.

    @property
    def _clock(self) -> float:
        return EPOCH_S + self.now

    def run(self, seconds: float) -> None:
        """Let time pass, in the order in which things are due."""
        until = self.now + seconds
        events, due = self._events, self._due
        ticks = 0
        while True:
            tick_at = min(due) - EPOCH_S
            event_at = events[0][0] if events else LOST
            if min(tick_at, event_at) > until:
                break
            if tick_at < event_at:
                ticks = ticks + 1 if tick_at <= self.now else 0
                assert ticks < TICKS_MAX, "the nodes do not come to rest"
                self.now = max(tick_at, self.now)
                node = due.index(min(due))
                # No earlier than the deadline, which adding and taking EPOCH_S may round.
                self.nodes[node].tick(max(self._clock, due[node]))
                self._collect(node)
            else:
                self.now, _, handler, arguments = heapq.heappop(events)
                handler(*arguments)
        self.now = until

    def at(self, when_s: float, what: Callable[..., None], *arguments: Any) -> None:
        """Have something done at a time of the links, as a change of a model."""
        heapq.heappush(self._events, (when_s, next(self._serial), what, arguments))

    # Links.

    def model(self, number: int, back: bool = False) -> LinkModel:
        """Return the model of a link's direction, to be asked, or changed while it runs."""
        return self._ways[number][back].model

    def set_up(self, number: int, up: bool) -> None:
        """Take an interface of a down, or up again; nothing comes through meanwhile."""
        mine = self._interfaces[0]
        mine[number] = replace(mine[number], up=up)
        for way in self._ways[number]:
            way.up = up
        self._set_links()

    def usage(self) -> List[Tuple[Usage, Usage]]:
        """Return what went over the links up to now: (out, back) of each."""
        return [(replace(out.usage), replace(back.usage)) for out, back in self._ways]

    def bytes_by_second(self, number: int, back: bool = False) -> Dict[int, int]:
        """Return the bytes that went over one direction of a link in each second, by second."""
        return dict(self._ways[number][back].by_second)

    def transit_ms(self, number: int, back: bool = False) -> float:
        """Return how long the last TRANSITS control frames were on their way, on average."""
        transits = self._ways[number][back].transits_ms
        return sum(transits) / len(transits)

    def status(self, node: int = 0) -> Dict[str, Any]:
        """Return what a node tells of itself; 0 is a."""
        return self.nodes[node].status(self._clock)

    def connections(self, node: int = 0) -> List[Any]:
        """Return a node's established connections to the other, in the order of the links."""
        (strand,) = self.nodes[node].tables.strands.values()
        return sorted(strand.carrying, key=lambda connection: connection.link)

    def _set_links(self) -> None:
        for number, node in enumerate(self.nodes):
            node.set_links(self._interfaces[number], self._clock)
            self._collect(number)

    # Packets.

    def start(
        self,
        rate_kbit: float,
        size: int = 1000,
        duration_s: float = 10.0,
        dscp: int = 0,
        port: int = 5004,
        back: bool = False,
    ) -> Flow:
        """Have a flow of UDP packets sent from now on, from a to b, or ``back``.

        ``rate_kbit`` counts IP packets of ``size`` bytes, SIZE_MIN at least, sent at equal
        distances. ``port`` is where they go and where they come from.
        """
        if size < SIZE_MIN:
            raise ValueError(f"a packet has {SIZE_MIN} bytes at least, not {size}")
        flow = Flow(size, size + OVERHEAD + OUTER)
        number = len(self.flows)
        self.flows.append(flow)
        head = _head(B if back else A, A if back else B, size, dscp, port)
        head += number.to_bytes(2, "big")
        send = functools.partial(self._send, flow, int(back), head, bytes(size - len(head) - 4))
        gap_s = size * 8 / (rate_kbit * 1000)
        count = round(duration_s / gap_s)
        self.at(self.now, send, send, self.now, gap_s, count)
        return flow

    def stream(
        self,
        rate_kbit: float,
        size: int = 1000,
        duration_s: float = 10.0,
        dscp: int = 0,
        port: int = 5004,
        back: bool = False,
        back_kbit: float = BACK_KBIT,
    ) -> Flow:
        """Send a flow and a thin one in the other direction, and wait for what is late.

        ``back_kbit`` is the rate of the thin one, 0 for none. The result has the usage of the
        links meanwhile.
        """
        before, began_s = self.usage(), self.now
        flow = self.start(rate_kbit, size, duration_s, dscp, port, back)
        if back_kbit:
            flow.back = self.start(back_kbit, BACK_SIZE, duration_s, dscp, port, not back)
        self.run(duration_s)
        flow.usage = [
            (out.since(out_before), back_.since(back_before))
            for (out, back_), (out_before, back_before) in zip(self.usage(), before)
        ]
        if back:
            flow.usage = [ways[::-1] for ways in flow.usage]
        for ways in self._ways:
            for second, size in ways[back].by_second.items():
                if began_s <= second < began_s + duration_s:
                    flow.out_by_second[second] = flow.out_by_second.get(second, 0) + size
        self.run(LINGER_S)
        return flow

    def _send(
        self,
        flow: Flow,
        node: int,
        head: bytes,
        rest: bytes,
        again: Callable[..., None],
        began_s: float,
        gap_s: float,
        count: int,
    ) -> None:
        sent = len(flow.sent_at)
        if sent == count:
            return
        flow.sent_at.append(self.now)
        flow.delivered_at.append(LOST)
        self.nodes[node].outbound([head + sent.to_bytes(4, "big") + rest], self._clock)
        self._collect(node)
        self.at(began_s + (sent + 1) * gap_s, again, again, began_s, gap_s, count)

    def _collect(self, number: int) -> None:
        """Take what a node has to deliver and to send."""
        node = self.nodes[number]
        for packet in node.take_packets():
            self._deliver(packet)
        routes = self._routes[number]
        for (socket, (address, _)), trains in node.take_trains().items():
            way = routes.get((socket, address))
            if way is not None and way.up:
                for train in trains:
                    for frame in train.frames():
                        self._transmit(way, frame)
        self._due[number] = node.deadline()

    def _transmit(self, way: _Way, frame: bytes) -> None:
        size = len(frame) + OUTER
        if frame[0] in (DATA, PARTIAL):
            way.usage.data_bytes += size
        else:
            way.usage.control_bytes += size
        second = int(self.now // 1)
        way.by_second[second] = way.by_second.get(second, 0) + size
        if self.now < 0:
            arrival: Optional[float] = self.now + way.model.quiet_delay_ms(size) / 1000
        else:
            arrival = way.model.send(self.now, size)
        if frame[0] == CONTROL and arrival is not None:
            way.transits_ms.append((arrival - self.now) * 1000)
        if arrival is not None:
            heapq.heappush(self._events, (arrival, next(self._serial), self._arrive, (way, frame)))

    def _arrive(self, way: _Way, frame: bytes) -> None:
        if way.up:
            node = self.nodes[way.to]
            node.inbound([(frame, way.source, len(frame))], way.key, self._clock)
            self._collect(way.to)

    def _deliver(self, packet: bytes) -> None:
        if packet[_PROTOCOL_AT] != _UDP:  # an ICMP error: no host was reached
            return
        flow = self.flows[int.from_bytes(packet[_NUMBER_AT : _NUMBER_AT + 2], "big")]
        number = int.from_bytes(packet[_NUMBER_AT + 2 : SIZE_MIN], "big")
        if flow.delivered_at[number] == LOST:
            flow.delivered_at[number] = self.now
        else:
            flow.duplicates += 1


def _head(source: str, destination: str, size: int, dscp: int, port: int) -> bytes:
    """Return the IPv4 and UDP headers of a packet; UDP may go without a checksum (RFC 768)."""
    fields = (
        bytes((0x45, dscp << 2)),
        size.to_bytes(2, "big"),
        bytes.fromhex("0001 4000 4011 0000"),
        ipv4.pack(source),
        ipv4.pack(destination),
    )
    header = b"".join(fields)
    header = header[:10] + ipv4.checksum(header).to_bytes(2, "big") + header[12:]
    ports = port.to_bytes(2, "big") * 2
    return header + ports + (size - _UDP_START).to_bytes(2, "big") + bytes(2)
