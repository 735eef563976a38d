"""Resets: a restart is told, and what was collected of one session is no use against another."""

import random

import pytest

from ropeway.core.drops import Drop
from ropeway.core.frame.data import CONTROL, DATA, PARTIAL, RESET
from ropeway.core.frame.outer import outer_size
from ropeway.core.session import resets
from ropeway.core.session.outcomes import Forgotten, Refused
from ropeway.core.session.resets import RESET_SIZE, Resets
from tests.unit.core.hosts import A, B, C, Host, Peer, shake_hands, two_hosts


def talk(one, other, now):
    """Let each read a frame of the other's."""
    assert other.read(one.frame(other.address, b"there"), now) == b"there"
    assert one.read(other.frame(one.address, b"back"), now) == b"back"


def lost_session():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    return one, other, other.restarted(2, 10.0)


def reset_for(host, frame, now):
    (reset,) = host.handshakes.resets_for(frame, now)
    return reset


def part(one, other):
    """End all that the two have with each other."""
    for host, far in ((one, other), (other, one)):
        sessions = host.peers[far.address]
        for session in list(sessions.sessions):
            sessions.remove(session)
            host.handshakes.release(session)


def reset_with(index, token):
    return bytes((RESET, 0, 0, 0)) + index + token


def in_place_of(frame, index):
    return frame[:4] + index + frame[8:]


def one_index_only(host):
    """Have a host draw the same index, where it draws one, as one does once in 65 536 times."""
    drawn = host.draw
    host.draw = lambda size: b"\7\0" if size == 2 else drawn(size)


# A restart is told.


def test_every_kind_of_frame_of_a_forgotten_session_is_answered_by_a_reset():
    for kind in (DATA, PARTIAL, CONTROL):
        one, _, restarted = lost_session()
        frame = one.frame(B, b"x")
        assert len(reset_for(restarted, bytes((kind,)) + frame[1:], 10.0)) == RESET_SIZE


def test_a_session_of_any_of_the_last_starts_is_told_to_be_lost():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    for epoch in range(2, 9):
        other = other.restarted(epoch, 10.0 * epoch)
        reset = reset_for(other, one.frame(B, b"x"), 10.0 * epoch)
        assert one.receive(reset, 10.0 * epoch) == Forgotten(B)
    shake_hands(one, other, 100.0)
    talk(one, other, 100.0)


def test_a_session_that_this_start_has_forgotten_is_told_to_be_lost():
    """As to a host that stood still, its clock as well, for so long that others gave it up."""
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    other.expire(500.0)
    assert one.receive(reset_for(other, one.frame(B, b"x"), 500.0), 20.0) == Forgotten(B)
    # The pause of an index that is asked for again, and the same answer.
    assert one.receive(reset_for(other, one.frame(B, b"x"), 501.0), 22.0) == Forgotten(B)


def test_a_reset_needs_the_token():
    one, _, restarted = lost_session()
    reset = reset_for(restarted, one.frame(B, b"x"), 10.0)
    for position in range(4, RESET_SIZE):
        forged = bytearray(reset)
        forged[position] ^= 1
        assert one.receive(bytes(forged), 10.0) == Refused(Drop.UNWANTED)
    assert one.receive(reset, 10.0) == Forgotten(B)


def test_a_reset_played_back_does_nothing_to_the_next_session():
    one, _, restarted = lost_session()
    reset = reset_for(restarted, one.frame(B, b"x"), 10.0)
    assert one.receive(reset, 10.0) == Forgotten(B)
    assert one.receive(reset, 10.1) == Refused(Drop.REPEATED)
    shake_hands(one, restarted, 10.2)
    assert one.receive(reset, 20.0) == Refused(Drop.REPEATED)
    talk(one, restarted, 20.0)
    one.expire(10.2 + 31.0)
    assert one.receive(reset, 50.0) == Refused(Drop.UNWANTED)


def test_a_reset_may_get_lost():
    one, _, restarted = lost_session()
    assert reset_for(restarted, one.frame(B, b"x"), 10.0)
    assert restarted.handshakes.resets_for(one.frame(B, b"x"), 10.1) == [], "too soon"
    assert reset_for(restarted, one.frame(B, b"x"), 10.3)


def test_resets_answer_only_what_may_have_been_a_session_of_this_host():
    one, other, restarted = lost_session()
    frame = one.frame(B, b"")
    resets_for = restarted.handshakes.resets_for
    assert resets_for(frame[:31], 10.0) == []
    assert resets_for(b"\1" + frame[1:], 10.0) == []
    draw = random.Random(2)
    answered = 0
    for _ in range(2000):
        index = draw.getrandbits(32).to_bytes(4, "little")
        answered += len(resets_for(in_place_of(frame, index), 10.0))
    assert answered <= 2
    assert other.handshakes.resets_for(frame, 10.0) == [], "it knows the session"
    assert len(reset_for(restarted, frame, 10.0)) < len(frame)


def test_resets_are_few_and_their_table_is_bounded():
    one, other, restarted = lost_session()
    frame = one.frame(B, b"")
    former = other.handshakes._resets._keys[0]
    count = 0
    for number in range(5000):
        index = former.index(number.to_bytes(2, "little"), one.identity.public)
        count += len(restarted.handshakes.resets_for(in_place_of(frame, index), 10.0))
    assert count == resets.RESET_BURST
    assert len(restarted.handshakes._resets._sent_at) <= resets.MAX_RESETS


# What was collected is worth nothing.


@pytest.mark.parametrize("calls", [True, False])
def test_what_a_host_collects_in_handshakes_ends_no_session_of_another(calls):
    router, victim, hostile = Host(A), Host(B), Host(C)
    router.know(Peer(B, (victim.identity.public,)), Peer(C, (hostile.identity.public,)))
    for host in (victim, hostile):
        host.know(Peer(A, (router.identity.public,)))
    one_index_only(router)
    ends = (hostile, router) if calls else (router, hostile)
    shake_hands(*ends, 0.0)
    (collected,) = hostile.handshakes.table.by_index.values()
    reset = reset_with(collected.remote_index, collected.reset_token)
    part(hostile, router)
    shake_hands(*((victim, router) if calls else (router, victim)), 1.0)
    assert victim.receive(reset, 2.0) == Refused(Drop.UNWANTED)
    talk(victim, router, 2.0)


def test_what_a_host_says_to_anybody_ends_no_later_session():
    """Indices stand in each frame, so whoever sees frames can ask for what belongs to them."""
    one, other = two_hosts()
    one_index_only(other)
    shake_hands(one, other, 0.0)
    frame = one.frame(B, b"x")
    part(one, other)
    reset = reset_for(other, frame, 10.0)
    for turn in range(3):
        shake_hands(one, other, 20.0 + turn)
        assert one.receive(reset, 20.0 + turn) == Refused(Drop.UNWANTED)
    restarted = other.restarted(2, 30.0)
    one_index_only(restarted)
    shake_hands(one, restarted, 30.0)
    one.expire(500.0)
    assert one.receive(reset, 30.0) == Refused(Drop.UNWANTED)


def test_nobody_is_told_of_an_index_that_may_still_be_given_out():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    frame = one.frame(B, b"x")
    part(one, other)
    key = other.handshakes._resets._keys[0]
    told = 0
    for number in range(65_536):
        index = key.index(number.to_bytes(2, "little"), one.identity.public)
        told += len(other.handshakes.resets_for(in_place_of(frame, index), number / 100))
    assert told == 1, "the session that it has forgotten"


def test_indices_do_not_run_out_whatever_is_asked_about_them():
    one, other = two_hosts()
    told = set()
    for number in range(resets.MAX_GIVEN + 100):
        now = 10.0 * number
        shake_hands(one, other, now)
        frame = one.frame(B, b"x")
        assert frame[4:8] not in told
        part(one, other)
        if other.handshakes.resets_for(frame, now):
            told.add(frame[4:8])
    assert len(told) == resets.MAX_GIVEN


def test_hosts_with_the_same_tag_are_both_told_in_no_more_than_was_asked():
    draw = random.Random(3)
    known, former = {}, Resets([bytes(32)], 0.0)
    while True:
        public_key = draw.getrandbits(256).to_bytes(32, "little")
        index = former.new_index(public_key, b"\1\2", lambda _: False)
        if index in known:
            break
        known[index] = public_key
    pair = [known[index], public_key]
    host = Resets([b"\1" * 32, bytes(32)], 0.0)
    host.set_peers(pair)
    tokens = {former.token(index, one) for one in pair}
    assert len(tokens) == 2
    assert set(host.answer(index, 2, 0.0)) == {reset_with(index, token) for token in tokens}
    assert len(host.answer(index, 1, 1.0)) == 1


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_resets_have_no_more_bytes_with_their_headers_than_what_they_answer(address):
    one, _, restarted = lost_session()
    most = []
    restarted.handshakes._resets.answer = lambda _index, many, _now: most.append(many) or []
    headers = outer_size(address)
    for size in range(300):
        frame = one.frame(B, bytes(size))
        restarted.handshakes.resets_for(frame, 10.0)
        assert most[-1] * (RESET_SIZE + headers) <= len(frame) + headers
    assert most[0] == 1
    assert most[-1] > 2


def test_a_reset_key_has_its_length():
    with pytest.raises(ValueError, match="has 32 bytes"):
        Resets([b"short"], 0.0)
