"""What a router with many clients costs, by mode of the classes: ``python -m``, without sockets.

Real nodes of the core on a clock that jumps: each client has two links to the router, and sends it
packets at a steady rate, which the router answers. Processor time is that of the router's node
alone, and what a control frame does is apart from what a packet does. The kernel's part comes on
top: it is the same for a copy of a packet and for a control frame.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import heapq
import io
import itertools
import platform
import random
import resource
import sys
import time
import types
from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence, Tuple

from ropeway.core.frame.data import CONTROL, DATA, PARTIAL
from ropeway.core.link import Link
from ropeway.core.node import SecureNode
from ropeway.core.packet import ipv4
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from ropeway.core.session.aead import TransportCipher
from ropeway.core.session.noise import KeyPair
from ropeway.core.settings import PeerSettings, SecureSettings

PORT = 51840
NETWORK = "10.0.0.0/21"
ROUTER = "10.0.0.1"
LINKS = 2
CLIENTS_MAX = 1000
#: Bytes of a packet with its headers.
SIZE = 200
#: One way, in seconds, of each link: adaptive has something to choose.
DELAYS_S = (0.020, 0.025)
#: Time for handshakes, and for what data that begins to flow stirs up.
MEET_S = 6.0
SETTLE_S = 4.0
#: Until no pause between two frames without data grows any more.
IDLE_SETTLE_S = 300.0
UDP = 17


def classes(mode: str, count: int) -> Tuple[TrafficClass, ...]:
    """Return so many classes of a mode; only the last one matches what is sent here."""
    if not count:
        return ()
    what = Mode(mode)
    others = [
        TrafficClass(f"c{n}", Match(protocols=frozenset((200 + n,))), what)
        for n in range(count - 1)
    ]
    return (*others, TrafficClass("all", Match(), what))


@dataclass
class Spent:
    """Processor time of the router's node, and what it was for."""

    data_s: float = 0.0
    control_s: float = 0.0
    #: Packets of the router's device, out and in.
    packets: int = 0
    #: Frames of the router, out and in.
    data_frames: int = 0
    control_frames: int = 0
    #: Seconds of the clock that jumps.
    seconds: float = 0.0

    @property
    def packet_us(self) -> float:
        """Return what all costs for each packet, in microseconds."""
        return 1e6 * (self.data_s + self.control_s) / self.packets

    @property
    def control_us(self) -> float:
        """Return what control costs for each packet, in microseconds."""
        return 1e6 * self.control_s / self.packets

    @property
    def controls_per_packet(self) -> float:
        """Return how many control frames there are for a packet, of all links and both ways."""
        return self.control_frames / self.packets


class Meter:
    """Measures what happens between a start and a stop."""

    def __init__(self) -> None:
        self._began = 0.0

    def start(self) -> None:
        """Begin."""
        self._began = time.process_time()

    def stop(self) -> float:
        """Return the processor time since then, in seconds."""
        return time.process_time() - self._began


@dataclass
class _Host:
    node: SecureNode
    due: float = 0.0
    #: Socket and far address -> where frames go: the host, its socket, their source, the delay.
    ways: Dict[Any, Tuple[int, Any, Tuple[str, int], float]] = field(default_factory=dict)


def _public(private_key: bytes) -> bytes:
    return KeyPair.of(private_key).public


def client_address(number: int) -> str:
    """Return the virtual address of a client."""
    return f"10.0.{1 + number // 250}.{1 + number % 250}"


def packet(source: str, destination: str) -> bytes:
    """Return a UDP packet."""
    header = bytes((0x45, 0)) + SIZE.to_bytes(2, "big") + bytes.fromhex("0001400040110000")
    header += ipv4.pack(source) + ipv4.pack(destination)
    header = header[:10] + ipv4.checksum(header).to_bytes(2, "big") + header[12:]
    size = SIZE - len(header)
    ports = (5004).to_bytes(2, "big") * 2
    return header + ports + size.to_bytes(2, "big") + bytes(2) + bytes(size - 8)


class Star:
    """A router and its clients; ``of`` are the classes that all of them have."""

    def __init__(self, clients: int, of: Sequence[TrafficClass], seed: int = 1) -> None:
        self.now = 1000.0
        #: What measures the router; :attr:`spent` has sums of what it returns.
        self.meter = Meter()
        self.spent = Spent()
        self._random = random.Random(seed)
        self._serial = itertools.count()
        self._events: List[Tuple[float, int, int, Any, Any]] = []
        self._hosts: List[_Host] = []
        #: When hosts are due; what is not true any more is left out when its turn comes.
        self._ticks: List[Tuple[float, int]] = []
        keys = [self._random.getrandbits(256).to_bytes(32, "little") for _ in range(clients + 1)]
        near = [f"172.{16 + link}.0.1" for link in range(LINKS)]
        called = tuple((address, PORT) for address in near)
        router = PeerSettings(ROUTER, (_public(keys[0]),), endpoints=called)
        others = tuple(
            PeerSettings(client_address(n), (_public(keys[1 + n]),)) for n in range(clients)
        )
        self._add(ROUTER, keys[0], near, others, of)
        for number in range(clients):
            far = [
                f"172.{16 + link}.{1 + number // 250}.{1 + number % 250}" for link in range(LINKS)
            ]
            self._add(client_address(number), keys[1 + number], far, (router,), of)
            for link, delay_s in enumerate(DELAYS_S):
                ends = (2 + link, near[link]), (2 + link, far[link])
                out = (1 + number, ends[1], (near[link], PORT), delay_s)
                self._hosts[0].ways[ends[0], far[link]] = out
                self._hosts[-1].ways[ends[1], near[link]] = (0, ends[0], (far[link], PORT), delay_s)
        for number in range(len(self._hosts)):
            self._begin(number)
            self._collect(number, control=True)
        # Clients that all called at one moment would stay in step.
        for number in range(clients):
            self.run(MEET_S / clients / 2)
            self._flow(number, 0.0)
        self.run(MEET_S / 2)

    def _add(
        self,
        address: str,
        private_key: bytes,
        addresses: Sequence[str],
        peers: Tuple[PeerSettings, ...],
        of: Sequence[TrafficClass],
    ) -> None:
        entropy = random.Random(self._random.getrandbits(64))
        settings = SecureSettings(
            address,
            NETWORK,
            private_key=private_key,
            port=PORT,
            peers=peers,
            epoch=1,
            reset_keys=(entropy.getrandbits(256).to_bytes(32, "little"),),
            classes=tuple(of),
        )
        node = SecureNode(
            settings,
            self.now,
            random.Random(self._random.getrandbits(64)),
            lambda size: entropy.getrandbits(8 * size).to_bytes(size, "little"),
        )
        self._hosts.append(_Host(node))
        links = []
        for number, one in enumerate(addresses):
            lan = one.rsplit(".", 2)[0]
            far = [f"{lan}.0.1"]
            if not peers[0].endpoints:
                far = [f"{lan}.{1 + n // 250}.{1 + n % 250}" for n in range(len(peers))]
            name = f"eth{number}"
            sources = dict.fromkeys(far, one)
            held = (f"{one}/16",)
            link = Link(2 + number, name, held, 1500, True, (), sources, frozenset(far))
            links.append(link)
        node.set_links(links, self.now)

    # Traffic.

    def _flow(self, number: int, rate: float) -> None:
        """Begin a client's packets, or send a single one where the rate is 0."""
        out = packet(client_address(number), ROUTER)
        back = packet(ROUTER, client_address(number))
        self._at(self.now, 1 + number, out, (rate, back))

    def load(self, rate: float, seconds: float) -> Spent:
        """Let each client send so many packets a second, answered one by one."""
        clients = len(self._hosts) - 1
        for number in range(clients):
            self._flow(number, rate)
            self.run(1 / rate / clients)
        self.run(SETTLE_S)
        self.spent = Spent(seconds=seconds)
        self.run(seconds)
        return self.spent

    def _at(self, when: float, host: int, what: Any, more: Any) -> None:
        heapq.heappush(self._events, (when, next(self._serial), host, what, more))

    # Time.

    def run(self, seconds: float) -> None:
        """Let time pass, in the order in which things are due."""
        until = self.now + seconds
        events, hosts, ticks = self._events, self._hosts, self._ticks
        while True:
            while ticks[0][0] != hosts[ticks[0][1]].due:
                heapq.heappop(ticks)
            event_at = events[0][0] if events else float("inf")
            if min(ticks[0][0], event_at) > until:
                break
            if ticks[0][0] < event_at:
                self.now = max(self.now, ticks[0][0])
                self._tick(ticks[0][1])
            else:
                self.now, _, number, what, more = heapq.heappop(events)
                if isinstance(more[0], float):
                    self._send(number, what, *more)
                else:
                    self._arrive(number, what, *more)
        self.now = until

    def _tick(self, number: int) -> None:
        self._begin(number)
        self._hosts[number].node.tick(self.now)
        self._collect(number, control=True)

    def _send(self, number: int, what: bytes, rate: float, back: bytes) -> None:
        """Send a client's packet, and have the next one sent; the router's goes out at once."""
        self._hosts[number].node.outbound([what], self.now)
        self._collect(number, control=False)
        if rate:
            self._at(self.now + 1 / rate, number, what, (rate, back))
            self._begin(0)
            self._hosts[0].node.outbound([back], self.now)
            self._collect(0, control=False)
            self.spent.packets += 1

    def _arrive(self, number: int, frame: bytes, key: Any, source: Tuple[str, int]) -> None:
        received = [(frame, source, len(frame))]
        self._begin(number)
        self._hosts[number].node.inbound(received, key, self.now)
        self._collect(number, frame[0] not in (DATA, PARTIAL))
        if number == 0:
            self._count(frame)

    def _count(self, frame: bytes) -> None:
        if frame[0] == CONTROL:
            self.spent.control_frames += 1
        elif frame[0] in (DATA, PARTIAL):
            self.spent.data_frames += 1

    def _begin(self, number: int) -> None:
        if number == 0:
            self.meter.start()

    def _collect(self, number: int, control: bool) -> None:
        """Take what a node has to deliver and to send; what the router spent on it is counted."""
        host = self._hosts[number]
        packets, trains = host.node.take_packets(), host.node.take_trains()
        due = host.node.deadline()
        if number == 0:
            took_s = self.meter.stop()
            if control:
                self.spent.control_s += took_s
            else:
                self.spent.data_s += took_s
            self.spent.packets += len(packets)
        if due != host.due:
            host.due = due
            heapq.heappush(self._ticks, (due, number))
        for (socket, (address, _)), those in trains.items():
            to, key, source, delay_s = host.ways[socket, address]
            for train in those:
                for frame in train.frames():
                    if number == 0:
                        self._count(frame)
                    self._at(self.now + delay_s, to, frame, (key, source))

    @property
    def router(self) -> SecureNode:
        """The router's node."""
        return self._hosts[0].node


def measure(clients: int, of: Sequence[TrafficClass], rate: float, seconds: float) -> Spent:
    """Return what a router spends on clients that send so many packets a second each."""
    with contextlib.redirect_stdout(io.StringIO()):
        star = Star(clients, of)
    gc.collect()
    gc.disable()
    try:
        return star.load(rate, seconds)
    finally:
        gc.enable()


def idle(clients: int, of: Sequence[TrafficClass], seconds: float) -> float:
    """Return the share of a processor that a router takes for clients that send nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        star = Star(clients, of)
    star.run(IDLE_SETTLE_S)
    star.spent = Spent()
    star.run(seconds)
    return (star.spent.control_s + star.spent.data_s) / seconds


def memory_kib(clients: int, of: Sequence[TrafficClass], rate: float) -> float:
    """Return how much memory of a router each client takes, in KiB.

    All objects of the router's node are counted, and what the cipher's library keeps for each
    session: a router with so many clients, less one with a single client.
    """
    sizes = []
    for count in (1, clients):
        star = Star(count, of)
        star.load(rate, 1.0)
        sessions = len(star.router.tables.sessions.by_index)
        sizes.append(reachable_bytes(star.router) + sessions * ciphers_bytes())
    return (sizes[1] - sizes[0]) / (clients - 1) / 1024


def reachable_bytes(root: Any) -> int:
    """Return the bytes of all objects that can be reached from one, without code and classes."""
    shared = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
    seen = set()
    waiting = [root]
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, shared):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total


@functools.lru_cache(maxsize=None)
def ciphers_bytes() -> float:
    """Return what the library keeps for the two ciphers of a session, by resident memory."""
    count = 4000
    before = resident_bytes()
    kept = [TransportCipher(bytes(32)) for _ in range(count)]
    return 2 * (resident_bytes() - before) / len(kept)


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.many_clients", description=__doc__)
    parser.add_argument("--clients", type=int, default=100, help="2 to 1000")
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 3, 32], help="of adaptive")
    parser.add_argument("--rate", type=float, nargs="+", default=[20.0], help="packets/s each way")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the clock that jumps")
    parser.add_argument("--memory", action="store_true", help="KiB for each client as well")
    parser.add_argument("--idle", action="store_true", help="only what clients without data take")
    given = parser.parse_args()
    if given.idle:
        share = idle(given.clients, (), 60.0)
        print(
            f"router with {given.clients} idle clients, {LINKS} links: {share:.2%} of a processor"
        )
        return
    print(f"router with {given.clients} clients, {LINKS} links, Python {platform.python_version()}")
    print(f"{'':24}{'/s':>6}{'us/packet':>11}{'control us':>12}{'frames':>8}{'cores':>8}{'x':>7}")
    for rate in given.rate:
        base = None
        cases = [("no classes", ()), ("redundant", classes("redundant", 1))]
        cases += [(f"adaptive, {n} classes", classes("adaptive", n)) for n in given.classes]
        for name, of in cases:
            spent = measure(given.clients, of, rate, given.seconds)
            if name == "redundant":
                base = spent.packet_us
            line = f"{name:24}{rate:6.0f}{spent.packet_us:11.1f}{spent.control_us:12.1f}"
            line += f"{spent.controls_per_packet:8.2f}"
            line += f"{(spent.data_s + spent.control_s) / spent.seconds:8.3f}"
            line += f"{spent.packet_us / base:7.2f}" if base else ""
            if given.memory:
                line += f"{memory_kib(given.clients, of, rate):8.1f} KiB"
            print(line, flush=True)


if __name__ == "__main__":
    main()
