"""Messages between hosts: once each, over all connections, within limits."""

import pytest

from ropeway.core import tuning
from ropeway.core.drops import Drop
from ropeway.core.frame.control import TAKES_MESSAGES
from ropeway.core.frame.data import LINK_PART, MESSAGE, MESSAGE_AD
from ropeway.core.frame.message import MESSAGE_MAX, Kind
from tests.unit.core.secure_streams import A, B
from tests.unit.core.secure_world import pair


def parts(world, name, host):
    """Return the part that sends messages, and a peer's strand."""
    node = world.nodes[name]
    return node._peers.messages, node.tables.strands[host]


@pytest.fixture
def world():
    world = pair()
    world.heard = []
    messages, _ = parts(world, "b", A)
    messages.handlers[Kind.ROUTES] = lambda strand, body, now: world.heard.append(
        (strand.host, body)
    )
    world.run(2.0)
    return world


def say(world, body, kind=Kind.ROUTES):
    messages, strand = parts(world, "a", B)
    sent = messages.send(
        strand,
        kind,
        body,
    )
    world.collect()
    return sent


def test_a_message_goes_over_all_links_and_is_heard_once(world):
    datagrams = []
    transmit = world.transmit
    world.transmit = lambda *datagram: (datagrams.append(datagram[0]), transmit(*datagram))
    assert say(world, b"one")
    world.run(0.5)
    assert sum(datagram[0] == MESSAGE for datagram in datagrams) == 2
    assert world.heard == [(A, b"one")]
    assert not world.dropped("b")


def test_a_message_needs_only_one_link_that_works(world):
    transmit = world.transmit
    world.transmit = lambda datagram, source, endpoint: (
        transmit(datagram, source, endpoint) if source[0].startswith("192.168.1.") else None
    )
    assert say(world, bytes(MESSAGE_MAX))
    world.run(0.5)
    assert world.heard == [(A, bytes(MESSAGE_MAX))]


@pytest.mark.parametrize("body", [b"", bytes(MESSAGE_MAX + 1)])
def test_a_message_without_a_body_or_too_long_is_not_sent(world, body):
    assert not say(world, body)
    world.run(0.5)
    assert world.heard == []


def test_a_host_that_has_not_said_that_it_takes_messages_gets_none(world):
    messages, strand = parts(world, "a", B)
    assert strand.session.features & TAKES_MESSAGES
    strand.session.features = 0
    assert messages.room(strand) == 0
    assert not say(world, b"one")


def test_a_kind_that_nobody_takes_is_ignored(world):
    assert say(world, b"one", Kind.NAMES)
    world.run(0.5)
    assert world.heard == []
    assert not world.dropped("b")


def test_messages_of_one_host_are_limited(world):
    for _ in range(2 * tuning.MESSAGES_STRAND_BURST):
        say(world, b"more")
    world.run(0.5)
    most = tuning.MESSAGES_STRAND_BURST + tuning.MESSAGES_STRAND_PER_S
    assert tuning.MESSAGES_STRAND_BURST <= len(world.heard) <= most
    lost = 2 * tuning.MESSAGES_STRAND_BURST - len(world.heard)
    assert world.dropped("b") == {Drop.FLOOD.value: lost}


@pytest.mark.parametrize("opened", [b"", b"\x01", bytes(1400)])
def test_a_message_of_any_form_does_no_harm(world, opened):
    _, strand = parts(world, "a", B)
    frame = LINK_PART.pack(MESSAGE, 0, 0) + strand.session.seal(MESSAGE_AD, opened)
    connection = strand.carrying[0]
    world.fly(frame, (connection.source, 51840), connection.endpoint)
    world.run(0.5)
    assert all(not body for _, body in world.heard)


def test_a_mutated_message_is_counted_as_forged(world):
    _, strand = parts(world, "a", B)
    frame = LINK_PART.pack(MESSAGE, 0, 0) + strand.session.seal(MESSAGE_AD, b"\x01one")
    connection = strand.carrying[0]
    world.fly(frame[:-1] + bytes((frame[-1] ^ 1,)), (connection.source, 51840), connection.endpoint)
    world.run(0.5)
    assert world.heard == []
    assert world.dropped("b") == {Drop.FORGED.value: 1}
