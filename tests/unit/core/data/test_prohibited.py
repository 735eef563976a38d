"""Packets of a class that no link may carry are refused, and their senders are told (RFC 1812)."""

import pytest

from ropeway.core import tuning
from ropeway.core.packet import ipv4
from ropeway.core.packet.traffic_class import Match, TrafficClass
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import pair, three

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
OFF = (TrafficClass("bulk", Match(protocols=frozenset((17,))), off=("eth*",)),)
ALL_OFF = (TrafficClass("everything", Match(), off=("eth*",)),)


def errors(packets):
    """Source, destination, type, code, and what is quoted, of ICMP packets."""
    assert all(one[9] == ipv4.PROTOCOL_ICMP for one in packets)
    return [(one[12:16], one[16:20], one[20], one[21], one[28:]) for one in packets]


def prohibited(source, destination, quoted):
    return (ipv4.pack(source), ipv4.pack(destination), 3, 13, quoted)


@pytest.mark.parametrize("partial", [False, True])
def test_a_program_on_this_host_is_told_that_its_class_is_off(partial):
    world = pair(classes=OFF)
    world.run(2.0)
    node, sent = world.nodes["a"], udp(A, B, b"hello")
    node.outbound([sent], world.now, partial)
    assert errors(node.take_packets()) == [prohibited(B, A, ipv4.complete(sent))]
    assert world.dropped("a")["off"] == 1


def test_a_host_behind_a_router_is_told_by_it():
    world = three(classes=OFF)
    world.run(3.0)
    world.nodes["a"]._set_classes((), world.now)
    world.send("a", udp(A, C, b"hello"))
    world.run(0.5)
    assert world.delivered["c"] == []
    (told,) = errors(world.delivered["a"])
    assert told[:4] == prohibited(B, A, b"")[:4]
    assert world.dropped("r")["off"] == 1


def test_answers_are_bounded_and_none_is_about_an_answer():
    world = three(classes=ALL_OFF)
    world.run(3.0)
    world.nodes["a"]._set_classes((), world.now)
    world.send("a", *(udp(A, C, bytes(n)) for n in range(200)))
    world.run(0.5)
    # The router's own answers are of a class that is off too.
    assert world.delivered["a"] == []
    answers = world.dropped("r")["off"] - 200
    assert 0 < answers <= tuning.ICMP_STRAND_BURST + tuning.ICMP_STRAND_PER_S
