"""Hints of the kernel: what they are about, without reading them."""

from __future__ import annotations

import errno
import os

import pytest

from ropeway.steward.interface import Change
from ropeway.steward.netlink.hints import Hints

NEWLINK, NEWADDR, NEWROUTE, DELROUTE, NEWRULE = 16, 20, 24, 25, 32


def message(kind, body=b""):
    return (16 + len(body)).to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(10) + body


class Socket:
    """Gives what waits, one datagram at a time, or raises what stands there instead."""

    def __init__(self, *waiting):
        self.waiting = list(waiting)

    def recv(self, size):
        if not self.waiting:
            raise BlockingIOError
        item = self.waiting.pop(0)
        if isinstance(item, Exception):
            raise item
        return item


def drained(*waiting, limit=64):
    hints = Hints.__new__(Hints)
    hints._socket = Socket(*waiting)
    return hints.drain(limit), hints._socket.waiting


@pytest.mark.parametrize(
    ("waiting", "change"),
    [
        ([], Change.NOTHING),
        ([message(NEWROUTE)], Change.ROUTES),
        ([message(NEWROUTE, b"abc\0") + message(DELROUTE), message(NEWRULE)], Change.ROUTES),
        ([message(NEWROUTE), message(NEWADDR)], Change.INTERFACES),
        ([message(NEWROUTE) + message(NEWLINK)], Change.INTERFACES),
        ([b""], Change.INTERFACES),
        ([b"x" * 40], Change.INTERFACES),
    ],
)
def test_hints_are_drained_and_say_what_changed(waiting, change):
    assert drained(*waiting) == (change, [])


def test_messages_that_the_kernel_dropped_are_changes_of_everything():
    lost = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
    assert drained(message(NEWROUTE), lost, message(NEWROUTE)) == (Change.INTERFACES, [])


def test_draining_is_bounded():
    change, left = drained(*[message(NEWROUTE)] * 10, limit=4)
    assert change is Change.ROUTES
    assert len(left) == 6
