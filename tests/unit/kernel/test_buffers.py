"""What waits in send buffers, by a link whose speed and time are made up."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import termios

import pytest

from ropeway.kernel import buffers


class SlowLink:
    """A stream whose far end takes out what a link would carry, and whose time is made up."""

    CHUNK = bytes(4096)

    def __init__(self):
        self.now = 0.0
        self.credit = 0.0
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.near.setblocking(False)
        self.far.setblocking(False)
        buffers.set_send_buffer(self.near)
        self.buffer = buffers.SendBuffer(self.near, lambda: self.now)

    def batch(self, chunks=None):
        """Send some chunks, or as many as there is room for and one more."""
        if self.buffer.measures:
            self.buffer.before_batch()
        refused = {}
        while chunks is None or chunks > 0:
            if not self.buffer.takes(len(self.CHUNK)):
                refused = {"EAGAIN": 1}
                break
            self.near.send(self.CHUNK)
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

    def waiting(self):
        return struct.unpack("=i", fcntl.ioctl(self.near, termios.TIOCOUTQ, bytes(4)))[0]


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
    slow.batch()
    # As the kernel counts them: the last chunk is taken whole.
    most = buffers.GROWTH * (len(slow.CHUNK) + buffers.FRAME_BYTES)
    assert buffers.SEND_BYTES <= slow.waiting() < buffers.SEND_BYTES + most
    assert slow.carry(60, 625_000) / 625_000 < 2


@pytest.mark.parametrize("bytes_per_s", [625_000, 2_500_000, 6_250_000])
def test_a_link_that_cannot_keep_up_holds_what_it_carries_in_a_while(slow, bytes_per_s):
    waits_s = overload(slow, 3, bytes_per_s)
    # The bookkeeping of the kernel counts too.
    assert buffers.BACKLOG_S * 0.4 < waits_s <= buffers.BACKLOG_S * 1.1
    assert slow.buffer.holds_trains


@pytest.mark.parametrize("bytes_per_s", [62_500, 125_000, 250_000])
def test_a_very_slow_link_holds_little_more_and_takes_no_whole_trains(slow, bytes_per_s):
    waits_s = overload(slow, 30, bytes_per_s)
    assert waits_s <= buffers.BACKLOG_S * 1.7
    assert not slow.buffer.holds_trains


def test_a_moment_of_silence_leaves_room_for_trains(slow):
    overload(slow, 1.5 * buffers.BACKLOG_S, 1)
    assert slow.buffer.size >= buffers.SEND_BYTES / buffers.SHRINK_MAX
    assert slow.buffer.holds_trains


def test_size_follows_a_link_that_becomes_slower_and_faster(slow):
    overload(slow, 3, 6_250_000)
    assert overload(slow, 3, 625_000) <= buffers.BACKLOG_S * 1.1
    assert overload(slow, 3, 6_250_000) > buffers.BACKLOG_S * 0.4


def test_a_link_that_carries_nothing_for_a_while_recovers(slow):
    overload(slow, 3, 1)
    assert slow.buffer.size == buffers.SEND_BYTES_MIN
    assert overload(slow, 5, 12_500_000) > buffers.BACKLOG_S * 0.4


@pytest.mark.parametrize("gap_s", [0.1, 0.3, 5])
def test_bursts_with_gaps_find_room_again_after_the_link_carried_nothing(slow, gap_s):
    overload(slow, 3, 1)
    for _ in range(5):
        slow.batch()
        slow.carry(gap_s, 10_000_000)
    assert slow.buffer.size >= buffers.SEND_BYTES


def test_bursts_with_gaps_at_a_slow_link_wait_no_longer_than_the_very_first(slow):
    overload(slow, 3, 625_000)
    for _ in range(10):
        slow.batch()
        slow.carry(5, 625_000)
    assert slow.buffer.size == buffers.SEND_BYTES
    assert overload(slow, 3, 625_000) <= buffers.BACKLOG_S * 1.1


def test_bursts_at_a_fast_link_soon_find_room(slow):
    for _ in range(10):
        slow.batch()
        slow.carry(0.1, 125_000_000)
    assert slow.buffer.size == buffers.SEND_BYTES_MAX


def test_bursts_of_long_ago_say_nothing_about_the_link(slow):
    for _ in range(10):
        slow.batch()
        slow.carry(10, 125_000_000)
    assert slow.buffer.size == buffers.SEND_BYTES


def test_a_link_that_keeps_up_is_not_measured_and_seldom_looked_at(slow, monkeypatch):
    looks = []
    real = buffers.fcntl.ioctl
    monkeypatch.setattr(buffers.fcntl, "ioctl", lambda *of: (looks.append(1), real(*of))[1])
    for _ in range(1000):
        slow.batch(chunks=2)
        slow.carry(0.01, 125_000_000)
        assert not slow.buffer.measures
    assert slow.buffer.size == buffers.SEND_BYTES
    counted = 2000 * buffers.GROWTH * (len(slow.CHUNK) + buffers.FRAME_BYTES)
    assert len(looks) <= 2 * counted / buffers.SEND_BYTES


def test_what_must_not_wait_finds_room_in_the_kernel(slow):
    slow.batch()
    assert not slow.buffer.takes(1)
    slow.near.send(slow.CHUNK)


def test_once_what_waited_has_left_there_is_room_again(slow):
    slow.batch()
    assert not slow.buffer.takes(1)
    slow.carry(60, 625_000)
    assert slow.buffer.takes(len(slow.CHUNK))


@pytest.mark.parametrize("granted", [4608, 425_984])
def test_where_the_kernel_allows_less_a_part_stays_free_for_what_must_not_wait(granted):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with near, far:
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, granted // 2)
        buffer = buffers.SendBuffer(near)
        while buffer.takes(200):
            near.send(bytes(200))
        assert buffer.size < granted
        near.send(bytes(200))


class Unprivileged:
    """A socket whose process may not exceed the system's limits."""

    def __init__(self):
        self.set = {}

    def setsockopt(self, level, option, value):
        if option in (buffers.SO_SNDBUFFORCE, buffers.SO_RCVBUFFORCE):
            raise PermissionError(errno.EPERM, "")
        self.set[option] = value


def test_without_privilege_the_buffers_are_asked_for_in_the_ordinary_way():
    which = Unprivileged()
    buffers.set_send_buffer(which)
    buffers.set_receive_buffer(which)
    assert which.set == {
        socket.SO_SNDBUF: buffers.SEND_BYTES_KERNEL // 2,
        socket.SO_RCVBUF: buffers.RECEIVE_BYTES // 2,
    }
