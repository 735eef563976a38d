"""The TUN device's batches, over a socket pair in place of the device."""

from __future__ import annotations

import os
import socket

import pytest

from ropeway.kernel import tun


@pytest.fixture
def device():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    made = tun.Tun.__new__(tun.Tun)
    made.name, made._fd = "ropeway0", near.detach()
    made.features = dict.fromkeys(tun.FEATURES, tun.NOT_ASKED_FOR)
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
        tun.Tun(name)


def test_read_batch(device):
    made, far = device
    assert made.read_batch(64) == []
    for number in range(5):
        far.send(bytes([number]))
    assert made.read_batch(3) == [b"\0", b"\1", b"\2"]
    assert made.read_batch(3) == [b"\3", b"\4"]


def test_write_batch(device):
    made, far = device
    assert made.write_batch([b"one", b"two"]) == {}
    assert [far.recv(10), far.recv(10)] == [b"one", b"two"]


def test_refused_writes_are_counted(device):
    made, far = device
    far.close()
    assert made.write_batch([b"one", b"two"]) == {"ECONNREFUSED": 1, "ENOTCONN": 1}


def test_close_twice(device):
    made, _ = device
    number = made.fileno()
    made.close()
    made.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
