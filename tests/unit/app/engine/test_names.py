"""Which names the engine wishes, and what the node is told of them."""

import pytest

from ropeway.app.config.model import Peer
from ropeway.app.engine.names import LOOK_EVERY_S, Names, endpoints_of
from ropeway.steward.answers import Resolved
from ropeway.steward.orders import Resolve

A, B, C = "10.0.0.2", "10.0.0.3", "10.0.0.4"


class Node:
    """Notes what it is told."""

    def __init__(self):
        self.off = [A, B, C]
        self.endpoints = {}

    def unreached(self):
        return self.off

    def set_resolved(self, host, endpoints, now):
        self.endpoints[host] = list(endpoints)


def peer(host, *names):
    return Peer(host, (bytes(32),), (), names)


class Bed:
    """Names of two hosts, and what they ask for."""

    def __init__(self):
        self.node = Node()
        self.sent = []
        self.wishes = []
        peers = [peer(A, ("a", 5), ("b", 6)), peer(B, ("b", 7)), peer(C)]
        self.names = Names(self.node, peers, self.sent.append, self.wishes.append)
        self.names.begin()


@pytest.fixture
def bed():
    return Bed()


def test_every_name_is_wished_once_and_is_urgent_while_a_host_of_it_is_not_met(bed):
    assert bed.sent == [Resolve(("a", "b"), ("a", "b"))]
    bed.node.off = [B, C]
    bed.names.tick(1.0)
    assert bed.sent[1:] == [Resolve(("a", "b"), ("b",))]
    bed.node.off = [C]
    bed.names.tick(1.0 + LOOK_EVERY_S / 2)
    assert len(bed.sent) == 2, "not before the next look"
    assert bed.names.deadline() == 1.0 + LOOK_EVERY_S
    bed.names.tick(1.0 + LOOK_EVERY_S)
    assert bed.sent[2:] == [Resolve(("a", "b"), ())]
    bed.names.tick(1.0 + 2 * LOOK_EVERY_S)
    assert len(bed.sent) == 3, "nothing has changed"


def test_each_host_is_called_where_its_names_lead(bed):
    bed.names.take(Resolved({"b": ("192.0.2.1", "192.0.2.2")}, ("a does not resolve",)), 1.0)
    assert bed.node.endpoints == {
        A: [("192.0.2.1", 6), ("192.0.2.2", 6)],
        B: [("192.0.2.1", 7), ("192.0.2.2", 7)],
    }
    assert bed.names.faults == ("a does not resolve",)
    assert bed.wishes == [1.0]
    assert bed.names.status(A) == [
        {"name": "a", "port": 5, "addresses": []},
        {"name": "b", "port": 6, "addresses": ["192.0.2.1", "192.0.2.2"]},
    ]
    assert bed.names.status(C) == []


def test_what_another_steward_does_not_know_yet_stays(bed):
    bed.names.take(Resolved({"a": ("192.0.2.1",), "b": ("192.0.2.2",)}, ()), 1.0)
    bed.names.begin()
    assert bed.sent[1:] == bed.sent[:1]
    bed.names.take(Resolved({"b": ("192.0.2.3",)}, ()), 2.0)
    assert bed.node.endpoints[A] == [("192.0.2.1", 5), ("192.0.2.3", 6)]


def test_after_a_reload_other_names_count(bed):
    bed.names.take(Resolved({"a": ("192.0.2.1",), "b": ("192.0.2.2",)}, ()), 1.0)
    bed.names.set_peers([peer(A, ("b", 9), ("c", 1)), peer(B)], 2.0)
    assert bed.node.endpoints[A] == [("192.0.2.2", 9)]
    assert bed.sent[1:] == [Resolve(("b", "c"), ("b", "c"))]
    bed.names.set_peers([peer(A)], 3.0)
    assert bed.sent[2:] == [Resolve()]
    assert bed.names.deadline() == float("inf")


def test_a_network_without_names_asks_for_nothing():
    sent = []
    names = Names(Node(), [peer(A)], sent.append, lambda now: None)
    names.begin()
    names.tick(1.0)
    assert not sent
    assert names.deadline() == float("inf")


def test_each_name_has_one_endpoint_before_any_has_a_second():
    addresses = {"a": ("192.0.2.1", "192.0.2.2"), "b": ("192.0.2.3",)}
    assert endpoints_of([("a", 1), ("b", 2), ("c", 3)], addresses) == [
        ("192.0.2.1", 1),
        ("192.0.2.3", 2),
        ("192.0.2.2", 1),
    ]
