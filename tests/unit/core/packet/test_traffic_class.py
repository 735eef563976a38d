"""Which class a packet belongs to."""

import ipaddress
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropeway.core.packet import ipv4, traffic_class
from ropeway.core.packet.traffic_class import Classifier, Match
from tests.unit.core.classic_world import udp

A, B = "10.0.0.1", "10.0.0.2"
TCP, UDP, ICMP = 6, 17, 1
MORE = 0x2000


def packet(source=A, to=B, ports=(4000, 80), size=100, protocol=UDP, options=b"", **fields):
    """An IPv4 packet of ``size`` bytes whose payload begins with two ports."""
    payload = struct.pack(">HH", *ports)
    payload += bytes(size - 20 - len(options) - len(payload))
    made = udp(source, to, options + payload, **fields)
    first = 0x45 + len(options) // 4
    return bytes([first]) + made[1:9] + bytes([protocol]) + made[10:]


def network(text):
    found = ipaddress.IPv4Network(text)
    return int(found.network_address), int(found.netmask)


def naive(matches, one):
    """The class of a whole packet, step by step."""
    fragment = ipv4.is_fragment(one)
    at = 4 * (one[0] % 16)
    ports = []
    if not fragment and one[9] in (6, 17, 33, 132) and at + 4 <= len(one):
        ports = struct.unpack(">HH", one[at : at + 4])
    ends = [int(ipaddress.IPv4Address(one[start : start + 4])) for start in (12, 16)]
    for number, match in enumerate(matches):
        if (
            (match.dscp is None or one[1] // 4 in match.dscp)
            and (match.protocols is None or one[9] in match.protocols)
            and (match.size_max is None or (not fragment and len(one) <= match.size_max))
            and (
                match.networks is None
                or any(end & mask == start for end in ends for start, mask in match.networks)
            )
            and (
                match.ports is None
                or any(port in range(low, high + 1) for port in ports for low, high in match.ports)
            )
        ):
            return number
    return len(matches)


matches = st.lists(
    st.builds(
        Match,
        dscp=st.none() | st.frozensets(st.integers(0, 63), min_size=1, max_size=3),
        protocols=st.none() | st.frozensets(st.sampled_from((TCP, UDP, ICMP, 132)), min_size=1),
        ports=st.none()
        | st.lists(
            st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted).map(tuple),
            min_size=1,
            max_size=2,
        ).map(tuple),
        networks=st.none()
        | st.lists(
            st.sampled_from(
                [network(text) for text in ("0.0.0.0/0", "10.0.0.0/24", "10.0.0.2/32")]
            ),
            min_size=1,
            max_size=2,
        ).map(tuple),
        size_max=st.none() | st.sampled_from((20, 24, 28, 40, 300)),
    ),
    max_size=5,
)
likely = st.builds(
    packet,
    source=st.sampled_from((A, B, "192.168.1.1")),
    ports=st.tuples(st.sampled_from((0, 80, 5004)), st.integers(0, 65535)),
    size=st.sampled_from((28, 40, 41, 300, 301)),
    protocol=st.sampled_from((TCP, UDP, ICMP, 132)),
    options=st.sampled_from((b"", bytes(4))),
    word=st.sampled_from((0x4000, 0, MORE, MORE | 5, 185)),
    tos=st.integers(0, 255),
)
#: Any bytes that pass for one whole packet, as those do that come so far.
anything = st.binary(min_size=20, max_size=60).map(
    lambda some: bytes([0x45 | some[0] & 15]) + some[1:2] + len(some).to_bytes(2, "big") + some[4:]
)


@given(matches, st.lists(likely | anything, max_size=8))
def test_any_packet_has_the_class_that_a_naive_comparison_finds(rules, packets):
    classifier = Classifier(rules)
    for one in packets + packets:
        if ipv4.is_whole(one):
            assert classifier.class_of(one) == naive(rules, one)


def test_what_differs_in_one_field_is_of_another_class():
    match = Match(
        frozenset((46,)),
        frozenset((UDP,)),
        ((5004, 5004), (6000, 6100)),
        (network("10.0.0.0/30"),),
        300,
    )
    classifier = Classifier([match])
    good = {"tos": 46 << 2 | 1, "ports": (9, 6100), "size": 300}
    assert classifier.class_of(packet(**good)) == 0
    assert classifier.class_of(packet(**{**good, "ports": (5004, 9)})) == 0
    others = (
        {"tos": 0},
        {"ports": (9, 6101)},
        {"size": 301},
        {"protocol": TCP},
        {"source": "10.0.1.1", "to": "10.0.1.2"},
    )
    for other in others:
        assert classifier.class_of(packet(**{**good, **other})) == 1


def test_the_first_class_that_matches_counts():
    tcp, web = Match(protocols=frozenset((TCP,))), Match(ports=((80, 80),))
    classifier = Classifier([tcp, web, Match()])
    assert classifier.class_of(packet(protocol=TCP)) == 0
    assert classifier.class_of(packet()) == 1
    assert classifier.class_of(packet(ports=(1, 2))) == 2


def test_all_fragments_of_a_packet_are_of_one_class_without_ports_or_a_size():
    pieces = ipv4.fragments(packet(ports=(5004, 9), size=3000, word=0), 1480)
    assert len(pieces[-1]) < 300
    udp_only = Match(protocols=frozenset((UDP,)))
    classifier = Classifier([Match(size_max=300), Match(ports=((0, 65535),)), udp_only])
    assert [classifier.class_of(piece) for piece in pieces] == [2] * len(pieces)


@pytest.mark.parametrize("word", [0x4000, MORE])
def test_a_flood_of_flows_is_remembered_within_bounds(word):
    seed = 4
    print(f"seed {seed}")
    draw = random.Random(seed)
    classifier = Classifier([Match(dscp=frozenset((46,)))])
    for _ in range(3 * traffic_class.FLOWS_MAX):
        ports = (draw.randrange(65536), draw.randrange(65536))
        classifier.class_of(packet(ports=ports, word=word, ident=draw.randrange(65536)))
        assert len(classifier._flows) <= traffic_class.FLOWS_MAX
