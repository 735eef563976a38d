"""Leases between the node and the steward: nothing counts before it is on disk."""

from __future__ import annotations

import pytest

from ropeway.app.engine.leases import RETRY_S, GivenLeases, OwnLease
from ropeway.core.peers.lease_client import Lease
from ropeway.core.settings import UNASSIGNED
from ropeway.steward import answers, orders

KEY = b"k" * 32


class FakeSteward:
    def __init__(self):
        self.sent = []
        self.handlers = {}

    def on(self, kind, handler):
        self.handlers[kind] = handler

    def send(self, order, replaces=None):
        self.sent.append(order)

    def say(self, answer, now=0.0):
        self.handlers[type(answer)](answer, [], now)


class FakeServer:
    is_on = True

    def __init__(self):
        self.changes = []

    def take_changes(self, limit):
        taken, self.changes = self.changes[:limit], self.changes[limit:]
        return taken


class FakeNode:
    def __init__(self):
        self.lease_server = FakeServer()
        self.loaded = []
        self.written = []

    def load_leases(self, kept, now):
        self.loaded.append(kept)

    def leases_written(self, changes, now):
        self.written.append(changes)


@pytest.fixture
def steward():
    return FakeSteward()


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def given(node, steward):
    given = GivenLeases(node, steward, lambda due: None)
    given.look()
    return given


def begin(steward):
    steward.say(answers.LeasesRead((("10.0.0.7", KEY),)))


def test_what_was_on_disk_is_read_first(given, node, steward):
    node.lease_server.changes = [("10.0.0.8", KEY)]
    given.look()
    assert steward.sent == [orders.ReadLeases()]
    begin(steward)
    assert node.loaded == [(("10.0.0.7", KEY),)]
    assert steward.sent[1:] == [orders.WriteLeases(1, (("10.0.0.8", KEY.hex()),))]


def test_changes_count_once_they_are_written_and_others_wait_meanwhile(given, node, steward):
    begin(steward)
    node.lease_server.changes = [("10.0.0.8", KEY)]
    given.look()
    node.lease_server.changes = [("10.0.0.8", b""), ("10.0.0.9", None)]
    given.look()
    assert len(steward.sent) == 2
    assert node.written == []
    steward.say(answers.LeasesWritten(1))
    assert node.written == [[("10.0.0.8", KEY)]]
    assert steward.sent[2] == orders.WriteLeases(2, (("10.0.0.8", ""), ("10.0.0.9", None)))


def test_a_disk_that_refuses_is_tried_again(given, node, steward):
    begin(steward)
    node.lease_server.changes = [("10.0.0.8", KEY)]
    given.look()
    steward.say(answers.LeasesWritten(1, "the disk is full"), 10.0)
    assert given.fault == "the disk is full"
    assert given.deadline() == 10.0 + RETRY_S
    given.tick(10.0 + RETRY_S)
    assert steward.sent[-1] == steward.sent[-2] == orders.WriteLeases(1, (("10.0.0.8", KEY.hex()),))
    steward.say(answers.LeasesWritten(1), 16.0)
    assert node.written == [[("10.0.0.8", KEY)]]
    assert given.fault == ""


def test_leases_that_cannot_be_read_are_read_again(given, node, steward):
    steward.say(answers.LeasesRead((), "the file is broken"), 1.0)
    assert node.loaded == []
    given.tick(1.0 + RETRY_S)
    assert steward.sent == [orders.ReadLeases()] * 2


def test_another_steward_is_told_what_the_former_may_not_have_done(given, node, steward):
    given.start_again()
    assert steward.sent == [orders.ReadLeases()] * 2
    begin(steward)
    node.lease_server.changes = [("10.0.0.8", KEY)]
    given.look()
    given.start_again()
    assert steward.sent[-1] == steward.sent[-2]
    steward.say(answers.LeasesWritten(1))
    steward.say(answers.LeasesWritten(1))
    assert len(node.written) == 1


def test_a_host_that_gives_no_leases_asks_for_none(node, steward):
    node.lease_server.is_on = False
    GivenLeases(node, steward, lambda due: None).look()
    assert steward.sent == []


class LeasedNode:
    """A node whose router gives it an address."""

    class lease_client:
        changed = renewed = recalled = None

    class settings:
        address = UNASSIGNED

    def set_address(self, address):
        self.settings.address = address


def test_the_device_follows_the_lease_and_it_is_kept(steward):
    node = LeasedNode()
    own = OwnLease(node, steward)
    lease = Lease("10.0.0.7", 3700.0, 1300)
    node.lease_client.changed(lease, 100.0)
    node.lease_client.renewed(lease, 100.0)
    assert steward.sent == [
        orders.SetAddress("10.0.0.7"),
        orders.Remember(lease=("10.0.0.7", 3600, 1300)),
    ]
    own.start_again()
    assert steward.sent[-1] == orders.SetAddress("10.0.0.7")
    node.lease_client.changed(None, 3700.0)
    assert steward.sent[-2:] == [orders.SetAddress(), orders.Remember(lease=("", 0, 0))]
