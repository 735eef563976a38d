"""Many clients of one router in one process: nodes of the core, each with a UDP socket of its own.

``python -m tests.bench.generator`` reads a line of JSON, a :class:`Plan`, and then commands, a line
each. ``rate N`` sends so many packets a second from each client to the next one, through the
router. ``report`` answers with a line of JSON, :class:`Report`. The end of the input ends it.
Clients are made in the order of their numbers and call as soon as they are made.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import heapq
import json
import random
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from ropeway.core.link import Link
from ropeway.core.node import SecureNode
from ropeway.core.packet import ipv4
from ropeway.core.session.noise import KeyPair
from ropeway.core.settings import PeerSettings, SecureSettings
from ropeway.core.strand.state import State

NETWORK = "10.0.0.0/20"
ROUTER = "10.0.0.1"
#: The router's real address, and the network that it has in common with all clients.
ROUTER_ENDPOINT = ("172.31.255.1", 51840)
REAL_PREFIX = 12
CLIENTS_MAX = 2000
#: Bytes of a packet with its headers.
SIZE = 200
PORT = 40000
#: Datagrams taken from a socket at once.
BATCH = 32
#: Clients begin to send over this time: each that does wakes all that measures its connection.
RAMP_S = 5.0
#: Packets sent in a turn, so that one that is behind still listens.
SENDS_A_TURN = 64
DATAGRAM_BYTES_MAX = 2048
_IPV4_SIZE, _UDP_SIZE = 20, 8
_NUMBER = struct.Struct(">QQ")


@dataclass(frozen=True)
class Plan:
    """What the clients are."""

    clients: int
    #: The router's public key, in base64.
    router_key: str
    #: Of the clients' keys.
    seed: int
    #: Seconds over which they begin to call.
    spread_s: float = 0.0


@dataclass
class Report:
    """What the clients have seen since the last report."""

    #: Clients whose connection to the router is established.
    established: int = 0
    sent: int = 0
    received: int = 0
    #: Received twice, or with other contents.
    wrong: int = 0
    #: How late the latest packet was sent, in seconds: this process has to keep up.
    late_s: float = 0.0
    #: Processor time of this process.
    cpu_s: float = 0.0


def private_key(seed: int, number: int) -> bytes:
    """Return the private key of a client."""
    return hashlib.sha256(f"{seed} {number}".encode("ascii")).digest()


def public_key(seed: int, number: int) -> str:
    """Return the public key of a client, in base64."""
    return base64.b64encode(KeyPair.of(private_key(seed, number)).public).decode("ascii")


def virtual_address(number: int) -> str:
    """Return the virtual address of a client."""
    return f"10.0.{1 + number // 250}.{1 + number % 250}"


def real_address(number: int) -> str:
    """Return the real address of a client: each is in a /24 of its own, as clients elsewhere are.

    A router limits the handshakes that come from one network.
    """
    return f"172.{16 + number // 256}.{number % 256}.2"


@dataclass
class _Client:
    node: SecureNode
    socket: socket.socket
    link: int
    packet: bytes
    due: float = float("inf")
    sequence: int = 0
    #: Numbers of packets for it that have not come yet.
    expected: Dict[int, float] = field(default_factory=dict)


class Clients:
    """All clients, their sockets and their times."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._clients: List[_Client] = []
        self._by_descriptor: Dict[int, int] = {}
        self._poll = select.epoll()
        #: When clients are due; what is not true any more is left out when its turn comes.
        self._ticks: List[Tuple[float, int]] = []
        self._sends: List[Tuple[float, int]] = []
        self._rate = 0.0
        self._report = Report()
        self._input = b""
        self._began = time.monotonic()
        self._ended = False

    def run(self) -> None:
        """Serve until the input ends."""
        self._poll.register(0, select.EPOLLIN)
        while not self._ended:
            now = time.monotonic()
            self._add_clients(now)
            for descriptor, _ in self._poll.poll(self._wait_s(now), 256):
                if descriptor:
                    self._receive(self._by_descriptor[descriptor], time.monotonic())
                else:
                    self._take_commands()
            now = time.monotonic()
            for _ in range(SENDS_A_TURN):
                if not self._sends or self._sends[0][0] > now:
                    break
                self._send(*heapq.heappop(self._sends), now)
            while self._ticks and self._ticks[0][0] <= now:
                due, number = heapq.heappop(self._ticks)
                if due == self._clients[number].due:
                    self._clients[number].node.tick(now)
                    self._flush(number)

    def _wait_s(self, now: float) -> float:
        due = now + 1.0
        for heap in (self._ticks, self._sends):
            if heap:
                due = min(due, heap[0][0])
        if len(self._clients) < self._plan.clients:
            due = min(due, now + 0.002)
        return max(0.0, due - now)

    # Clients.

    def _add_clients(self, now: float) -> None:
        """Make those whose time has come, a few at a time."""
        clients, spread_s = self._plan.clients, self._plan.spread_s
        share = (now - self._began) / spread_s if spread_s else 1.0
        wanted = min(clients, int(clients * share) + 1)
        for number in range(len(self._clients), min(wanted, len(self._clients) + 16)):
            self._add(number, now)

    def _add(self, number: int, now: float) -> None:
        plan, own = self._plan, real_address(number)
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.bind((own, PORT))
        entropy = random.Random(f"{plan.seed} {number}")
        router = PeerSettings(
            ROUTER, (base64.b64decode(plan.router_key),), endpoints=(ROUTER_ENDPOINT,)
        )
        settings = SecureSettings(
            virtual_address(number),
            NETWORK,
            routers=(ROUTER,),
            private_key=private_key(plan.seed, number),
            port=PORT,
            peers=(router,),
            epoch=int(time.time()),
            reset_keys=(entropy.getrandbits(256).to_bytes(32, "little"),),
            rollover_s=3600.0,
        )
        node = SecureNode(
            settings,
            now,
            random.Random(entropy.getrandbits(64)),
            lambda size: entropy.getrandbits(8 * size).to_bytes(size, "little"),
        )
        to = (number + 1) % plan.clients
        client = _Client(node, made, 2, _headers(virtual_address(number), virtual_address(to)))
        self._clients.append(client)
        self._by_descriptor[made.fileno()] = number
        self._poll.register(made.fileno(), select.EPOLLIN)
        far = ROUTER_ENDPOINT[0]
        held = (f"{own}/{REAL_PREFIX}",)
        node.set_links([Link(2, "eth0", held, 1500, True, (), {far: own}, frozenset((far,)))], now)
        self._flush(number)

    # Packets.

    def _receive(self, number: int, now: float) -> None:
        client = self._clients[number]
        received = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                datagram, source = client.socket.recvfrom(DATAGRAM_BYTES_MAX)
                received.append((datagram, source, len(datagram)))
        client.node.inbound(received, (client.link, real_address(number)), now)
        for packet in client.node.take_packets():
            sender, sequence = _NUMBER.unpack_from(packet, _IPV4_SIZE + _UDP_SIZE)
            known = (sender + 1) % self._plan.clients == number
            if known and client.expected.pop(sequence, None) is not None:
                self._report.received += 1
            else:
                self._report.wrong += 1
        self._flush(number)

    def _send(self, due: float, number: int, now: float) -> None:
        if not self._rate:
            return
        self._report.late_s = max(self._report.late_s, now - due)
        heapq.heappush(self._sends, (due + 1 / self._rate, number))
        client = self._clients[number]
        client.sequence += 1
        self._clients[(number + 1) % len(self._clients)].expected[client.sequence] = now
        packet = client.packet + _NUMBER.pack(number, client.sequence)
        client.node.outbound([packet.ljust(SIZE, b"\0")], now)
        self._report.sent += 1
        self._flush(number)

    def _flush(self, number: int) -> None:
        client = self._clients[number]
        for (_, endpoint), trains in client.node.take_trains().items():
            for train in trains:
                for frame in train.frames():
                    with contextlib.suppress(OSError):
                        client.socket.sendto(frame, endpoint)
        due = client.node.deadline()
        if due != client.due:
            client.due = due
            heapq.heappush(self._ticks, (due, number))

    # Commands.

    def _take_commands(self) -> None:
        read = sys.stdin.buffer.raw.read(4096)  # type: ignore[attr-defined]
        if not read:
            self._ended = True
            return
        *lines, self._input = (self._input + read).split(b"\n")
        for line in lines:
            name, *values = line.decode("ascii").split()
            if name == "rate":
                self._set_rate(float(values[0]))
            elif name == "report":
                self._print_report()

    def _set_rate(self, rate: float) -> None:
        now = time.monotonic()
        self._rate = rate
        self._sends.clear()
        if rate:
            pause_s = max(1 / rate, RAMP_S) / len(self._clients)
            self._sends = [(now + n * pause_s, n) for n in range(len(self._clients))]

    def _print_report(self) -> None:
        strands = (client.node.tables.strands[ROUTER] for client in self._clients)
        self._report.established = sum(s.best_state == State.ESTABLISHED for s in strands)
        self._report.cpu_s = time.process_time()
        print(json.dumps(dataclasses.asdict(self._report)), flush=True)
        self._report = Report()


def _headers(source: str, destination: str) -> bytes:
    """Return the headers of a UDP packet of :data:`SIZE` bytes."""
    header = bytes((0x45, 0)) + SIZE.to_bytes(2, "big") + bytes.fromhex("0001400040110000")
    header += ipv4.pack(source) + ipv4.pack(destination)
    header = header[:10] + ipv4.checksum(header).to_bytes(2, "big") + header[12:]
    return header + struct.pack(">HHHH", 5004, 5004, SIZE - _IPV4_SIZE, 0)


def main() -> None:
    """Read the plan, and run the clients."""
    line = bytearray()
    raw: Any = sys.stdin.buffer.raw  # type: ignore[attr-defined]
    while not line.endswith(b"\n"):
        line += raw.read(1)
    Clients(Plan(**json.loads(line))).run()


if __name__ == "__main__":
    main()
