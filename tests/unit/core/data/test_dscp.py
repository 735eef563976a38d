"""Outer headers carry the DSCP of the packets in them where the configuration asks for that."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.drops import Drop
from ropeway.core.frame.data import PACKET_TYPES
from ropeway.core.packet import runs
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import pair, three

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
EF, AF41, ECT = 46 << 2, 34 << 2, 2
CLASSES = {
    "none": (),
    "redundant": (TrafficClass("all", Match()),),
    "adaptive": (TrafficClass("all", Match(), Mode.ADAPTIVE),),
    "in order": (TrafficClass("all", Match(), hold_ms=100),),
    "spread": (TrafficClass("all", Match(), Mode.SPREAD, hold_ms=100),),
}


def marks(node):
    """The DS fields of the trains that a node wants sent, of packets and of other frames."""
    packets, others = [], []
    for trains in node.take_trains().values():
        for train in trains:
            found = packets if train.frames()[0][0] in PACKET_TYPES else others
            found += [train.ds_field] * train.count
    return packets, others


def connected(**settings):
    world = pair(**settings)
    world.run(2.0)
    world.send("a", udp(A, B))
    world.run(0.5)
    world.delivered["b"].clear()
    return world


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("partial", [False, True])
def test_trains_have_the_dscp_of_their_packets_and_no_ecn(classes, partial):
    world = connected(classes=classes, copy_dscp=True)
    node = world.nodes["a"]
    sent = [udp(A, B, tos=tos) for tos in (EF, EF | ECT, AF41 | 1, 0)]
    node.outbound(sent, world.now, partial)
    packets, others = marks(node)
    copies = len(packets) // len(sent)
    assert copies in (1, 2)
    assert Counter(packets) == {EF: 2 * copies, AF41: copies, 0: copies}
    assert not any(others)


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_outer_headers_tell_nothing_where_it_is_not_asked_for(classes):
    world = connected(classes=classes)
    world.send("a", *(udp(A, B, tos=tos) for tos in (EF, AF41, 3)))
    packets, others = marks(world.nodes["a"])
    assert len(packets) >= 3
    assert not any(packets + others)


def test_what_is_sent_again_has_its_dscp_still():
    world = connected(classes=CLASSES["adaptive"], copy_dscp=True)
    node = world.nodes["a"]
    (table, *_) = node.tables.strands[B].classes
    # As while one connection carries alone.
    table.kept, table.direct = True, ()
    node.outbound([udp(A, B, tos=EF)], world.now)
    assert set(marks(node)[0]) == {EF}
    node.tables.repeats.append((table, node.tables.strands[B].carrying, world.now, None))
    node._classed.repeat(world.now)
    again, _ = marks(node)
    assert again
    assert set(again) == {EF}


def test_control_frames_and_handshakes_keep_zero():
    world = pair(copy_dscp=True)
    seen = []
    for _ in range(200):
        world.run(0.01)
        packets, others = marks(world.nodes["a"])
        assert packets == []
        seen += others
        world.nodes["a"].tick(world.now)
    assert not any(seen)


def test_a_reload_turns_it_on_and_off_and_ends_no_session():
    world = connected()
    node = world.nodes["a"]
    session = node.tables.strands[B].session
    for copied, mark in ((True, EF), (False, 0), (True, EF)):
        node.reload(dataclasses.replace(node.settings, copy_dscp=copied), world.now)
        world.send("a", udp(A, B, tos=EF))
        packets, _ = marks(node)
        assert packets
        assert set(packets) == {mark}
    assert node.tables.strands[B].session is session


def test_a_router_copies_for_what_it_passes_on():
    world = three(copy_dscp=True)
    world.run(3.0)
    found = []
    taken = world.nodes["r"].take_trains

    def watched():
        trains = taken()
        found.extend(train.ds_field for listed in trains.values() for train in listed)
        return trains

    world.nodes["r"].take_trains = watched
    world.send("a", udp(A, C, tos=EF))
    world.run(0.2)
    assert len(world.delivered["c"]) == 1
    assert EF in found


@given(
    st.lists(
        st.tuples(
            st.sampled_from((EF, AF41, 0, EF | ECT)),
            st.sampled_from((10, 10, 10, 9)),
            st.sampled_from((0, 0x2000, 0x0001)),
        ),
        max_size=20,
    )
)
def test_packets_of_a_run_have_one_ds_field(drawn):
    packets = [udp(A, B, bytes(size), tos=tos, word=word) for tos, size, word in drawn]
    cut = list(runs.cut(packets, Drop.NOT_IPV4, Counter()))
    assert [one for run in cut for one in run] == packets
    assert all(len({one[1] for one in run}) == 1 for run in cut)
