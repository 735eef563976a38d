#!/usr/bin/env python3
"""A second, independent node that speaks classic as literally as the published protocol has it.

It stands in for the original C++ program in the interoperability tests, so it shares no line with
the agent and keeps the original's habits, the awkward ones included:

* identification and both interface indices go out in the byte order of the machine;
* packets come in through a packet socket and go out through a raw socket with ``IP_HDRINCL``, and
  nothing stops its kernel from answering the "options" with ICMP parameter problems;
* an end below state 2 answers at once, an end at state 2 never does, and nothing ever falls back;
* unfinished connections are greeted on a fixed period; a finished one is silent without traffic;
* only configured interface indices are greeted, and a packet that names an index which is not
  its own is none of its business;
* the same id of the same strand within 500 ms is a duplicate, whatever it carries.

The way of a packet: ``read_device`` -> ``Node.send`` -> ``Interface.transmit`` on one side,
``Interface.receive`` -> ``Node.receive`` -> ``write_device`` on the other.

Run it inside a network namespace::

    reference_node.py --host 10.0.0.1 --network 10.0.0.0/24 --interface eth0 --interface eth1 \\
        --remote 10.0.0.2,4,192.168.0.3 --status /tmp/status.json
"""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Iterator

ETH_P_IP = 0x0800
PROTOCOL = 4
HEADER_BYTES = 34  # 20 of IPv4, 12 where options stand, 2 of state, forward and id
DUPLICATE_S = 0.5
IDS = 1 << 13
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN_NO_PI = 0x0001 | 0x1000
SIOCGIFADDR = 0x8915  # linux/sockios.h
PACKET_HOST = 0  # linux/if_packet.h


@dataclass(frozen=True)
class Frame:
    """One packet of the wire, every field as WIRE has it; ``identification`` counts from 1."""

    source: str
    destination: str
    host: str
    src_index: int
    dst_index: int
    state: int
    id: int = 0
    payload: bytes | None = None
    identification: int = 1

    def pack(self) -> bytes:
        """Return the IPv4 packet, header checksum included."""
        payload = self.payload or b""
        ordinary = struct.pack(
            "!BBH2sHBBH4s4s",
            0x48,
            0,
            HEADER_BYTES + len(payload),
            struct.pack("<H", self.identification),
            0,
            64,
            PROTOCOL,
            0,
            socket.inet_aton(self.source),
            socket.inet_aton(self.destination),
        )
        instead_of_options = (
            socket.inet_aton(self.host)
            + struct.pack("<I", self.src_index)
            + struct.pack("<I", self.dst_index)
        )
        header = with_checksum(ordinary + instead_of_options)
        forward = 4 if self.payload is not None else 0
        return header + struct.pack("<H", self.state | forward | self.id << 3) + payload

    @classmethod
    def unpack(cls, packet: bytes) -> Frame | None:
        """Return the fields of an IPv4 packet, or None if it is no packet of this protocol."""
        if len(packet) < HEADER_BYTES or packet[0] != 0x48 or packet[9] != PROTOCOL:
            return None
        total = struct.unpack_from("!H", packet, 2)[0]
        if not HEADER_BYTES <= total <= len(packet):
            return None
        (extra,) = struct.unpack_from("<H", packet, 32)
        return cls(
            source=socket.inet_ntoa(packet[12:16]),
            destination=socket.inet_ntoa(packet[16:20]),
            host=socket.inet_ntoa(packet[20:24]),
            src_index=struct.unpack_from("<I", packet, 24)[0],
            dst_index=struct.unpack_from("<I", packet, 28)[0],
            state=extra & 3,
            id=extra >> 3,
            payload=packet[HEADER_BYTES:total] if extra & 4 else None,
            identification=struct.unpack_from("<H", packet, 4)[0],
        )


def with_checksum(header: bytes) -> bytes:
    """Return an IPv4 header with its checksum (RFC 791) put right."""
    header = header[:10] + b"\0\0" + header[12:]
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]


class Interface:
    """One real device: its index, its address, and the two sockets on it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.index = socket.if_nametoindex(name)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
        self.sender.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        answer = fcntl.ioctl(self.sender, SIOCGIFADDR, struct.pack("16s24x", name.encode()))
        self.address = socket.inet_ntoa(answer[20:24])
        self.receiver = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.receiver.bind((name, ETH_P_IP))

    def transmit(self, packet: bytes, address: str) -> None:
        try:
            self.sender.sendto(packet, (address, 0))
        except OSError:
            return  # no route from here, or the device is down: the pair stays where it is

    def receive(self) -> bytes | None:
        try:
            packet, (_, _, packet_type, _, _) = self.receiver.recvfrom(65536)
        except OSError:
            return None
        return packet if packet_type == PACKET_HOST else None


@dataclass
class Connection:
    """One (local interface, remote interface) pair."""

    local: Interface
    remote_index: int
    address: str
    state: int = 0
    packets: int = 0
    sent: int = 0
    received: int = 0
    greet_at: float = 0.0


@dataclass
class Strand:
    """Everything that is known about one host."""

    host: str
    connections: dict[tuple[int, int], Connection] = field(default_factory=dict)
    next_id: int = 1
    seen: dict[int, float] = field(default_factory=dict)
    duplicates: int = 0
    delivered: int = 0


class Node:
    """The protocol: strands, states, greetings, duplicates."""

    def __init__(
        self, host: str, interfaces: list[Interface], router: str | None, greet_s: float
    ) -> None:
        self.host = host
        self.interfaces = interfaces
        self.router = router
        self.greet_s = greet_s
        self.strands: dict[str, Strand] = {}
        self.changed = True

    def know(self, host: str, index: int, address: str) -> Strand:
        """Make a remote interface known, and its connection with every local one."""
        strand = self.strands.setdefault(host, Strand(host))
        for local in self.interfaces:
            key = (local.index, index)
            if key not in strand.connections:
                strand.connections[key] = Connection(local, index, address)
                self.changed = True
        return strand

    def greet(self, now: float) -> float:
        """Greet every unfinished connection that is due; return when the next one is."""
        due = now + self.greet_s
        for strand in self.strands.values():
            for connection in strand.connections.values():
                if connection.state == 2:
                    continue
                if connection.greet_at <= now:
                    connection.greet_at = now + self.greet_s
                    self.emit(connection, 0, None)
                due = min(due, connection.greet_at)
        return due

    def emit(self, connection: Connection, id_: int, payload: bytes | None) -> None:
        """Send one packet on one connection."""
        connection.packets = connection.packets % 0xFFFF + 1
        connection.sent += 1
        frame = Frame(
            source=connection.local.address,
            destination=connection.address,
            host=self.host,
            src_index=connection.local.index,
            dst_index=connection.remote_index,
            state=connection.state,
            id=id_,
            payload=payload,
            identification=connection.packets,
        )
        connection.local.transmit(frame.pack(), connection.address)

    def send(self, packet: bytes) -> None:
        """Send a packet of the device on every connection of the highest state."""
        destination = socket.inet_ntoa(packet[16:20])
        strand = self.strands.get(destination) or self.strands.get(self.router or "")
        if strand is None:
            return
        id_ = strand.next_id
        strand.next_id = (id_ + 1) % IDS
        highest = max(connection.state for connection in strand.connections.values())
        for connection in strand.connections.values():
            if connection.state == highest:
                self.emit(connection, id_, packet)

    def receive(self, packet: bytes, now: float) -> bytes | None:
        """Take one packet off the wire; return what belongs on the device, if anything."""
        frame = Frame.unpack(packet)
        if frame is None or frame.host == self.host:
            return None
        if frame.dst_index not in {local.index for local in self.interfaces}:
            return None
        strand = self.know(frame.host, frame.src_index, frame.source)
        connection = strand.connections[frame.dst_index, frame.src_index]
        connection.received += 1
        if connection.state < 2:
            # The first implementation has no limit here, and dies of what comes after 2.
            state = frame.state + 1
            if state > 2:
                sys.exit(f"state {state}: {frame.source} says {frame.state} to an end below 2")
            self.changed = self.changed or state != connection.state
            connection.state = state
            self.emit(connection, 0, None)
        if frame.payload is None:
            return None
        seen = strand.seen.get(frame.id)
        if seen is not None and now - seen < DUPLICATE_S:
            strand.duplicates += 1
            return None
        strand.seen[frame.id] = now
        strand.delivered += 1
        return frame.payload

    def status(self) -> dict[str, object]:
        """Return what a test wants to know, JSON-able."""
        return {
            strand.host: {
                "delivered": strand.delivered,
                "duplicates": strand.duplicates,
                "connections": [
                    {
                        "local": local,
                        "remote": remote,
                        "state": connection.state,
                        "sent": connection.sent,
                        "received": connection.received,
                    }
                    for (local, remote), connection in sorted(strand.connections.items())
                ],
            }
            for strand in self.strands.values()
        }


def open_device(name: str, address: str, mtu: int) -> int:
    """Make the TUN device, address it (``A.B.C.D/N``) and bring it up; return its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    for arguments in (
        ["link", "set", name, "addrgenmode", "none", "mtu", str(mtu)],
        ["address", "add", address, "dev", name],
        ["link", "set", name, "up"],
    ):
        subprocess.run(["ip", *arguments], check=True)
    return descriptor


def read_device(descriptor: int) -> Iterator[bytes]:
    """Yield the packets that the TUN device has now."""
    while True:
        try:
            yield os.read(descriptor, 65536)
        except BlockingIOError:
            return


def write_device(descriptor: int, packet: bytes) -> None:
    """Hand a packet to the kernel; what it does not take is lost, as on any device."""
    try:
        os.write(descriptor, packet)
    except OSError as error:
        print(f"device refused {len(packet)} bytes: {error}", file=sys.stderr)


def write_status(path: str, node: Node) -> None:
    """Replace the status file in one step, so that a reader never sees half of it."""
    with open(path + ".new", "w", encoding="ascii") as file:
        json.dump(node.status(), file)
    os.replace(path + ".new", path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a literal node of the classic protocol")
    parser.add_argument("--host", required=True, help="own virtual address")
    parser.add_argument("--network", required=True, help="virtual network, A.B.C.D/N")
    parser.add_argument("--interface", action="append", required=True)
    parser.add_argument("--device", default="ref0")
    parser.add_argument("--remote", action="append", default=[], help="HOST,INDEX,ADDRESS")
    parser.add_argument("--router", help="host that carries what has no strand of its own")
    parser.add_argument("--greet-s", type=float, default=0.5)
    parser.add_argument("--mtu", type=int, default=1466)
    parser.add_argument("--status", required=True, help="JSON file that is kept up to date")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    interfaces = [Interface(name) for name in options.interface]
    node = Node(options.host, interfaces, options.router, options.greet_s)
    for remote in options.remote:
        host, index, address = remote.split(",")
        node.know(host, int(index), address)
    length = ipaddress.ip_network(options.network).prefixlen
    device = open_device(options.device, f"{options.host}/{length}", options.mtu)
    stopped: set[int] = set()
    signal.signal(signal.SIGTERM, lambda number, _: stopped.add(number))
    sockets = {interface.receiver.fileno(): interface for interface in interfaces}
    written = 0.0
    while not stopped:
        now = time.monotonic()
        due = node.greet(now)
        if node.changed or now - written >= 0.1:
            node.changed = False
            written = now
            write_status(options.status, node)
        ready, _, _ = select.select([device, *sockets], [], [], min(0.1, max(0.0, due - now)))
        for descriptor in ready:
            if descriptor == device:
                for packet in read_device(device):
                    if packet[0] >> 4 == 4:
                        node.send(packet)
                continue
            packet_in = sockets[descriptor].receive()
            delivered = node.receive(packet_in, time.monotonic()) if packet_in else None
            if delivered is not None:
                write_device(device, delivered)


if __name__ == "__main__":
    main()
