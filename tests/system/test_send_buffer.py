"""What waits for a slow link is bounded by a process that holds no capability."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
import time
from typing import Callable

import pytest

from ropeway.core.classic.frame import OVERHEAD
from ropeway.core.frame.data import CONTROL, DATA, Train
from ropeway.kernel import buffers, capabilities
from ropeway.kernel.classic_sockets import LinkSockets, open_pair
from ropeway.kernel.udp import UDP_FEATURES, UdpSocket, open_socket
from tests.system.bed.reference_node import Frame
from tests.system.bed.stage import Pair
from tests.system.bed.topology import enter

PORT = 7700
LAN = "net0"
KBIT = 5000
SIZE = 1200
LIMIT_S = 10.0
#: More than waits at first, which is a MiB.
FRAMES = 2000
CONTROL_FRAMES = 5
#: From one byte to a jumbo frame, on both sides of what the kernel rounds up.
SIZES = [1, 200, 500, 540, 600, 1200, 1450, 1540, 1600, 3550, 3650, 7700, 8900]


def slow_down(pair: Pair, kbit: int = KBIT) -> None:
    port, far = pair.a.ports[LAN], pair.b.ports[LAN]
    # A question for it would wait behind the rest.
    port.host.ip("neigh", "replace", far.ip, "lladdr", far.mac, "dev", port.interface)
    shape = ["rate", f"{kbit}kbit", "burst", "32kb", "limit", "4mb"]
    port.host.run("tc", "qdisc", "replace", "dev", port.interface, "root", "tbf", *shape)


def waiting(which: socket.socket) -> int:
    answer = fcntl.ioctl(which, termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("=i", answer)[0])


def ordinarily(call: Callable[[], None]) -> None:
    """Call in a thread that may drop its capabilities: those of others stay as they are."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def await_arrivals(into: socket.socket, beginning: bytes, count: int) -> None:
    """Receive until so many datagrams with this beginning have arrived."""
    end = time.monotonic() + LIMIT_S
    into.settimeout(LIMIT_S)
    while count:
        assert time.monotonic() < end
        count -= into.recv(65535).startswith(beginning)


def open_link(pair: Pair) -> UdpSocket:
    port = pair.a.ports[LAN]
    here = port.index, port.interface, port.ip, PORT
    return UdpSocket(*here, open_socket(*here), frozenset(UDP_FEATURES))


@pytest.mark.parametrize("count", [1, 40], ids=["frames", "trains"])
@pytest.mark.parametrize("drop_first", [False, True], ids=["opened with", "opened without"])
def test_what_waits_is_bounded_and_what_carries_no_packet_goes(
    pair: Pair, count: int, drop_first: bool
) -> None:
    slow_down(pair)
    endpoint = pair.b.ports[LAN].ip, PORT
    train = Train(SIZE, count, [bytes([DATA]) + bytes(SIZE - 1)] * count)
    frame = bytes([CONTROL]) + bytes(99)
    into = pair.b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    into.bind(endpoint)

    def overload() -> None:
        enter(pair.a.netns)
        if drop_first:
            capabilities.drop_all()
        link = open_link(pair)
        capabilities.drop_all()
        assert capabilities.held().effective == ()
        refused = 0
        for _ in range(FRAMES // count):
            size = link.buffers()["send"]
            refused += link.send_batch(endpoint, [train]).get("EAGAIN", 0)
            allowed = size + buffers.GROWTH * (SIZE + buffers.FRAME_BYTES) * count
            assert waiting(link._socket) <= allowed
        assert 0 < refused < FRAMES
        for _ in range(CONTROL_FRAMES):
            assert link.send_batch(endpoint, [Train(len(frame), 1, [frame])]) == {}
        link.close()

    with into:
        ordinarily(overload)
        await_arrivals(into, frame, CONTROL_FRAMES)


def test_the_same_holds_of_classic_links(pair: Pair) -> None:
    slow_down(pair)
    here, there = pair.a.ports[LAN], pair.b.ports[LAN]
    greeting = Frame(here.ip, there.ip, "10.0.0.1", 2, 12, 0).pack()
    packet = Frame(here.ip, there.ip, "10.0.0.1", 2, 12, 0, payload=bytes(SIZE)).pack()
    assert (len(greeting), len(packet)) == (OVERHEAD, OVERHEAD + SIZE)
    with pair.a.inside():
        pair_of = open_pair(here.index, here.interface)
    with pair.b.inside():
        _, receiving = open_pair(there.index, there.interface)

    def overload() -> None:
        capabilities.drop_all()
        link = LinkSockets(here.index, here.interface, *pair_of)
        refused = 0
        for _ in range(FRAMES):
            size = link.buffers()["send"]
            refused += link.send_batch(there.ip, [packet]).get("EAGAIN", 0)
            allowed = size + buffers.GROWTH * (OVERHEAD + SIZE + buffers.FRAME_BYTES)
            assert waiting(link._send) <= allowed
        assert 0 < refused < FRAMES
        for _ in range(CONTROL_FRAMES):
            assert link.send_batch(there.ip, [greeting]) == {}
        link.close()

    with socket.socket(fileno=receiving) as into:
        ordinarily(overload)
        await_arrivals(into, greeting[:4], CONTROL_FRAMES)


@pytest.mark.parametrize("count", [1, 7])
def test_the_kernel_counts_no_more_for_a_frame_than_is_taken_off(pair: Pair, count: int) -> None:
    port = pair.a.ports[LAN]
    port.host.ip("link", "set", port.interface, "mtu", "9000")
    slow_down(pair, kbit=8)
    endpoint = pair.b.ports[LAN].ip, PORT
    with pair.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as before, pair.a.inside():
        # The shaper lets a burst through: what follows waits behind the rest.
        for _ in range(100):
            before.sendto(bytes(1000), endpoint)
        assert waiting(before)
        for size in SIZES:
            link = open_link(pair)
            train = Train(size, count, [bytes([CONTROL]) * size] * count)
            assert link.send_batch(endpoint, [train]) == {}
            counted = waiting(link._socket)
            print(size, counted)
            assert 0 < counted <= buffers.GROWTH * (size + buffers.FRAME_BYTES) * count
            link.close()
