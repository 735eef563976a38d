"""The device without an agent: what it gives is cut, merged and written to another device."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import select
import socket
import threading
from typing import Iterator

import pytest

from ropeway.core.packet import ipv4, segments
from ropeway.kernel.features import ON
from ropeway.kernel.tun import FEATURES, Queue, Tun, open_device
from tests.system.bed.agents import DEVICE
from tests.system.bed.checksums import Tap, watched
from tests.system.bed.topology import Host, Topology
from tests.system.bed.traffic import BUFFER_BYTES, SO_RCVBUFFORCE

ALL = frozenset(FEATURES)
#: What one device and the other leave off; traffic goes both ways.
OFF = {
    "all on": ((), ()),
    "no uso": (("uso",), ("uso",)),
    "no tso": (("tso",), ("tso",)),
    "neither": (("tso", "uso"), ("tso", "uso")),
    "no vnet_hdr": (FEATURES, FEATURES),
    "no vnet_hdr at one end": (FEATURES, ()),
    "no uso at the other end": ((), ("uso",)),
    "no tso at one end": (("tso",), ()),
}
MTU = 1400
BATCH = 16
TCP_BYTES = 8_000_000
TCP_PORT, UDP_PORT = 4900, 4901
LIMIT_S = 30.0
TRAINS = 20
TRAIN_SEGMENTS = 40
SEGMENT_BYTES = 1200
UDP_SEGMENT = 103  # include/uapi/linux/udp.h


class Wire:
    """Two devices in two hosts, and a thread that carries packets from each to the other."""

    def __init__(self, ends: list[tuple[Host, str, frozenset[str]]]) -> None:
        self.tuns = []
        self.refused: list[dict[str, int]] = []
        self.largest_read = [0, 0]
        for host, address, features in ends:
            with host.inside():
                self.tuns.append(Tun(DEVICE, open_device(DEVICE, features)))
            host.batch(
                ["address", "add", address, "dev", DEVICE],
                ["link", "set", DEVICE, "mtu", str(MTU), "up"],
            )
        self._stopped, self._stop = os.pipe()
        self.thread = threading.Thread(target=self._carry)
        self.thread.start()

    def _carry(self) -> None:
        with select.epoll() as epoll:
            epoll.register(self._stopped, select.EPOLLIN)
            for tun in self.tuns:
                for queue in tun.queues:
                    epoll.register(queue, select.EPOLLIN)
            while True:
                ready = {number for number, _ in epoll.poll()}
                if self._stopped in ready:
                    return
                for number, tun in enumerate(self.tuns):
                    for queue in tun.queues:
                        if queue.fileno() in ready:
                            self._pass_on(number, queue, tun, self.tuns[1 - number])

    def _pass_on(self, number: int, queue: Queue, source: Tun, target: Tun) -> None:
        reads = queue.read_batch(BATCH)
        lists = [(reads, False)]
        if source.features["vnet_hdr"] == ON:
            lists = segments.split(reads)
        self.largest_read[number] = max(self.largest_read[number], *map(len, reads))
        for packets, partial in lists:
            assert all(ipv4.is_whole(packet) and len(packet) <= MTU for packet in packets)
            write = target.write_partial if partial else target.write_batch
            refused = write(packets)
            if refused:
                self.refused.append(refused)

    def close(self) -> None:
        os.write(self._stop, b"x")
        self.thread.join()
        os.close(self._stop)
        os.close(self._stopped)
        for tun in self.tuns:
            tun.close()


@contextlib.contextmanager
def wire(ends: list[tuple[Host, str, frozenset[str]]]) -> Iterator[Wire]:
    made = Wire(ends)
    try:
        yield made
    finally:
        made.close()
    assert made.refused == []


@pytest.fixture
def topology() -> Iterator[Topology]:
    made = Topology("net0")
    try:
        yield made
    finally:
        made.close()


def stream(sender: Host, receiver: Host, address: str) -> None:
    """Send random bytes over TCP, in pieces of random size, and compare what arrives."""
    data = random.Random(7).randbytes(TCP_BYTES)
    digest = hashlib.sha256()
    listener = receiver.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, sender.socket(socket.AF_INET, socket.SOCK_STREAM) as out:
        listener.bind((address, TCP_PORT))
        listener.listen()
        out.settimeout(LIMIT_S)
        out.connect((address, TCP_PORT))
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(LIMIT_S)
            sending = threading.Thread(target=_send, args=(out, data))
            sending.start()
            received = 0
            while piece := accepted.recv(1 << 18):
                digest.update(piece)
                received += len(piece)
            sending.join()
    assert received == len(data)
    assert digest.digest() == hashlib.sha256(data).digest()


def _send(out: socket.socket, data: bytes) -> None:
    chance = random.Random(11)
    at = 0
    while at < len(data):
        size = chance.choice((1, 700, 1348, 10_000, 65_000, 200_000))
        out.sendall(data[at : at + size])
        at += size
    out.shutdown(socket.SHUT_WR)


def trains(sender: Host, receiver: Host, address: str) -> None:
    """Send datagrams as the kernel cuts them itself (UDP_SEGMENT), and compare what arrives."""
    chance = random.Random(13)
    with receiver.socket(socket.AF_INET, socket.SOCK_DGRAM) as into, sender.socket(
        socket.AF_INET, socket.SOCK_DGRAM
    ) as out:
        into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        into.bind((address, UDP_PORT))
        into.settimeout(LIMIT_S)
        out.connect((address, UDP_PORT))
        out.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SEGMENT_BYTES)
        for train in range(TRAINS):
            # From one datagram to many, and the last one is mostly shorter.
            size = chance.randrange(1, SEGMENT_BYTES * TRAIN_SEGMENTS) if train else 10
            data = chance.randbytes(size)
            out.send(data)
            for at in range(0, size, SEGMENT_BYTES):
                assert into.recv(1 << 16) == data[at : at + SEGMENT_BYTES]


@pytest.mark.parametrize("off", OFF.values(), ids=OFF.keys())
def test_streams_and_trains_go_through(
    topology: Topology, off: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    a, b = (topology.host(name) for name in "ab")
    ends = [(a, "10.9.0.1/24", ALL - set(off[0])), (b, "10.9.0.2/24", ALL - set(off[1]))]
    with wire(ends) as made, watched(a, b) as watch:
        for sender, receiver, address in ((a, b, "10.9.0.2"), (b, a, "10.9.0.1")):
            stream(sender, receiver, address)
            watch.look()
            trains(sender, receiver, address)
            watch.look()
    for tun, absent, largest in zip(made.tuns, off, made.largest_read):
        for name in absent:
            assert tun.features[name] == "not asked for"
        assert (largest > 10 * MTU) == ("tso" not in absent or "uso" not in absent)
    for number, host in enumerate((a, b)):
        largest = max(len(seen.packet) for seen in watch.incoming(host))
        partial = any(seen.partial for seen in watch.incoming(host))
        merging = "tso" not in off[number] or "uso" not in off[number]
        both = "vnet_hdr" not in off[0] + off[1]
        assert partial == both
        assert (largest > MTU) == (both and merging)


@pytest.mark.parametrize("gso_max_size", [1500, 65535], ids=["cut by the kernel", "whole"])
def test_what_was_merged_can_be_forwarded(topology: Topology, gso_max_size: int) -> None:
    """The next host is on a LAN: what was put together may have to be cut there once more."""
    a, b, c = (topology.host(name) for name in "abc")
    b.sysctl("net/ipv4/ip_forward", 1)
    port = b.connect("net0", "eth0", "10.8.0.1/24")
    c.connect("net0", "eth0", "10.8.0.2/24")
    b.ip("link", "set", port.interface, "gso_max_size", str(gso_max_size))
    ends = [(a, "10.9.0.1/24", ALL), (b, "10.9.0.2/24", ALL)]
    with wire(ends), contextlib.closing(Tap(c, "eth0")) as tap:
        a.ip("route", "add", "10.8.0.0/24", "via", "10.9.0.2")
        c.ip("route", "add", "10.9.0.0/24", "via", "10.8.0.1")
        stream(a, c, "10.8.0.2")
        seen = tap.seen()
        trains(a, c, "10.8.0.2")
        seen += tap.seen()
    # Without ARP.
    incoming = [one for one in seen if not one.outgoing and one.packet[0] == 0x45]
    assert [one.fault() for one in incoming if one.fault()] == []
    assert (max(len(one.packet) for one in incoming) > MTU) == (gso_max_size > 1500)
