"""Nodes back to back: LANs without sockets, a clock that is turned by hand."""

import heapq
import itertools
import random
import struct

from ropeway.core.classic import frame as classic
from ropeway.core.classic.node import ClassicNode
from ropeway.core.link import Link
from ropeway.core.packet import ipv4
from ropeway.core.settings import Settings
from tests.unit.core.reach import reaching


def link(index, address, mtu=1500, up=True, routes=None):
    return reaching(Link(index, f"eth{index}", (f"{address}/24",), mtu, up), routes or ())


def udp(src, dst, payload=b"x" * 100, ttl=64, ident=1, word=0x4000, tos=0):
    """A packet with a UDP protocol number; what follows the header need not be UDP."""
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x45, tos, 20 + len(payload), ident, word, ttl, 17, 0, ipv4.pack(src), ipv4.pack(dst),
    )  # fmt: skip
    return header[:10] + ipv4.checksum(header).to_bytes(2, "big") + header[12:] + payload


def encode(frame):
    """The datagram of a classic frame, from the functions that the data side uses."""
    way = classic.path(
        frame.source, frame.destination, frame.host, frame.src_index, frame.dst_index
    )
    extra = frame.state | (classic.FORWARD if frame.forward else 0) | frame.id << classic.ID_SHIFT
    size = len(frame.payload)
    return (
        classic.header(way, classic.base_sum(way), size, frame.identification, extra)
        + frame.payload
    )


class World:
    """Hosts on LANs; a LAN is all links whose addresses share the first three numbers."""

    def __init__(self, seed=1):
        self.now = 100.0
        self.random = random.Random(seed)
        self.nodes = {}
        self.delivered = {}
        self.events = {}
        self.lost = set()  # link addresses that neither send nor receive
        self.cut = set()  # (source, destination): ways that carry nothing
        self.late = {}  # LAN, the third number of its addresses -> longest delay in s
        self.loss = 0.0
        self.delay_s = 0.0005
        self.jitter_s = 0.0
        self.captured = []
        self._flying = []
        self._serial = itertools.count()

    def add(self, name, address, links, router=None, forward=False, **settings):
        node = ClassicNode(
            Settings(address, "10.0.0.0/24", (router,) if router else (), forward, **settings),
            self.now,
            random.Random(len(self.nodes)),
        )
        self.nodes[name] = node
        self.delivered.setdefault(name, [])
        self.events.setdefault(name, [])
        node.set_links(links, self.now)
        return node

    def _owner(self, address):
        for node in self.nodes.values():
            for one in node._peers.links.values():
                if one.up and address in [a.partition("/")[0] for a in one.addresses]:
                    return node, one
        return None

    def links(self, name):
        """The links that a host has now."""
        return list(self.nodes[name]._peers.links.values())

    def collect(self):
        for name, node in self.nodes.items():
            self.delivered[name].extend(node.take_packets())
            self.events[name].extend(node.take_events())
            for (_, address), datagrams in node.take_datagrams().items():
                for datagram in datagrams:
                    source = ipv4.text(datagram[12:16])
                    assert address == ipv4.text(datagram[16:20])
                    self.captured.append((self.now, datagram))
                    same_lan = source.rpartition(".")[0] == address.rpartition(".")[0]
                    if (
                        not same_lan
                        or {source, address} & self.lost
                        or (source, address) in self.cut
                    ):
                        continue
                    if self.random.random() < self.loss:
                        continue
                    jitter_s = self.late.get(int(source.split(".")[2]), self.jitter_s)
                    delay_s = self.delay_s + self.random.random() * jitter_s
                    self.fly(datagram, address, delay_s)

    def fly(self, datagram, address, delay_s=0.0):
        heapq.heappush(self._flying, (self.now + delay_s, next(self._serial), datagram, address))

    def run(self, seconds):
        """Let time pass, in the order in which things are due."""
        until = self.now + seconds
        turns = 0
        while True:
            self.collect()
            due = [node.deadline() for node in self.nodes.values()]
            if self._flying:
                due.append(self._flying[0][0])
            following = max(min(due), self.now)
            if following > until:
                break
            turns += 1
            assert turns < 200_000, "the nodes do not come to rest"
            self.now = following
            while self._flying and self._flying[0][0] <= self.now:
                _, _, datagram, address = heapq.heappop(self._flying)
                owner = self._owner(address)
                if owner and address not in self.lost:
                    owner[0].inbound([datagram], owner[1].index, self.now)
            for node in self.nodes.values():
                if node.deadline() <= self.now:
                    node.tick(self.now)
        self.now = until

    def call(self, name, host, *addresses):
        """Have a host call another one at these addresses as well."""
        for address in addresses:
            self.nodes[name].add_remote(host, address, 0, self.now)

    def send(self, name, *packets):
        self.nodes[name].outbound(packets, self.now)

    def states(self, name, host):
        """(link, remote) -> state of the connections that have a route."""
        peer = self.peer(name, host)
        return {(c["link"], c["remote"]): c["state"] for c in peer["connections"] if c["routed"]}

    def peer(self, name, host):
        return next(p for p in self.nodes[name].status(self.now)["peers"] if p["host"] == host)

    def dropped(self, name):
        dropped = self.nodes[name].status(self.now)["counters"]["dropped"]
        return {reason: count for reason, count in dropped.items() if count}


def pair(**kwargs):
    """Hosts a (10.0.0.1) and b (10.0.0.2), two LANs; a knows where b is."""
    world = World(**kwargs)
    world.add("a", "10.0.0.1", [link(2, "192.168.0.1"), link(3, "192.168.1.1")])
    world.add("b", "10.0.0.2", [link(4, "192.168.0.2"), link(5, "192.168.1.2")])
    for address in ("192.168.0.2", "192.168.1.2"):
        world.nodes["a"].add_remote("10.0.0.2", address, 0, world.now)
    return world


def three(**kwargs):
    """The specification's network: a - r - c over two LANs each, r forwards."""
    world = World(**kwargs)
    world.add("a", "10.0.0.1", [link(2, "192.168.0.2"), link(3, "192.168.1.2")], router="10.0.0.2")
    world.add("r", "10.0.0.2", [link(n + 2, f"192.168.{n}.3") for n in range(4)], forward=True)
    world.add("c", "10.0.0.3", [link(2, "192.168.2.2"), link(3, "192.168.3.2")], router="10.0.0.2")
    for name, lans in (("a", (0, 1)), ("c", (2, 3))):
        for lan in lans:
            world.nodes[name].add_remote("10.0.0.2", f"192.168.{lan}.3", 0, world.now)
    return world
