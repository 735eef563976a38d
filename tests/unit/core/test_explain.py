"""Where a packet would go, and why, as the node itself decides it."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.app.commands.output import SCHEMAS
from ropeway.core.explain import SIZE_MIN, Question
from ropeway.core.link import Role
from ropeway.core.packet.traffic_class import Match, Mode, TrafficClass
from tests.unit.core import secure_world

A, B = "10.0.0.1", "10.0.0.2"
CLASSES = (
    TrafficClass("voice", Match(dscp=frozenset((46,)), size_max=300), Mode.REDUNDANT),
    TrafficClass("web", Match(protocols=frozenset((6,)), ports=((443, 443),)), Mode.SINGLE),
    TrafficClass("bulk", Match(protocols=frozenset((6,))), Mode.ADAPTIVE, off=("eth3",)),
    TrafficClass("gauge", Match(protocols=frozenset((132,))), Mode.SINGLE, parity=8),
)


SCHEMA = jsonschema.Draft7Validator(json.loads(SCHEMAS["explain"].read_text(encoding="utf-8")))


def asked(world, destination=B, **fields):
    """Return the answer, which is as the command `explain --json` promises."""
    answer = world.nodes["a"].explain(Question(destination, **fields), world.now)
    SCHEMA.validate(answer)
    return answer


@pytest.fixture
def world():
    found = secure_world.pair()
    node = found.nodes["a"]
    node.reload(replace(node.settings, classes=CLASSES), found.now)
    found.run(5)
    return found


@pytest.mark.parametrize(
    ("fields", "name", "mode"),
    [
        ({"dscp": 46, "size": 300}, "voice", "redundant"),
        ({"dscp": 46, "size": 301}, None, "redundant"),
        ({"protocol": 6, "port": 443}, "web", "single"),
        ({"protocol": 6, "port": 80}, "bulk", "adaptive"),
        ({"protocol": 1, "port": 443}, None, "redundant"),
    ],
)
def test_class_is_that_of_the_first_match(world, fields, name, mode):
    answer = asked(world, **fields)
    assert (answer["class"], answer["mode"], answer["next_hop"]) == (name, mode, B)
    assert answer["fault"] is None


def test_link_that_does_not_carry_says_why(world):
    links = {one["name"]: one["why"] for one in asked(world, protocol=6, port=80)["links"]}
    assert links == {"eth2": None, "eth3": "it is off for the class"}


def test_links_that_carry_are_those_that_packets_take(world):
    strand = world.nodes["a"].tables.strands[B]
    for number, fields in enumerate(
        [{"dscp": 46}, {"protocol": 6, "port": 443}, {"protocol": 6}, {"protocol": 50}]
    ):
        links = {one["index"] for one in asked(world, **fields)["links"] if one["carries"]}
        assert links == {c.link for c in strand.classes[number].carrying}


def test_link_whose_budget_is_used_up_says_so_without_classes_too():
    world = secure_world.pair()
    node = world.nodes["a"]
    for role, words in ((Role.LAST, "only what no other link does"), (Role.NEVER, "nothing")):
        mine = [replace(one, role=role if one.index == 3 else Role.ALWAYS)
                for one in world.links("a")]  # fmt: skip
        node.set_links(mine, world.now)
        world.run(1)
        first, second = asked(world)["links"]
        assert first["carries"]
        assert words in second["why"]


def test_link_without_an_answer_and_host_without_a_link_are_named():
    world = secure_world.pair()
    world.lost = {"192.168.1.2"}
    world.send("a", secure_packet())
    world.run(6)
    assert "no answer" in asked(world)["links"][1]["why"]
    assert asked(world, "10.0.0.77")["fault"] == "no host has it, and there is no router"
    assert asked(world, "192.0.2.1")["fault"] == "it is outside the network"
    assert asked(world, A)["fault"] == "this is the address of this host itself"


def secure_packet():
    return Question(B).packet(A)


@given(
    dscp=st.integers(0, 63),
    protocol=st.integers(0, 255),
    port=st.integers(0, 65535),
    size=st.integers(SIZE_MIN, 65535),
)
def test_every_question_is_a_packet_of_its_size(dscp, protocol, port, size):
    packet = Question(B, dscp, protocol, port, size).packet(A)
    assert len(packet) == size == int.from_bytes(packet[2:4], "big")
    assert (packet[1] >> 2, packet[9]) == (dscp, protocol)


def test_asking_sends_and_counts_nothing(world):
    before = [one["packets"] for one in world.peer("a", B)["classes"]]
    sent = len(world.captured)
    asked(world, dscp=46)
    assert [one["packets"] for one in world.peer("a", B)["classes"]] == before
    world.collect()
    assert len(world.captured) == sent


def test_parity_goes_over_a_link_that_does_not_carry_the_packets(world):
    world.run(5.0)
    for _ in range(400):
        world.send("a", Question(B, protocol=132, port=9).packet(A))
        world.run(0.01)
    answer = asked(world, protocol=132, port=9)
    (carrying,) = (link["name"] for link in answer["links"] if link["carries"])
    assert (answer["mode"], answer["parity"]) == ("single", 8)
    assert {carrying, answer["parity_link"]} == {"eth2", "eth3"}
    assert asked(world)["parity"] == 0
