"""The receive filter, run by a small classic BPF machine; batches over socket pairs; buffers."""

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


def test_a_frame_without_a_packet_goes_past_a_full_buffer():
    greeting = bytes(classic.OVERHEAD)
    link = sending_over(errno.EAGAIN, b"sent", b"sent")
    assert link.send_batch("192.0.2.1", [greeting, bytes(100)]) == {}
    assert link._send.items == []
    link = sending_over(errno.EAGAIN, errno.EPERM)
    assert link.send_batch("192.0.2.1", [greeting]) == {"EPERM": 1}


class SlowLink:
    """A stream whose far end takes out what a link would carry, and whose time is made up."""

    CHUNK = bytes(4096)

    def __init__(self):
        self.now = 0.0
        self.credit = 0.0
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.buffer = classic_sockets.SendBuffer(self.near, lambda: self.now)

    def batch(self, chunks=None):
        """Send some chunks, or as many as there is room for and one more."""
        self.buffer.before_batch()
        refused = {}
        while chunks is None or chunks > 0:
            try:
                self.near.send(self.CHUNK)
            except BlockingIOError:
                refused = {"EAGAIN": 1}
                break
            chunks = chunks and chunks - 1
        self.buffer.after_batch(refused)

    def carry(self, seconds, bytes_per_s):
        """Let time pass in which the link carries what waits; return how much that was."""
        self.now += seconds
        self.credit += seconds * bytes_per_s
        carried = 0
        while self.credit >= len(self.CHUNK):
            try:
                size = len(self.far.recv(len(self.CHUNK)))
            except BlockingIOError:
                self.credit = 0.0
                break
            self.credit -= size
            carried += size
        return carried

    def granted(self):
        return self.near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


@pytest.fixture
def slow():
    made = SlowLink()
    with made.near, made.far:
        yield made


def overload(slow, seconds, bytes_per_s, tick_s=0.01):
    """Send more than the link carries; give how long the last byte waits when it is done."""
    for _ in range(round(seconds / tick_s)):
        slow.batch()
        slow.carry(tick_s, bytes_per_s)
    slow.batch()
    return slow.carry(60, bytes_per_s) / bytes_per_s


def test_backlog_is_bounded_before_anything_is_known_of_the_link(slow):
    assert slow.granted() == classic_sockets.SEND_BYTES
    slow.batch()
    assert slow.carry(60, 625_000) / 625_000 < 2


@pytest.mark.parametrize("bytes_per_s", [625_000, 2_500_000, 6_250_000])
def test_a_link_that_cannot_keep_up_holds_what_it_carries_in_a_while(slow, bytes_per_s):
    waits_s = overload(slow, 3, bytes_per_s)
    # The bookkeeping of the kernel counts too.
    assert classic_sockets.BACKLOG_S * 0.4 < waits_s <= classic_sockets.BACKLOG_S * 1.1
    assert slow.granted() == slow.buffer.size // 2 * 2


@pytest.mark.parametrize("bytes_per_s", [62_500, 125_000, 250_000])
def test_a_very_slow_link_holds_little_more_and_takes_no_whole_trains(slow, bytes_per_s):
    waits_s = overload(slow, 30, bytes_per_s)
    assert waits_s <= classic_sockets.BACKLOG_S * 1.7
    assert not slow.buffer.holds_trains


def test_a_moment_of_silence_leaves_room_for_trains(slow):
    overload(slow, 1.5 * classic_sockets.BACKLOG_S, 1)
    assert slow.buffer.size >= classic_sockets.SEND_BYTES / classic_sockets.SHRINK_MAX
    assert slow.buffer.holds_trains


def test_size_follows_a_link_that_becomes_slower_and_faster(slow):
    overload(slow, 3, 6_250_000)
    assert overload(slow, 3, 625_000) <= classic_sockets.BACKLOG_S * 1.1
    assert overload(slow, 3, 6_250_000) > classic_sockets.BACKLOG_S * 0.4


def test_a_link_that_carries_nothing_for_a_while_recovers(slow):
    overload(slow, 3, 1)
    assert slow.buffer.size == classic_sockets.SEND_BYTES_MIN
    assert overload(slow, 5, 12_500_000) > classic_sockets.BACKLOG_S * 0.4


@pytest.mark.parametrize("gap_s", [0.1, 0.3, 5])
def test_bursts_with_gaps_find_room_again_after_the_link_carried_nothing(slow, gap_s):
    overload(slow, 3, 1)
    for _ in range(5):
        slow.batch()
        slow.carry(gap_s, 10_000_000)
    assert slow.buffer.size >= classic_sockets.SEND_BYTES


def test_bursts_with_gaps_at_a_slow_link_wait_no_longer_than_the_very_first(slow):
    overload(slow, 3, 625_000)
    for _ in range(10):
        slow.batch()
        slow.carry(5, 625_000)
    assert slow.buffer.size == classic_sockets.SEND_BYTES
    assert overload(slow, 3, 625_000) <= classic_sockets.BACKLOG_S * 1.1


def test_bursts_at_a_fast_link_soon_find_room(slow):
    for _ in range(10):
        slow.batch()
        slow.carry(0.1, 125_000_000)
    assert slow.buffer.size == classic_sockets.SEND_BYTES_MAX


def test_bursts_of_long_ago_say_nothing_about_the_link(slow):
    for _ in range(10):
        slow.batch()
        slow.carry(10, 125_000_000)
    assert slow.buffer.size == classic_sockets.SEND_BYTES


def test_a_link_that_keeps_up_is_not_measured(slow, monkeypatch):
    monkeypatch.setattr(classic_sockets.fcntl, "ioctl", None)
    for _ in range(100):
        slow.batch(chunks=2)
        slow.carry(0.01, 125_000_000)
    assert slow.buffer.size == classic_sockets.SEND_BYTES


def test_what_is_squeezed_in_passes_a_full_buffer_and_leaves_it_as_it_was(slow):
    slow.batch()
    with pytest.raises(BlockingIOError):
        slow.near.send(slow.CHUNK)
    slow.buffer.squeeze_in(lambda: slow.near.send(slow.CHUNK))
    with pytest.raises(BlockingIOError):
        slow.near.send(slow.CHUNK)
    assert slow.granted() == classic_sockets.SEND_BYTES


def test_what_cannot_be_squeezed_in_leaves_the_buffer_as_it_was(slow):
    def fail():
        raise OSError(errno.ENETUNREACH, "")

    with pytest.raises(OSError, match=r"\[Errno 101\]"):
        slow.buffer.squeeze_in(fail)
    assert slow.granted() == classic_sockets.SEND_BYTES


class Unprivileged:
    """A socket whose process may not exceed the system's limits."""

    def __init__(self):
        self.set = {}

    def setsockopt(self, level, option, value):
        if option in (classic_sockets.SO_SNDBUFFORCE, classic_sockets.SO_RCVBUFFORCE):
            raise PermissionError(errno.EPERM, "")
        self.set[option] = value


def test_without_privilege_the_buffers_are_asked_for_in_the_ordinary_way():
    which = Unprivileged()
    classic_sockets.SendBuffer(which)
    classic_sockets.set_receive_buffer(which)
    assert which.set == {
        socket.SO_SNDBUF: classic_sockets.SEND_BYTES // 2,
        socket.SO_RCVBUF: classic_sockets.RECEIVE_BYTES // 2,
    }
