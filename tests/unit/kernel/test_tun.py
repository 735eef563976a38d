"""The TUN device's batches, over a socket pair in place of the device."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from ropeway.core.packet import ipv4, segments
from ropeway.kernel import tun
from ropeway.kernel.features import NOT_ASKED_FOR, ON

#: Of an IPv4 packet of UDP whose checksum is partial: 10.0.0.1 to 10.0.0.2.
PARTIAL = bytes.fromhex("45000020000140004011 26ca 0a000001 0a000002 1111 2222 000c 1420 64617461")


@pytest.fixture
def device():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    made = tun.Tun.__new__(tun.Tun)
    made.name, made._fd = "ropeway0", near.detach()
    made._queues = [tun.Queue(made._fd)]
    made.features = dict.fromkeys(tun.FEATURES, NOT_ASKED_FOR)
    with far:
        yield made, far
    made.close()


def test_request_has_the_layout_of_the_kernel():
    assert tun.IFREQ.size == 40
    assert tun.IFREQ.pack(b"ropeway0", tun.IFF_TUN | tun.IFF_NO_PI)[:18] == (
        b"ropeway0" + b"\0" * 8 + (0x1001).to_bytes(2, "little")
    )


@pytest.mark.parametrize("name", ["", "x" * 16])
def test_name_that_does_not_fit(name):
    with pytest.raises(ValueError, match="1 to 15 bytes"):
        tun.open_device(name)


def test_read_batch(device):
    made, far = device
    assert made.queues[0].read_batch(64) == []
    for number in range(5):
        far.send(bytes([number]))
    assert made.queues[0].read_batch(3) == [b"\0", b"\1", b"\2"]
    assert made.queues[0].read_batch(3) == [b"\3", b"\4"]


@pytest.mark.parametrize("front", [b"", segments.EMPTY], ids=["packet", "vnet header"])
def test_a_packet_in_fragments_is_read_whole_whatever_the_limit(device, front):
    made, far = device
    made.queues[0].start = len(front)
    whole = bytes.fromhex("4500012c0001000040110000 0a000001 0a000002") + bytes(280)
    sent = [front + piece for piece in [*ipv4.fragments(whole, 100), whole]]
    assert len(sent) == 5
    for one in sent:
        far.send(one)
    assert made.queues[0].read_batch(1) == sent[:4]
    assert made.queues[0].read_batch(2) == sent[4:]
    # The rest may come later, or never.
    far.send(sent[0])
    assert made.queues[0].read_batch(1) == sent[:1]


def test_fragments_that_never_end_do_not_keep_a_batch_from_ending(device, monkeypatch):
    made, _ = device
    begun = bytes.fromhex("4500001c0001200040110000 0a000001 0a000002") + bytes(8)
    monkeypatch.setattr(tun.os, "read", lambda *_: begun)
    assert made.queues[0].read_batch(2) == [begun] * (2 + tun.FRAGMENTS_MAX)


@pytest.mark.parametrize("stays", [False, True], ids=["passing", "staying"])
def test_packets_before_a_failure_count_and_one_that_stays_comes_again(device, monkeypatch, stays):
    made, _ = device
    failure = OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    results = [b"one", failure, failure if stays else b"two", BlockingIOError()]

    def read(*_):
        result = results.pop(0)
        if isinstance(result, OSError):
            raise result
        return result

    monkeypatch.setattr(tun.os, "read", read)
    assert made.queues[0].read_batch(3) == [b"one"]
    if stays:
        with pytest.raises(OSError, match="Invalid argument"):
            made.queues[0].read_batch(3)
    else:
        assert made.queues[0].read_batch(3) == [b"two"]


def test_write_batch(device):
    made, far = device
    assert made.write_batch([b"one", b"two"]) == {}
    assert [far.recv(10), far.recv(10)] == [b"one", b"two"]


def test_a_partial_packet_is_completed_where_the_device_takes_none(device):
    made, far = device
    assert made.write_partial([PARTIAL]) == {}
    assert far.recv(100) == ipv4.complete(PARTIAL) != PARTIAL


def test_every_packet_has_a_vnet_header_where_it_is_on(device):
    made, far = device
    made.features["vnet_hdr"] = ON
    assert made.write_batch([b"one", b"two"]) == {}
    assert [far.recv(50), far.recv(50)] == [bytes(10) + b"one", bytes(10) + b"two"]
    assert made.write_partial([PARTIAL]) == {}
    assert far.recv(100) == segments.VNET.pack(1, 0, 0, 0, 20, 6) + PARTIAL


@pytest.mark.parametrize(("uso", "writes"), [(ON, 1), (NOT_ASKED_FOR, 3)])
def test_partial_packets_are_merged_where_super_packets_are_on(device, uso, writes):
    made, far = device
    made.features.update(vnet_hdr=ON, uso=uso)
    assert made.write_partial([PARTIAL] * 3) == {}
    payloads = [far.recv(1000)[10 + 28 :] for _ in range(writes)]
    assert payloads == [b"data" * (3 // writes)] * writes


def test_each_packet_of_a_refused_write_is_counted(device):
    made, far = device
    made.features.update(vnet_hdr=ON, uso=ON)
    far.close()
    assert made.write_partial([PARTIAL] * 3) == {"ECONNREFUSED": 3}


def test_refused_writes_are_counted(device):
    made, far = device
    far.close()
    assert made.write_batch([b"one", b"two"]) == {"ECONNREFUSED": 1, "ENOTCONN": 1}


def test_close_twice(device):
    made, _ = device
    number = made.queues[0].fileno()
    made.close()
    made.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


class Kernel:
    """What the device is asked for, and what of it is refused."""

    def __init__(self, monkeypatch):
        self.asked = []
        self.length = 500
        self.refused = 0
        self.taken = 0
        monkeypatch.setattr(tun.os, "open", lambda *_: os.dup(0))
        monkeypatch.setattr(tun.fcntl, "ioctl", self.ioctl)

    def ioctl(self, _, request, argument):
        if request == tun.SIOCGIFTXQLEN:
            if self.length is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            return tun.IFREQ_QLEN.pack(tun.IFREQ_QLEN.unpack(argument)[0], self.length)
        return self.configure(request, argument)

    def configure(self, request, argument):
        if request == tun.TUNSETIFF:
            argument = struct.unpack_from("=H", argument, 16)[0]
            if argument & self.taken:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.asked.append((request, argument))
        if request == tun.TUNSETOFFLOAD and argument & self.refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def opened(features=frozenset()):
    return tun.Tun("ropeway0", tun.open_device("ropeway0", features))


def queues(flags):
    """Give the requests that make a device with all its queues."""
    further = [(tun.TUNSETIFF, flags | tun.IFF_MULTI_QUEUE)] * (tun.QUEUES - 1)
    return [(tun.TUNSETIFF, flags | tun.IFF_MULTI_QUEUE | tun.IFF_TUN_EXCL), *further]


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


def test_a_device_without_features(kernel):
    made = opened()
    made.close()
    assert kernel.asked == queues(0x1001)
    assert made.features == dict.fromkeys(("vnet_hdr", "tso", "uso"), "not asked for")


def test_a_device_knows_how_much_its_queues_hold(kernel):
    kernel.length = 1000
    made = opened()
    assert made.capacity == 1000
    kernel.length = 200
    made.measure()
    assert made.capacity == 200
    kernel.length = None  # the device is gone, or has another name
    made.measure()
    assert made.capacity == 200
    made.close()
    made = opened()
    assert made.capacity == tun.TUN_READQ_SIZE
    made.close()


def test_a_queue_tells_whether_a_batch_was_the_last(device):
    made, far = device
    queue = made.queues[0]
    far.send(b"one")
    far.send(b"two")
    assert (queue.read_batch(1), queue.emptied) == ([b"one"], False)
    assert (queue.read_batch(1), queue.emptied) == ([b"two"], False)
    assert (queue.read_batch(1), queue.emptied) == ([], True)
    far.send(b"three")
    assert (queue.read_batch(1), queue.emptied) == ([b"three"], False)
    assert (queue.read_batch(1), queue.emptied) == ([], True)


def test_a_device_that_was_there_before_keeps_its_one_queue(kernel):
    kernel.taken = tun.IFF_TUN_EXCL
    made = opened()
    assert kernel.asked == [(tun.TUNSETIFF, 0x1001)]
    assert len(made.queues) == 1
    made.close()


def test_a_refused_queue_leaves_no_descriptor(kernel, monkeypatch):
    before = os.listdir("/proc/self/fd")
    ioctl, answers = kernel.ioctl, [None] * 3

    def refuse(*arguments):
        if not answers:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        answers.pop()
        return ioctl(*arguments)

    monkeypatch.setattr(tun.fcntl, "ioctl", refuse)
    with pytest.raises(OSError, match="too long"):
        tun.open_device("ropeway0")
    assert os.listdir("/proc/self/fd") == before


def test_a_device_that_is_not_wanted_is_closed(kernel):
    before = os.listdir("/proc/self/fd")
    tun.open_device("ropeway0").close()
    assert os.listdir("/proc/self/fd") == before


def test_answers_are_written_through_the_first_queue_until_another_is_chosen(kernel, monkeypatch):
    made = opened()
    written = []
    monkeypatch.setattr(tun.os, "write", lambda fd, _: written.append(fd))
    made.write_batch([b"one"])
    made.write_through(5)
    made.write_batch([b"two"])
    assert written == [made.queues[0].fileno(), made.queues[5].fileno()]
    made.close()


def test_a_device_with_all_features(kernel):
    made = opened(frozenset(tun.FEATURES))
    made.close()
    assert kernel.asked[: tun.QUEUES] == queues(0x5001)
    assert all(queue.start == segments.VNET.size for queue in made.queues)
    assert kernel.asked[-1] == (tun.TUNSETOFFLOAD, 0x6F)
    assert made.features == dict.fromkeys(("vnet_hdr", "tso", "uso"), "on")


def test_a_kernel_without_uso(kernel):
    kernel.refused = tun.TUN_F_USO
    made = opened(frozenset(tun.FEATURES))
    made.close()
    assert (tun.TUNSETOFFLOAD, 0x0F) in kernel.asked
    assert made.features == {"vnet_hdr": "on", "tso": "on", "uso": "Invalid argument"}


def test_uso_without_tso(kernel):
    made = opened(frozenset(("vnet_hdr", "uso")))
    made.close()
    assert kernel.asked[-1] == (tun.TUNSETOFFLOAD, 0x61)
    assert made.features == {"vnet_hdr": "on", "tso": "not asked for", "uso": "on"}


def test_super_packets_need_the_vnet_header(kernel):
    made = opened(frozenset(("tso",)))
    made.close()
    assert made.features == {
        "vnet_hdr": "not asked for",
        "tso": "needs vnet_hdr",
        "uso": "not asked for",
    }
    assert kernel.asked == queues(0x1001)
