"""Where the processor time of a packet goes, step by step, without sockets: ``python -m``.

Two secure nodes over two links; each figure is microseconds a packet, the tenth percentile of many
repeats, so that what else the machine does hardly counts. The kernel's part comes on top.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import struct
import time
from dataclasses import replace
from typing import Any

from ropeway.core.packet import ipv4, segments
from ropeway.core.packet.traffic_class import Match, TrafficClass
from tests.unit.core.secure_world import PORT, SecureWorld, pair

REPEATS = 200
STEPS = ("cut", "seal, frames", "open, 1st copy", "drop a copy", "merge")
TCP_SIZE, UDP_SIZE = 20, 8


def header(protocol: int, size: int, ident: int) -> bytes:
    """Return an IPv4 header from host a to host b (RFC 791)."""
    ends = bytes((10, 0, 0, 1, 10, 0, 0, 2))
    fields = struct.pack(">BBHHHBBH", 0x45, 0, size, ident, 0x4000, 64, protocol, 0) + ends
    return fields[:10] + ipv4.checksum(fields).to_bytes(2, "big") + fields[12:]


def super_packet(count: int, payload: int) -> bytes:
    """Return a TCP super-packet as the device gives it."""
    size = 20 + TCP_SIZE + count * payload
    tcp = struct.pack(">HHIIBBHHH", 5000, 5001, 1000, 2000, 5 << 4, 0x10, 500, 0, 0)
    vnet = segments.VNET.pack(segments.NEEDS_CSUM, segments.GSO_TCPV4, 40, payload, 20, 16)
    return vnet + header(6, size, 7) + tcp + os.urandom(count * payload)


def datagrams(count: int, payload: int) -> list[bytes]:
    """Return UDP packets as the device gives them."""
    vnet = segments.VNET.pack(segments.NEEDS_CSUM, 0, 0, 0, 20, 6)
    size = 20 + UDP_SIZE + payload
    udp = struct.pack(">HHHH", 5000, 5001, UDP_SIZE + payload, 0)
    return [vnet + header(17, size, n) + udp + os.urandom(payload) for n in range(count)]


def once(world: SecureWorld, reads: list[bytes]) -> list[float]:
    """Move what was read from one host to the other; return the seconds of each step."""
    a, b, clock = world.nodes["a"], world.nodes["b"], time.perf_counter
    marks = [clock()]
    lists = segments.split(reads)
    marks.append(clock())
    for packets, partial in lists:
        a.outbound(packets, world.now, partial)
    sent = a.take_trains()
    marks.append(clock())
    copies: list[tuple[Any, list[Any]]] = []
    for ((link, _), _), trains in sent.items():
        data = [t for t in trains if t.parts[0][0] in (4, 7)]
        source = (f"192.168.{link - 2}.2", PORT)
        pieces = [(b"".join(t.parts), source, t.size) for t in data]
        copies.append(((link + 10, f"192.168.{link - 2}.3"), pieces))
    spent = [marks[1] - marks[0], marks[2] - marks[1]]
    for key, pieces in copies:
        began = clock()
        b.inbound(pieces, key, world.now)
        spent.append(clock() - began)
    packets = b.take_partial_packets()
    began = clock()
    segments.merge(packets, True, True)
    spent.append(clock() - began)
    b.take_trains()
    return spent


def classes() -> tuple[TrafficClass, ...]:
    """Return as many classes as a configuration may have; none but the last matches."""
    others = [TrafficClass(f"c{n}", Match(protocols=frozenset((200 + n,)))) for n in range(15)]
    return (*others, TrafficClass("all", Match()))


def connected(of: tuple[TrafficClass, ...]) -> SecureWorld:
    """Return two nodes that know each other; the first one has classes of traffic."""
    with contextlib.redirect_stdout(io.StringIO()):
        world = pair()
        for node in world.nodes.values():
            node.take_partial()
        world.run(6.0)
        before = world.nodes["a"].settings
        world.nodes["a"].reload(replace(before, classes=of), world.now)
        world.run(0.1)
    return world


def main() -> None:
    """Print the table."""
    worlds = {"": connected(()), " with classes": connected(classes())}
    cases = {
        "TCP, 43 segments of 1388 B": (43, [super_packet(43, 1388)]),
        "UDP, 32 datagrams of 1200 B": (32, datagrams(32, 1200)),
        "UDP, 32 datagrams of 200 B": (32, datagrams(32, 200)),
        "UDP, a single one of 200 B": (1, datagrams(1, 200)),
    }
    print(f"microseconds a packet, Python {platform.python_version()}")
    print(f"{'':42}" + "".join(f"{step:>16}" for step in (*STEPS, "sum")))
    for name, (count, reads) in cases.items():
        runs: dict[str, list[list[float]]] = {kind: [] for kind in worlds}
        for _ in range(REPEATS):
            # In turn, so that both meet the same machine.
            for kind, world in worlds.items():
                runs[kind].append(once(world, reads))
        for kind, figures in runs.items():
            costs = [sorted(step)[REPEATS // 10] * 1e6 / count for step in zip(*figures)]
            print(f"{name + kind:42}" + "".join(f"{cost:16.2f}" for cost in (*costs, sum(costs))))


if __name__ == "__main__":
    main()
