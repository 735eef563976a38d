"""Sessions: sealing, turns, rollover, and the end of old ones."""

import random

import pytest

from ropeway.core.drops import Drop
from ropeway.core.frame.data import CONTROL, CONTROL_AD, DATA, DATA_AD
from ropeway.core.session.outcomes import Answer, Completed
from ropeway.core.session.session import (
    LINGER_S,
    MAX_SESSIONS,
    OVERDUE_S,
    RESPONDER_GRACE_S,
    ROLLOVER_FRAMES,
    PeerSessions,
    Session,
)
from tests.unit.core.hosts import A, B, shake_hands, two_hosts


def session(now, initiated=True, number=0, host=B):
    draw = random.Random(number)
    keys = [draw.getrandbits(256).to_bytes(32, "little") for _ in range(4)]
    return Session(
        host=host,
        public_key=keys[0],
        local_index=keys[1][:4],
        remote_index=keys[1][4:8],
        initiated=initiated,
        send_key=keys[2],
        receive_key=keys[3],
        reset_token=keys[1][8:24],
        now=now,
    )


def connected():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    return one, other


def test_a_frame_is_index_counter_ciphertext_and_tag():
    one, other = connected()
    sending = one.peers[B].sending
    expected = sending.counter
    tail = sending.seal(DATA_AD, b"inner packet")
    assert tail[:4] == sending.remote_index
    assert tail[4:12] == expected.to_bytes(8, "little")
    assert len(tail) == 4 + 8 + len(b"inner packet") + 16
    for link_part in (b"\4\0\0\0", b"\4\7\1\2"):
        reader = other.handshakes.table.by_index[tail[:4]]
        nonce = bytes(4) + tail[4:12]
        assert reader.decrypt(nonce, (link_part + tail)[16:], b"\4") == b"inner packet"


def test_a_frame_is_opened_once_and_only_as_what_it_is():
    one, other = connected()
    frame = one.frame(B, b"body")
    reader = other.handshakes.table.by_index[frame[4:8]]
    assert reader.open(bytes((DATA,)) + frame[1:]) is Drop.FORGED
    assert reader.open(frame) == b"body"
    assert reader.open(frame) is Drop.REPLAYED
    assert frame[0] == CONTROL


def test_a_forged_frame_does_not_move_the_window():
    one, other = connected()
    frame = one.frame(B, b"body")
    reader = other.handshakes.table.by_index[frame[4:8]]
    top = reader.window.top
    assert reader.open(frame[:8] + b"\xff" * 8 + frame[16:]) is Drop.FORGED
    assert reader.window.top == top
    assert reader.open(frame) == b"body"


@pytest.mark.parametrize("length", [0, 1, 15, 16, 31])
def test_a_frame_cut_short_is_malformed(length):
    one, other = connected()
    frame = one.frame(B, b"")
    assert other.handshakes.table.by_index[frame[4:8]].open(frame[:length]) is Drop.MALFORMED


def test_what_is_far_behind_is_too_old():
    one, other = connected()
    early = one.frame(B, b"early")
    one.peers[B].sending.counter += 200_000
    assert other.read(one.frame(B, b"late"), 1.0) == b"late"
    assert other.read(early, 1.0) is Drop.TOO_OLD


def test_no_key_is_in_a_repr():
    one, _ = connected()
    sending = one.peers[B].sending
    shown = repr(sending)
    for secret in (sending.send_key, sending.receive_key, sending.reset_token):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert B in shown


def test_the_initiator_sends_at_once_the_responder_once_it_has_heard():
    one, other = two_hosts()
    (initiation,) = one.handshakes.initiate(B, 0.0)
    answer = other.receive(initiation, 0.0)
    assert other.peers[A].sending is None
    one.receive(answer.reply, 0.0)
    assert one.peers[B].sending is not None
    assert other.read(one.frame(B, b"first"), 0.1) == b"first"
    assert other.peers[A].sending is answer.session
    assert one.read(other.frame(A, b"back"), 0.1) == b"back"


def test_an_older_session_that_is_heard_late_does_not_take_over():
    sessions = PeerSessions(120.0)
    older, newer = session(0.0, False, 1), session(1.0, False, 2)
    sessions.add(older, 0.0)
    sessions.add(newer, 1.0)
    sessions.confirm(newer, 2.0)
    sessions.confirm(older, 3.0)
    assert sessions.sending is newer
    assert older.superseded_at == 3.0


def test_a_superseded_session_is_readable_until_it_has_been_silent():
    sessions = PeerSessions(120.0)
    old, new = session(0.0, True, 1), session(10.0, True, 2)
    sessions.add(old, 0.0)
    sessions.add(new, 10.0)
    assert sessions.sending is new
    assert sessions.expire(10.0 + LINGER_S - 0.1) == []
    old.heard_at = 10.0 + LINGER_S - 0.1
    assert sessions.expire(old.heard_at + LINGER_S - 0.1) == []
    assert sessions.expire(old.heard_at + LINGER_S) == [old]
    assert sessions.sessions == [new]


def test_an_unconfirmed_session_is_not_superseded_by_another():
    sessions = PeerSessions(120.0)
    waiting, mine = session(0.0, False, 1), session(1.0, True, 2)
    sessions.add(waiting, 0.0)
    sessions.add(mine, 1.0)
    assert sessions.expire(1.0 + 2 * LINGER_S) == []
    assert waiting in sessions.sessions


def test_sessions_are_bounded_and_the_one_in_use_stays():
    sessions = PeerSessions(120.0)
    used = session(0.0, True)
    sessions.add(used, 0.0)
    gone = []
    for number in range(1, 50):
        gone += sessions.add(session(float(number), False, number), float(number))
        assert len(sessions.sessions) <= MAX_SESSIONS
        assert sessions.sending is used
        assert sessions.sessions[-1].created_at == number
    assert len(gone) == 50 - MAX_SESSIONS


def test_a_session_that_is_never_replaced_ends():
    sessions = PeerSessions(120.0)
    only = session(0.0, True)
    sessions.add(only, 0.0)
    assert sessions.rollover_due(120.0 + OVERDUE_S - 1)
    assert sessions.expire(120.0 + OVERDUE_S - 1) == []
    assert sessions.sending is only
    only.heard_at = 120.0 + OVERDUE_S
    assert sessions.expire(120.0 + OVERDUE_S) == []
    assert sessions.sending is None
    assert not sessions.rollover_due(1000.0)
    for after_s in range(1, 2 * int(LINGER_S)):
        only.heard_at = 120.0 + OVERDUE_S + after_s
        assert sessions.expire(only.heard_at) == []
    assert sessions.expire(120.0 + OVERDUE_S + 2 * LINGER_S) == [only]


def test_the_initiator_begins_a_rollover_the_responder_later():
    initiator, responder = PeerSessions(120.0), PeerSessions(120.0)
    initiator.add(session(0.0, True), 0.0)
    answered = session(0.0, False)
    responder.add(answered, 0.0)
    responder.confirm(answered, 0.0)
    assert not initiator.rollover_due(119.9)
    assert initiator.rollover_due(120.0)
    assert not responder.rollover_due(120.0 + RESPONDER_GRACE_S - 0.1)
    assert responder.rollover_due(120.0 + RESPONDER_GRACE_S)


def test_a_session_that_the_peer_has_not_used_does_not_delay_a_rollover():
    mine, theirs = session(0.0, True, 1), session(0.5, False, 2)
    mine.send_key = mine.receive_key = bytes(32)
    sessions = PeerSessions(120.0)
    sessions.add(mine, 0.0)
    sessions.add(theirs, 0.5)
    assert sessions.rollover_due(120.0)
    sessions.confirm(theirs, 1.0)
    sessions.sending = mine
    assert not sessions.rollover_due(120.0)


@pytest.mark.parametrize("count", ["sent", "received"])
def test_a_rollover_is_due_by_count(count):
    sessions = PeerSessions(3600.0)
    busy = session(0.0, True)
    sessions.add(busy, 0.0)
    assert not sessions.rollover_due(1.0)
    if count == "sent":
        busy.counter = ROLLOVER_FRAMES
    else:
        busy.window.mark(ROLLOVER_FRAMES)
    assert sessions.rollover_due(1.0)


def test_no_rollover_without_a_session():
    assert not PeerSessions(120.0).rollover_due(10.0)


def both_begin(one, other, now):
    (from_one,), (from_other,) = (
        one.handshakes.initiate(B, now),
        other.handshakes.initiate(A, now),
    )
    to_one, to_other = other.receive(from_one, now), one.receive(from_other, now)
    assert isinstance(one.receive(to_one.reply, now + 0.1), Completed)
    assert isinstance(other.receive(to_other.reply, now + 0.1), Completed)


def test_simultaneous_handshakes_stay_readable_and_come_to_one_session():
    one, other = two_hosts()
    both_begin(one, other, 0.0)
    for number in range(10):
        now = 0.2 + number
        assert other.read(one.frame(B, b"one"), now) == b"one"
        assert one.read(other.frame(A, b"other"), now) == b"other"
    due = [one.peers[B].rollover_due(121.0), other.peers[A].rollover_due(121.0)]
    assert sorted(due) == [False, True]
    first, second = (one, other) if due[0] else (other, one)
    shake_hands(first, second, 121.0)
    assert first.read(second.frame(first.address, b"x"), 121.0) == b"x"
    assert one.peers[B].sending.local_index == other.peers[A].sending.remote_index
    assert one.peers[B].sending.send_key == other.peers[A].sending.receive_key


def test_simultaneous_handshakes_with_one_answer_lost():
    one, other = two_hosts()
    (from_one,), (from_other,) = one.handshakes.initiate(B, 0), other.handshakes.initiate(A, 0)
    other.receive(from_one, 0.0)
    answer = one.receive(from_other, 0.0)
    other.receive(answer.reply, 0.1)
    assert one.read(other.frame(A, b"other"), 0.2) == b"other"
    assert other.read(one.frame(B, b"one"), 0.3) == b"one"


@pytest.mark.parametrize("seed", range(8))
def test_rollover_over_a_bad_network_leaves_no_frame_unreadable(seed):
    """Both ends send each 20 ms; all is lost, doubled and delayed up to 400 ms; rollover each 2 s.

    The answers to handshakes are lost as well, so some rollovers take several attempts.
    """
    draw = random.Random(seed)
    one, other = two_hosts(rollover_s=2.0)
    shake_hands(one, other, 0.0)
    under_way, made, received = [], 0, 0
    sent = {A: set(), B: set()}
    got = {A: set(), B: set()}
    used = set()

    def post(to, datagram, now):
        for _ in range(draw.choice((0, 1, 1, 2, 4))):
            under_way.append((now + draw.uniform(0.0, 0.4), draw.random(), to, datagram))

    for step in range(1, 1500):
        now = step * 0.02
        for host, peer in ((one, other), (other, one)):
            body = b"%d" % step
            frame = host.frame(peer.address, body)
            sent[host.address].add(body)
            used.add(frame[4:8])
            post(peer, frame, now)
            made += 1
            if host.peers[peer.address].rollover_due(now) and step % 10 == 0:
                for initiation in host.handshakes.initiate(peer.address, now):
                    post(peer, initiation, now)
        arrived = sorted(entry for entry in under_way if entry[0] <= now)
        under_way = [entry for entry in under_way if entry[0] > now]
        for _at, _order, to, datagram in arrived:
            if datagram[0] == CONTROL:
                body = to.read(datagram, now)
                assert isinstance(body, bytes) or body is Drop.REPLAYED, (seed, step, body)
                if isinstance(body, bytes):
                    received += 1
                    origin = A if to is other else B
                    assert body not in got[origin]
                    got[origin].add(body)
            else:
                outcome = to.receive(datagram, now)
                if isinstance(outcome, Answer):
                    post(other if to is one else one, outcome.reply, now)
        one.expire(now)
        other.expire(now)
    assert got[A] <= sent[A]
    assert got[B] <= sent[B]
    assert received > made / 2
    assert len(used) > 2 * 8, "the session hardly ever rolled over"
    assert len(one.handshakes.table.by_index) <= MAX_SESSIONS


def test_the_associated_data_keep_the_kinds_apart():
    assert bytes((DATA,)) == DATA_AD
    assert bytes((CONTROL,)) == CONTROL_AD
