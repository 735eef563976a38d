"""Handshakes: over bad networks, after restarts, against strangers, and what the log is told."""

import random
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropeway.core.drops import Drop
from ropeway.core.endpoint import pack_endpoint
from ropeway.core.session import admission, initiations, messages, notes, resets
from ropeway.core.session.admission import COOKIE_S, HANDSHAKE_BURST, Admission
from ropeway.core.session.handshakes import RESPONSE_HOST_BURST, RETRANSMIT_S
from ropeway.core.session.initiations import (
    ANSWER_S,
    PENDING_S,
    PendingInitiations,
    SeenInitiations,
)
from ropeway.core.session.messages import COOKIE_SIZE, INITIATION_SIZE, RESPONSE_SIZE
from ropeway.core.session.notes import NOTE_PAUSE_S, Notes
from ropeway.core.session.outcomes import (
    Answer,
    Completed,
    CookieReply,
    CookieTaken,
    Forgotten,
    Refused,
    Stale,
)
from ropeway.core.session.resets import RESET_SIZE
from ropeway.core.session.session import MAX_SESSIONS
from ropeway.core.session.table import SessionTable
from tests.unit.core.hosts import SOURCE, A, B, C, Host, Peer, keys, shake_hands, two_hosts

PSK = bytes(range(32))
#: What the handshakes remember things in.
PARTS = (Admission, Notes, PendingInitiations, SeenInitiations, SessionTable)


def stale(caller, proven=False, repeated=False):
    return Stale(caller.address, caller.identity.public, proven, repeated)


def talk(one, other, now):
    """Let each read a frame of the other's."""
    assert other.read(one.frame(other.address, b"there"), now) == b"there"
    assert one.read(other.frame(one.address, b"back"), now) == b"back"


# The ordinary way, and bad networks.


@pytest.mark.parametrize("psk", [bytes(32), PSK])
def test_a_handshake_makes_a_session_at_both_ends(psk):
    one, other = two_hosts(psk)
    (message,) = one.handshakes.initiate(B, 0.0)
    assert len(message) == INITIATION_SIZE
    answer = other.receive(message, 0.1)
    assert isinstance(answer, Answer)
    assert answer.host == A
    assert len(answer.reply) == RESPONSE_SIZE
    completed = one.receive(answer.reply, 0.2)
    assert isinstance(completed, Completed)
    assert completed.host == B
    mine, theirs = completed.session, answer.session
    assert (mine.send_key, mine.receive_key) == (theirs.receive_key, theirs.send_key)
    assert (mine.local_index, mine.remote_index) == (theirs.remote_index, theirs.local_index)
    assert mine.initiated
    assert not theirs.initiated
    assert mine.public_key == other.identity.public
    assert theirs.public_key == one.identity.public
    talk(one, other, 0.3)


def test_nobody_is_called_who_is_no_peer():
    one, _ = two_hosts()
    assert one.handshakes.initiate("10.0.0.9", 0.0) == []


def test_an_initiation_is_repeated_byte_for_byte_then_made_anew():
    one, other = two_hosts()
    first = one.handshakes.initiate(B, 0.0)
    assert one.handshakes.initiate(B, RETRANSMIT_S - 0.1) == first
    second = one.handshakes.initiate(B, RETRANSMIT_S)
    assert second != first
    assert isinstance(other.receive(second[0], RETRANSMIT_S), Answer)


def test_copies_over_several_links_get_the_same_answer_and_make_one_session():
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    answers = [
        other.receive(message, 0.01 * n, pack_endpoint((f"192.0.2.{n}", 51840)))
        for n in range(1, 5)
    ]
    assert answers[0].session is not None
    assert {answer.reply for answer in answers} == {answers[0].reply}
    assert [answer.session for answer in answers[1:]] == [None] * 3
    assert isinstance(one.receive(answers[0].reply, 0.1), Completed)
    for answer in answers[1:]:
        assert one.receive(answer.reply, 0.1) == Refused(Drop.REPEATED)
    assert len(one.handshakes.table.by_index) == len(other.handshakes.table.by_index) == 1


def test_a_lost_answer_is_given_again():
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    lost = other.receive(message, 0.0)
    (again,) = one.handshakes.initiate(B, 1.0)
    answer = other.receive(again, 1.0)
    assert answer.reply == lost.reply
    assert isinstance(one.receive(answer.reply, 1.1), Completed)
    talk(one, other, 1.2)


def test_an_answer_that_comes_after_the_next_initiation_is_still_good():
    one, other = two_hosts()
    (early,) = one.handshakes.initiate(B, 0.0)
    slow = other.receive(early, 0.1)
    (late,) = one.handshakes.initiate(B, RETRANSMIT_S)
    assert isinstance(one.receive(slow.reply, RETRANSMIT_S + 0.1), Completed)
    talk(one, other, RETRANSMIT_S + 0.2)
    answer = other.receive(late, RETRANSMIT_S + 0.3)
    assert isinstance(one.receive(answer.reply, RETRANSMIT_S + 0.4), Completed)
    talk(one, other, RETRANSMIT_S + 0.5)


def test_an_answer_that_comes_much_too_late_is_not_wanted():
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    answer = other.receive(message, 0.1)
    assert one.receive(answer.reply, PENDING_S) == Refused(Drop.UNWANTED)


def test_an_initiation_that_was_overtaken_is_stale():
    one, other = two_hosts()
    (early,) = one.handshakes.initiate(B, 0.0)
    (late,) = one.handshakes.initiate(B, RETRANSMIT_S)
    answer = other.receive(late, RETRANSMIT_S)
    assert other.receive(early, RETRANSMIT_S + 0.1) == stale(one)
    assert isinstance(one.receive(answer.reply, RETRANSMIT_S + 0.2), Completed)
    talk(one, other, RETRANSMIT_S + 0.3)


@pytest.mark.parametrize("seed", range(20))
def test_a_session_comes_to_be_whatever_half_of_the_messages_suffer(seed):
    draw = random.Random(seed)
    one, other = two_hosts()
    under_way = []
    for step in range(400):
        now = step * 0.1
        if step % 5 == 0 and one.peers[B].sending is None:
            under_way += [(now + draw.random(), other, m) for m in one.handshakes.initiate(B, now)]
        if step % 7 == 0 and other.peers[A].sending is None:
            under_way += [(now + draw.random(), one, m) for m in other.handshakes.initiate(A, now)]
        for entry in [e for e in under_way if e[0] <= now]:
            under_way.remove(entry)
            for _ in range(draw.choice((0, 1, 2))):
                outcome = entry[1].receive(entry[2], now)
                if isinstance(outcome, Answer):
                    back = other if entry[1] is one else one
                    under_way.append((now + draw.random(), back, outcome.reply))
        for host, peer in ((one, other), (other, one)):
            if host.peers[peer.address].sending and draw.random() < 0.5:
                assert peer.read(host.frame(peer.address, b"x"), now) == b"x", (seed, step)
    assert one.peers[B].sending is not None
    assert other.peers[A].sending is not None
    talk(one, other, 40.0)


# Restarts.


def test_a_responder_that_restarts_says_so_and_is_back():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    other = other.restarted(2, 10.0)
    frame = one.frame(B, b"lost")
    assert other.read(frame, 10.0) is Drop.UNKNOWN_SESSION
    (reset,) = other.handshakes.resets_for(frame, 10.0)
    assert len(reset) == RESET_SIZE
    assert one.receive(reset, 10.1) == Forgotten(B)
    assert shake_hands(one, other, 10.1)
    talk(one, other, 10.2)


def test_an_initiator_that_restarts_says_so_and_is_back():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    one = one.restarted(2, 10.0)
    (reset,) = one.handshakes.resets_for(other.frame(A, b"lost"), 10.0)
    assert other.receive(reset, 10.1) == Forgotten(A)
    shake_hands(other, one, 10.1)
    talk(one, other, 10.2)


def test_an_initiator_that_restarts_begins_itself_and_is_believed_for_its_epoch():
    one, other = two_hosts()
    for turn in range(3):
        shake_hands(one, other, 5.0 * turn)
    one = one.restarted(2, 20.0)
    shake_hands(one, other, 20.0)
    talk(one, other, 20.1)
    with_old_state = one.restarted(1, 30.0)
    (message,) = with_old_state.handshakes.initiate(B, 30.0)
    assert other.receive(message, 30.0) == stale(one, repeated=True)


def test_an_initiation_played_back_is_stale_once_the_answer_is_forgotten():
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    assert other.receive(message, 0.0).session is not None
    assert other.receive(message, ANSWER_S - 0.1).session is None
    for number in range(1000):
        assert other.receive(message, ANSWER_S + number / 1000) == stale(one, repeated=True)
    assert len(other.handshakes.table.by_index) == 1
    # It has cost none of the budget that others need.
    assert other.handshakes._admission._budget.left(ANSWER_S) > HANDSHAKE_BURST - 2


def test_what_is_played_back_to_a_restarted_responder_changes_nothing_for_long():
    one, other = two_hosts()
    recorded = []
    for turn in range(6):
        recorded += one.handshakes.initiate(B, turn * RETRANSMIT_S)
    other = other.restarted(2, 100.0)
    for message in recorded:
        assert isinstance(other.receive(message, 100.0), Answer)
    assert other.peers[A].sending is None
    assert len(other.handshakes.table.by_index) <= MAX_SESSIONS
    (genuine,) = one.handshakes.initiate(B, 101.0)
    answer = other.receive(genuine, 101.0)
    for message in recorded:
        assert other.receive(message, 130.0) == stale(one, repeated=True)
    assert answer.session in other.peers[A].sessions
    assert isinstance(one.receive(answer.reply, 101.1), Completed)
    talk(one, other, 130.0)


# State lost and clock set back.


def set_back():
    """Give a host that is behind what the other one remembers, and its stale initiation."""
    one, other = two_hosts(epoch=1000)
    shake_hands(one, other, 0.0)
    one = one.restarted(5, 500.0)
    (message,) = one.handshakes.initiate(B, 500.0)
    assert other.receive(message, 500.0) == stale(one)
    return one, other, message


def test_a_host_that_is_behind_shows_a_cookie_and_is_called_back():
    one, other, message = set_back()
    demand = other.handshakes.demand_cookie(message, SOURCE, 500.1)
    assert len(demand.reply) == COOKIE_SIZE < len(message)
    taken = one.receive(demand.reply, 500.2)
    assert isinstance(taken, CookieTaken)
    repeated = messages.with_cookie(message, taken.cookie)
    shown = other.receive(repeated, 500.3)
    assert shown == stale(one, proven=True, repeated=True)
    back = other.handshakes.call_back(shown, 500.3)
    assert len(back) == len(repeated)
    answer = one.receive(back, 500.4)
    assert answer.says_stale
    completed = other.receive(answer.reply, 500.5)
    assert isinstance(completed, Completed)
    talk(other, one, 500.6)


def test_a_cookie_is_good_for_nothing_from_another_address():
    one, other, message = set_back()
    demand = other.handshakes.demand_cookie(message, SOURCE, 500.1)
    repeated = messages.with_cookie(message, one.receive(demand.reply, 500.2).cookie)
    elsewhere = pack_endpoint(("192.0.2.9", 51840))
    assert other.receive(repeated, 500.3, elsewhere) == stale(one, repeated=True)


def test_a_raised_epoch_has_a_host_that_is_behind_taken_again():
    one, other, message = set_back()
    one.handshakes.raise_epoch(999)
    assert one.handshakes.initiate(B, 500.0 + RETRANSMIT_S - 0.1) == [message]
    (still_behind,) = one.handshakes.initiate(B, 500.0 + RETRANSMIT_S)
    assert other.receive(still_behind, 505.0) == stale(one)
    one.handshakes.raise_epoch(1001)
    one.handshakes.raise_epoch(3)
    (message,) = one.handshakes.initiate(B, 510.0)
    assert isinstance(other.receive(message, 510.0), Answer)


def test_a_host_that_is_no_longer_behind_is_not_told_that_it_is():
    one, other, _ = set_back()
    one.handshakes.raise_epoch(1001)
    shake_hands(one, other, 510.0)
    (back,) = other.handshakes.initiate(A, 520.0)
    assert not one.receive(back, 520.0).says_stale


def test_a_host_whose_handshake_came_late_or_was_played_back_is_not_told_that_it_is_behind():
    one, other = two_hosts()
    (late,) = one.handshakes.initiate(B, 0.0)
    shake_hands(one, other, RETRANSMIT_S)
    assert other.receive(late, 5.0) == stale(one)
    (back,) = other.handshakes.initiate(A, 500.0)
    assert not one.receive(back, 500.0).says_stale


def test_nobody_is_called_back_whose_key_is_not_valid_any_more():
    one, other, message = set_back()
    other.know(Peer(A, (keys("another").public,)))
    assert other.receive(message, 501.0) == Refused(Drop.STALE)
    assert other.handshakes.call_back(stale(one), 501.0) is None


# Wrong keys.


def test_another_psk_is_noticed_by_the_initiator_who_says_so_once_a_minute():
    one, other = two_hosts(PSK)
    other.know(Peer(A, (one.identity.public,), bytes(32)))
    (message,) = one.handshakes.initiate(B, 0.0)
    answer = other.receive(message, 0.0)
    refused = one.receive(answer.reply, 0.1)
    assert refused.drop is Drop.FORGED
    assert B in refused.note
    assert "claims" in refused.note
    assert "psk_file" in refused.note
    assert one.receive(answer.reply, 0.2) == Refused(Drop.FORGED)
    assert not one.handshakes.table.by_index


def test_an_answer_that_somebody_has_spoilt_does_not_prevent_the_genuine_one():
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    answer = other.receive(message, 0.0).reply
    body = answer[:60] + bytes([answer[60] ^ 1]) + answer[61:-32]
    spoilt = body + messages.mac(messages.mac1_key(one.identity.public), body) + bytes(16)
    assert one.receive(spoilt, 0.1).drop is Drop.FORGED
    assert isinstance(one.receive(answer, 0.1), Completed)


def refusal(caller, called, now=0.0):
    (message,) = caller.handshakes.initiate(called.address, now)
    return called.receive(message, now)


def test_an_unknown_key_that_claims_a_peers_address_is_told_with_that_host():
    _, other = two_hosts()
    stranger = Host(A, identity=keys("stranger"))
    stranger.know(Peer(B, (other.identity.public,)))
    refused = refusal(stranger, other)
    assert refused.drop is Drop.UNKNOWN_PEER
    assert f"claims to be {A}" in refused.note
    assert f"configured for {A}" in refused.note
    assert not other.handshakes.table.by_index


def test_an_unknown_key_with_an_unknown_address_is_told_as_such():
    _, other = two_hosts()
    stranger = Host(C)
    stranger.know(Peer(B, (other.identity.public,)))
    refused = refusal(stranger, other)
    assert refused.drop is Drop.UNKNOWN_PEER
    assert f"claims to be {C}" in refused.note
    assert "neither" in refused.note


def test_a_peers_key_under_another_address_is_told_with_both_hosts():
    one, other = two_hosts()
    moved = Host(C, identity=one.identity)
    moved.know(Peer(B, (other.identity.public,)))
    refused = refusal(moved, other)
    assert refused.drop is Drop.WRONG_HOST
    assert f"key of {A}" in refused.note
    assert f"calls itself {C}" in refused.note


def test_a_handshake_for_another_key_is_told_with_the_own_key():
    one, other = two_hosts()
    one.know(Peer(B, (keys("somebody else").public,)))
    refused = refusal(one, other)
    assert refused.drop is Drop.WRONG_KEY
    assert "another public key" in refused.note
    assert refusal(one, other, 5.0) == Refused(Drop.WRONG_KEY)
    assert refusal(one, other, NOTE_PAUSE_S).note is not None


def test_notes_are_few_whatever_strangers_do():
    _, other = two_hosts()
    noted = 0
    for number in range(150):
        stranger = Host(f"10.0.1.{number}")
        stranger.know(Peer(B, (other.identity.public,)))
        outcome = refusal(stranger, other, number / 10)
        noted += outcome.note is not None
    assert 10 < noted < 2 * notes.MAX_NOTES
    assert len(other.handshakes._notes._noted_at) <= notes.MAX_NOTES


def test_no_secret_is_in_a_note_or_repr():
    one, other = two_hosts(PSK)
    (message,) = one.handshakes.initiate(B, 0.0)
    shown = repr(other.receive(message, 0.0)) + repr(CookieTaken(B, PSK))
    for secret in (PSK, one.identity.private, other.identity.private):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


# Changes of the configuration.


def test_a_removed_peer_is_cut_off():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    (ended,) = other.know()
    assert ended.host == A
    assert not other.handshakes.table.by_index
    assert other.read(one.frame(B, b"x"), 1.0) is Drop.UNKNOWN_SESSION
    assert refusal(one, other, 5.0).drop is Drop.UNKNOWN_PEER


def test_other_peers_sessions_live_on():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    assert other.know(*other.settings, Peer(C, (keys(C).public,))) == []
    talk(one, other, 1.0)


def test_a_hosts_key_is_changed_without_an_interruption():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    new = keys("new key of B")
    assert one.know(Peer(B, (other.identity.public, new.public))) == []
    other.handshakes.set_identity(new)
    talk(one, other, 1.0)
    to_old, to_new = one.handshakes.initiate(B, 2.0)
    assert other.receive(to_old, 2.0) == Refused(Drop.WRONG_KEY), "the former key is no mistake"
    answer = other.receive(to_new, 2.0)
    assert isinstance(one.receive(answer.reply, 2.1), Completed)
    talk(one, other, 2.2)
    (ended,) = one.know(Peer(B, (new.public,)))
    assert ended.public_key == other.identity.public
    talk(one, other, 2.3)


def test_the_next_key_is_tried_in_vain_without_a_word_in_the_log():
    one, other = two_hosts()
    one.know(Peer(B, (other.identity.public, keys("next").public)))
    present, following = one.handshakes.initiate(B, 0.0)
    assert isinstance(other.receive(present, 0.0), Answer)
    assert other.receive(following, 0.0) == Refused(Drop.WRONG_KEY)


def test_a_session_that_the_former_key_made_can_still_be_reset():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    frame = one.frame(B, b"x")
    other.handshakes.set_identity(keys("new"))
    for session in list(other.handshakes.table.by_index.values()):
        other.handshakes.release(session)
    (reset,) = other.handshakes.resets_for(frame, 1.0)
    assert one.receive(reset, 1.0) == Forgotten(B)


def test_a_psk_that_changes_leaves_the_session():
    one, other = two_hosts()
    shake_hands(one, other, 0.0)
    one.handshakes.initiate(B, 1.0)
    assert one.know(Peer(B, (other.identity.public,), PSK)) == []
    assert other.know(Peer(A, (one.identity.public,), PSK)) == []
    talk(one, other, 1.0)
    shake_hands(one, other, 1.5)


def test_a_configured_key_that_nobody_can_own_is_never_called():
    one, _ = two_hosts()
    one.know(Peer(B, (bytes(32),)))
    assert one.handshakes.initiate(B, 0.0) == []
    assert not one.handshakes._pending


def test_a_copy_and_its_original_do_not_finish_the_same_handshake():
    """Both have its secret, and would come to the same keys."""
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    reply = other.receive(message, 0.0).reply
    one.handshakes.start_anew(2, one.reset_keys, 0.1)
    assert one.receive(reply, 0.1) == Refused(Drop.UNWANTED)
    (fresh,) = one.handshakes.initiate(B, 0.1)
    assert fresh[4:36] != message[4:36]
    shake_hands(one, other, 0.1)
    # Nor does anybody get the answer again of which the copy has the session.
    (message,) = other.handshakes.initiate(A, 1.0)
    assert one.receive(message, 1.0).session is not None
    one.handshakes.forget_answers()
    assert isinstance(one.receive(message, 1.0), Stale)


# Floods and cookies.


def flood(victim, now, count=2 * int(HANDSHAKE_BURST)):
    """Let strangers who know the public key begin handshakes; give what they got."""
    key = messages.mac1_key(victim.identity.public)
    draw = random.Random(1)
    outcomes = []
    for number in range(count):
        body = b"\1\0\0\0" + draw.getrandbits(8 * 136).to_bytes(136, "little")
        source = pack_endpoint((str(IPv4Address(0xC6336400 + number % 256)), 1024 + number))
        message = body + messages.mac(key, body) + bytes(16)
        outcomes.append(victim.receive(message, now, source))
    return outcomes


def test_a_flood_makes_cookies_demanded_that_are_shorter_and_leave_no_state():
    _, other = two_hosts()
    outcomes = flood(other, 0.0)
    computed = [o for o in outcomes if o == Refused(Drop.FORGED)]
    demanded = [o for o in outcomes if isinstance(o, CookieReply)]
    assert len(computed) == HANDSHAKE_BURST / 2 + 1
    assert len(computed) + len(demanded) == len(outcomes)
    assert {len(o.reply) for o in demanded} == {COOKIE_SIZE}
    handshakes = other.handshakes
    assert not handshakes.table.by_index
    assert not handshakes._seen._answers
    assert not handshakes._admission._sources
    assert not handshakes._stamps


def test_a_peer_gets_through_a_flood_with_a_cookie():
    one, other = two_hosts()
    flood(other, 0.0)
    (message,) = one.handshakes.initiate(B, 0.0)
    demanded = other.receive(message, 0.0)
    taken = one.receive(demanded.reply, 0.1)
    assert isinstance(taken, CookieTaken)
    assert taken.host == B
    (again,) = one.handshakes.initiate(B, 0.5)
    with_cookie = messages.with_cookie(again, taken.cookie)
    flood(other, 0.5)
    elsewhere = pack_endpoint(("192.0.2.9", 51840))
    assert isinstance(other.receive(with_cookie, 0.5, elsewhere), CookieReply)
    answer = other.receive(with_cookie, 0.5)
    assert isinstance(answer, Answer)
    copy = other.receive(again, 0.5)
    assert copy == Answer(answer.reply, A, None), "a copy that has not heard of the cookie"
    assert isinstance(one.receive(answer.reply, 0.6), Completed)


@pytest.mark.parametrize(
    ("age_s", "holds"), [(1.0, True), (COOKIE_S, True), (2 * COOKIE_S, False), (1e6, False)]
)
@pytest.mark.parametrize("demanded_at", [0.0, COOKIE_S - 1.0])
@pytest.mark.parametrize("between", [False, True])
def test_a_cookie_lasts_two_minutes_and_no_more_than_four(demanded_at, age_s, holds, between):
    one, other = two_hosts()
    flood(other, demanded_at)
    (message,) = one.handshakes.initiate(B, demanded_at)
    cookie = one.receive(other.receive(message, demanded_at).reply, demanded_at).cookie
    if between:
        flood(other, demanded_at + age_s / 2)
    now = demanded_at + age_s
    (message,) = one.handshakes.initiate(B, now)
    flood(other, now)
    outcome = other.receive(messages.with_cookie(message, cookie), now)
    assert isinstance(outcome, Answer if holds else CookieReply)


def test_one_source_with_a_cookie_cannot_use_up_the_budget():
    _, other = two_hosts()
    flood(other, 0.0)
    key = messages.mac1_key(other.identity.public)
    cookies = {}
    outcomes = []
    for number in range(100):
        source = pack_endpoint(("203.0.113.5", 1024 + number))
        body = b"\1\0\0\0" + bytes([number]) * 136
        message = body + messages.mac(key, body) + bytes(16)
        reply = other.receive(message, 0.0, source).reply
        cipher = messages.cookie_cipher(messages.cookie_key(other.identity.public), reply[4:20])
        cookies[source] = cipher.decrypt(bytes(12), reply[20:52], message[-32:-16])
        outcomes.append(other.receive(messages.with_cookie(message, cookies[source]), 0.0, source))
    assert outcomes.count(Refused(Drop.FORGED)) == admission.SOURCE_BURST
    assert outcomes.count(Refused(Drop.FLOOD)) == 100 - admission.SOURCE_BURST
    assert len(other.handshakes._admission._sources) == 1


ATTACKERS = 1000
ATTACK_RATE = 10_000


def attack(victim, networks, began, now):
    """Have a thousand strangers that answer where they say begin as many handshakes as they can."""
    key = messages.mac1_key(victim.identity.public)
    secret = victim.handshakes._admission._current_secrets(now)[0]
    for number in range(round((now - began) * ATTACK_RATE)):
        which = number % ATTACKERS
        network, host = which % networks, which // networks % 250
        source = pack_endpoint((f"100.{64 + network // 256}.{network % 256}.{1 + host}", 1024))
        body = b"\1\0\0\0" + random.Random(f"{now} {number}").getrandbits(1088).to_bytes(136, "big")
        message = body + messages.mac(key, body)
        yield message + messages.mac(messages.mac(secret, source), message), source


def back_after_s(client, victim, source, networks):
    """Give the seconds that a client takes for a session under the attack; None beyond 3."""
    step_s, now, cookie, pause_s, at = 0.05, 1000.0, None, 0.25, 1000.5
    draw = random.Random(networks)
    while now < 1003.5:
        now += step_s
        come = [("attack", m, s) for m, s in attack(victim, networks, now - step_s, now)]
        if now >= at:
            at, pause_s = now + pause_s, min(1.5, 1.5 * pause_s)
            (message,) = client.handshakes.initiate(B, now)
            if cookie is not None:
                message = messages.with_cookie(message, cookie)
            come.insert(draw.randrange(len(come)), ("client", message, source))
        for who, message, where in come:
            outcome = victim.receive(message, now, where)
            if who == "client" and isinstance(outcome, Answer):
                return now - 1000.5
            if who == "client" and isinstance(outcome, CookieReply):
                taken = client.receive(outcome.reply, now)
                cookie, at = taken.cookie, min(at, now + step_s)
    return None


@pytest.mark.parametrize(
    ("networks", "known"), [(1, True), (4, True), (1000, True), (1, False), (4, False), (40, False)]
)
def test_a_client_gets_in_within_two_seconds_under_an_attack_from_a_thousand_addresses(
    networks, known
):
    """They show cookies. A client that is not known needs a network that is not theirs."""
    one, other = two_hosts()
    source = pack_endpoint(("192.0.2.77", 40_000))
    if known:
        other.receive(one.handshakes.initiate(B, 0.0)[0], 0.0, source)
    back_s = back_after_s(one, other, source, networks)
    assert back_s is not None
    assert back_s <= 2.0


def test_nobody_takes_what_is_kept_for_a_known_source_without_being_there():
    one, other = two_hosts()
    source = pack_endpoint(("192.0.2.77", 40_000))
    other.receive(one.handshakes.initiate(B, 0.0)[0], 0.0, source)
    key = messages.mac1_key(other.identity.public)
    outcomes = []
    for number in range(1000):
        body = b"\1\0\0\0" + random.Random(number).getrandbits(1088).to_bytes(136, "big")
        pretended = pack_endpoint(("192.0.2.77", 1024 + number))
        outcomes.append(other.receive(body + messages.mac(key, body) + bytes(16), 10.0, pretended))
    assert outcomes.count(Refused(Drop.FORGED)) == admission.KNOWN_BURST / 2 + 1
    assert sum(isinstance(outcome, CookieReply) for outcome in outcomes) == 1000 - len(
        [o for o in outcomes if o == Refused(Drop.FORGED)]
    )


def test_sources_are_counted_by_ipv4_address_and_ipv6_network():
    _, other = two_hosts()
    rate = other.handshakes._admission._source_rate
    one = rate(pack_endpoint(("2001:db8::1", 1)), 0.0)
    assert rate(pack_endpoint(("2001:db8::ffff", 2)), 0.0) is one
    assert rate(pack_endpoint(("2001:db8:0:1::1", 1)), 0.0) is not one
    two = rate(pack_endpoint(("192.0.2.1", 1)), 0.0)
    assert rate(pack_endpoint(("192.0.2.1", 2)), 0.0) is two
    assert rate(pack_endpoint(("192.0.2.2", 1)), 0.0) is not two
    for number in range(3 * admission.MAX_SOURCES):
        rate(pack_endpoint((str(IPv4Address(number)), 1)), 0.0)
    assert len(other.handshakes._admission._sources) <= admission.MAX_SOURCES


def test_cookies_that_nobody_asked_for_are_refused():
    one, other = two_hosts()
    flood(other, 0.0)
    (message,) = one.handshakes.initiate(B, 0.0)
    reply = other.receive(message, 0.0).reply
    assert other.receive(reply, 0.1) == Refused(Drop.UNWANTED)
    assert one.receive(reply[:30] + b"\0" + reply[31:], 0.1) == Refused(Drop.FORGED)
    assert one.receive(reply[:-1] + b"\0", 0.1) == Refused(Drop.UNWANTED)
    assert one.receive(reply, PENDING_S) == Refused(Drop.UNWANTED)


def test_a_copy_played_back_fast_draws_few_answers():
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    outcomes = [other.receive(message, 0.0) for _ in range(1000)]
    assert sum(isinstance(o, Answer) for o in outcomes) == 1 + initiations.ANSWER_BURST


# Anything else.


def tables(host):
    """How much each table of a host's handshakes holds, but for what is configured."""
    sizes = {}
    parts = [("handshakes", host.handshakes)]
    while parts:
        where, part = parts.pop()
        for name, value in vars(part).items():
            if isinstance(value, dict):
                sizes[f"{where}.{name}"] = len(value)
            elif isinstance(value, PARTS):
                parts.append((f"{where}.{name}", value))
    return sizes


@pytest.fixture(scope="module")
def recorded():
    """Hosts with a session, and one of each datagram that they exchanged."""
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    answer = other.receive(message, 0.0)
    one.receive(answer.reply, 0.0)
    frame = one.frame(B, b"x")
    other.read(frame, 0.0)
    (reset,) = other.restarted(2, 0.0).handshakes.resets_for(frame, 0.0)
    busy = other.restarted(3, 0.0)
    flood(busy, 0.0)
    cookie = busy.receive(message, 0.0).reply
    return one, other, [message, answer.reply, frame, reset, cookie]


@settings(max_examples=300)
@given(data=st.data())
def test_no_datagram_raises_or_makes_a_session(recorded, data):
    one, other, datagrams = recorded
    datagram = bytearray(data.draw(st.one_of(st.sampled_from(datagrams), st.binary(max_size=200))))
    flips = data.draw(st.lists(st.tuples(st.integers(0, 250), st.integers(1, 255)), max_size=4))
    for position, value in flips:
        if position < len(datagram):
            datagram[position] ^= value
    cut = data.draw(st.one_of(st.just(len(datagram)), st.integers(0, len(datagram))))
    datagram = bytes(datagram[:cut]) + data.draw(st.binary(max_size=3))
    now = data.draw(st.floats(25.0, 1000.0))
    for host in (one, other):
        before = tables(host)
        outcome = host.handshakes.receive(datagram, data.draw(st.binary(max_size=18)), now)
        host.handshakes.resets_for(datagram, now)
        # The genuine reset is the one thing here that is still worth hearing.
        assert isinstance(outcome, (Refused, Stale, Forgotten))
        assert not isinstance(outcome, Forgotten) or datagram in datagrams
        after = tables(host)
        for name in before.keys() - {"handshakes._seen._keys", "handshakes._notes._noted_at"}:
            assert after[name] <= before[name], name
        assert after["handshakes._notes._noted_at"] <= notes.MAX_NOTES
        assert len(host.handshakes._resets._sent_at) <= resets.MAX_RESETS


def with_mac1(body, receiver):
    return body + messages.mac(messages.mac1_key(receiver.identity.public), body) + bytes(16)


@pytest.mark.parametrize("position", range(4, INITIATION_SIZE - 32))
def test_an_initiation_changed_by_one_who_knows_the_public_key_is_forged(position):
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    body = bytearray(message[:-32])
    body[position] ^= 0x80
    assert other.receive(with_mac1(bytes(body), other), 0.0) == Refused(Drop.FORGED)
    assert not any(tables(other).values())


@pytest.mark.parametrize("position", range(4, RESPONSE_SIZE - 32))
def test_a_response_changed_by_one_who_knows_the_public_key_is_refused(position):
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    reply = other.receive(message, 0.0).reply
    body = bytearray(reply[:-32])
    body[position] ^= 0x80
    outcome = one.receive(with_mac1(bytes(body), one), 0.1)
    assert outcome.drop is (Drop.UNWANTED if position < 8 else Drop.FORGED)
    assert isinstance(one.receive(reply, 0.2), Completed)


def test_forged_responses_cost_no_more_than_the_budget():
    one, other = two_hosts()
    (message,) = one.handshakes.initiate(B, 0.0)
    reply = other.receive(message, 0.0).reply
    forged = with_mac1(reply[:-33] + bytes([reply[-33] ^ 1]), one)
    drops = [one.receive(forged, 0.1).drop for _ in range(2 * int(HANDSHAKE_BURST))]
    assert drops.count(Drop.FORGED) == RESPONSE_HOST_BURST
    assert drops.count(Drop.FLOOD) == 2 * HANDSHAKE_BURST - RESPONSE_HOST_BURST
    assert isinstance(one.receive(reply, 1.0), Completed)


def test_forged_responses_to_what_went_to_one_host_take_nothing_from_another():
    one, other, hostile = Host(A), Host(B), Host(C)
    one.know(*(Peer(host.address, (host.identity.public,)) for host in (other, hostile)))
    other.know(Peer(A, (one.identity.public,)))
    hostile.know(Peer(A, (one.identity.public,)))
    (message,) = one.handshakes.initiate(C, 0.0)
    reply = hostile.receive(message, 0.0).reply
    forged = with_mac1(reply[:-33] + bytes([reply[-33] ^ 1]), one)
    for number in range(2000):
        one.receive(forged, 0.001 * number)
    (message,) = one.handshakes.initiate(B, 2.0)
    assert isinstance(one.receive(other.receive(message, 2.0).reply, 2.0), Completed)


def test_every_table_is_bounded_over_many_handshakes():
    one, other = two_hosts()
    for turn in range(300):
        now = 3.0 * turn
        for message in one.handshakes.initiate(B, now):
            outcome = other.receive(message, now)
            if isinstance(outcome, Answer) and turn % 3:
                one.receive(outcome.reply, now)
        one.expire(now)
        other.expire(now)
    for host in (one, other):
        sizes = tables(host)
        assert sizes["handshakes.table.by_index"] <= MAX_SESSIONS
        assert sizes["handshakes.table._by_token"] == sizes["handshakes.table.by_index"]
        pending = sizes["handshakes._pending._by_index"]
        assert pending <= PENDING_S / RETRANSMIT_S
        assert sizes["handshakes._pending._by_mac1"] == pending
        assert sizes["handshakes._pending._last_to"] <= 1
        assert sizes["handshakes._seen._answers"] <= 1 + ANSWER_S / 3.0
        assert sizes["handshakes._seen._keys"] <= initiations.MAX_SEEN


@pytest.mark.parametrize("epoch", [-1, 2**32])
def test_an_epoch_that_fits_no_stamp_is_refused(epoch):
    with pytest.raises(ValueError, match="epoch"):
        Host(A, epoch)


def test_indices_differ_even_when_the_randomness_does_not():
    one, _ = two_hosts()
    one.handshakes._entropy = bytes
    for turn in range(3):
        one.handshakes.initiate(B, turn * RETRANSMIT_S)
    assert len(one.handshakes._pending) == 3
