"""The receive filter, run by a small classic BPF machine; batches over socket pairs."""

from __future__ import annotations

import errno
import socket

import pytest

from ropeway.core.classic import frame as classic
from ropeway.kernel import classic_sockets
from tests.unit.kernel.fake_buffer import Unmeasured


def accepts(packet, packet_type=classic_sockets.PACKET_HOST):
    """Run the filter as the kernel does on the IP header of `packet`."""
    program = list(classic_sockets.SOCK_FILTER.iter_unpack(classic_sockets.receive_filter()))
    counter = accumulator = 0
    while True:
        code, if_true, if_false, value = program[counter]
        counter += 1
        if code == classic_sockets.BPF_LD_B_ABS:
            if value == classic_sockets.SKF_AD_PKTTYPE:
                accumulator = packet_type
            elif value < len(packet):
                accumulator = packet[value]
            else:
                return False
        elif code == classic_sockets.BPF_JMP_JEQ_K:
            counter += if_true if accumulator == value else if_false
        elif code == classic_sockets.BPF_RET_K:
            return value > 0
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


# From the published protocol's vectors.
GREETING = bytes.fromhex("48000022010000004004c209c0a812b9c0a812c40a00000102000000020000000000")


@pytest.mark.parametrize(
    ("packet", "packet_type", "passes"),
    [
        (GREETING, 0, True),
        (GREETING, 1, False),  # PACKET_BROADCAST
        (GREETING, 3, False),  # PACKET_OTHERHOST
        (GREETING, 4, False),  # PACKET_OUTGOING
        (b"\x45" + GREETING[1:], 0, False),
        (b"\x68" + GREETING[1:], 0, False),
        (GREETING[:9] + b"\x11" + GREETING[10:], 0, False),
        (GREETING[:9], 0, False),
        (b"", 0, False),
    ],
)
def test_filter(packet, packet_type, passes):
    assert accepts(packet, packet_type) is passes


@pytest.fixture
def pair():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    with near, far:
        yield near, far


def link_over(receive):
    made = classic_sockets.LinkSockets.__new__(classic_sockets.LinkSockets)
    made._receive = receive
    return made


def test_receive_batch_takes_what_is_there_up_to_the_limit(pair):
    near, far = pair
    link = link_over(near)
    assert link.receive_batch(64) == []
    for number in range(5):
        far.send(bytes([number]))
    assert link.receive_batch(3) == [b"\0", b"\1", b"\2"]
    assert link.receive_batch(3) == [b"\3", b"\4"]


@pytest.mark.parametrize(("name", "bound"), [("eth0", True), ("", False)])
def test_socket_of_an_interface_that_went_away_is_bound_no_more(name, bound):
    class Bound:
        def getsockname(self):
            return (name, 0x800, 0, 1, b"")

    assert link_over(Bound()).is_bound() is bound


class Failing:
    """Gives the items in turn and raises those that are errors."""

    def __init__(self, *items):
        self.items = list(items)

    def recv(self, size):
        return self._next()

    def sendto(self, datagram, destination):
        return self._next()

    def _next(self):
        item = self.items.pop(0)
        if isinstance(item, int):
            raise OSError(item, "")
        return item


def test_error_after_datagrams_comes_with_the_next_batch():
    link = link_over(Failing(b"a", errno.ENETDOWN, errno.ENETDOWN))
    assert link.receive_batch(64) == [b"a"]
    with pytest.raises(OSError, match=r"\[Errno 100\]"):
        link.receive_batch(64)


def sending_over(*items):
    link = link_over(None)
    link._send, link._buffer = Failing(*items), Unmeasured()
    return link


def test_refused_sends_are_counted_by_reason_and_the_rest_goes_out():
    link = sending_over(b"sent", errno.ENOBUFS, errno.EAGAIN, errno.ENOBUFS, 99999)
    assert link.send_batch("192.0.2.1", [bytes(100)] * 5) == {
        "ENOBUFS": 2,
        "EAGAIN": 1,
        "EUNKNOWN": 1,
    }


def test_sends_that_succeed_count_nothing():
    assert sending_over(b"", b"").send_batch("192.0.2.1", [b"a", b"b"]) == {}


def test_a_frame_without_a_packet_waits_for_no_room():
    greeting = bytes(classic.OVERHEAD)
    link = sending_over(b"sent")
    link._buffer = Unmeasured(fills=0)
    assert link.send_batch("192.0.2.1", [greeting, bytes(100)]) == {"EAGAIN": 1}
    assert link._send.items == []
    link = sending_over(errno.EPERM)
    link._buffer = Unmeasured(fills=0)
    assert link.send_batch("192.0.2.1", [greeting]) == {"EPERM": 1}
