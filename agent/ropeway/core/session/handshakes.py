"""The handshakes that make secure sessions: initiation, response, cookie.

:mod:`ropeway.core.session.messages` lays out the datagrams; resets (type 6) are
:mod:`ropeway.core.session.resets`', and what comes of one is decided here.

What an initiation goes through, cheapest first: length, mac1 (it knows this host's public key), the
answers given before (a copy over another link, or a retransmission, gets the same answer), whether
it is known to be stale, :mod:`ropeway.core.session.admission` (from half of the budget on, mac2
proves that the source is real), the Noise handshake, the peer's key and host, the stamp. Only then
is anything kept, so strangers leave no state. No reply is longer than what it answers.

An initiation that is genuine but stale makes no session. Its sender may be called back where it
came from, once a cookie has shown that somebody is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import AbstractSet, Callable, Dict, Iterable, List, Optional, Sequence, Set

from cryptography.exceptions import InvalidTag

from ropeway.core.drops import Drop
from ropeway.core.frame.data import (
    COOKIE,
    INITIATION,
    OVERHEAD,
    RESET,
    RESPONSE,
    SESSION_TYPES,
)
from ropeway.core.frame.outer import IPV6_SIZE, UDP_SIZE
from ropeway.core.session.admission import HANDSHAKE_BURST, HANDSHAKE_RATE, Admission, Verdict
from ropeway.core.session.identities import KnownPeers, OwnKeys
from ropeway.core.session.initiations import Pending, PendingInitiations, SeenInitiations
from ropeway.core.session.messages import (
    FIRST,
    MAC_SIZE,
    NO_FLAGS,
    NO_MAC,
    PROLOGUE,
    SECOND,
    YOURS_IS_STALE,
    body_of,
    cookie_cipher,
    cookie_key,
    kind_of,
    mac,
    mac1_key,
    mac1_of,
)
from ropeway.core.session.noise import Initiator, KeyPair, NoiseError, Responder
from ropeway.core.session.notes import Notes
from ropeway.core.session.outcomes import (
    Answer,
    Completed,
    CookieReply,
    CookieTaken,
    Forgotten,
    Outcome,
    Refused,
    Stale,
)
from ropeway.core.session.resets import KEY_BYTES, RESET_SIZE, Resets
from ropeway.core.session.session import Session
from ropeway.core.session.table import SessionTable
from ropeway.core.settings import PeerKeys
from ropeway.core.token_bucket import SharedBudget

#: The same initiation is sent again until it is this old, in seconds; then a new one is made.
RETRANSMIT_S = 4.0
#: As many responses are computed as handshakes, but to initiations to one host only so many a
#: second, and at once: whoever sees one pass may forge responses to it.
RESPONSE_HOST_RATE = 100.0
RESPONSE_HOST_BURST = 100.0
#: A reset of the same session counts again after this time, in seconds.
FORGOTTEN_PAUSE_S = 1.0

#: What a datagram has before it on the wire, at most.
_HEADERS = IPV6_SIZE + UDP_SIZE


class Handshakes:
    """All handshakes of a host, in both roles.

    ``host`` is this host's virtual address (4 bytes); ``epoch`` is a number, 0 to 2**32 - 1, that
    is greater at each start of the agent; ``entropy(n)`` gives n bytes that nobody can guess;
    ``table`` is the one that sessions are put into; ``reset_keys`` are as in
    :class:`ropeway.core.session.resets.Resets`, by default a fresh one alone. Times are monotonic
    seconds. No method raises because of what a datagram holds; ValueError if the epoch is out of
    range.
    """

    def __init__(
        self,
        identity: KeyPair,
        host: bytes,
        epoch: int,
        entropy: Callable[[int], bytes],
        now: float,
        table: SessionTable,
        reset_keys: Sequence[bytes] = (),
    ) -> None:
        self._own = OwnKeys(identity)
        self._host = host
        self._entropy = entropy
        self._stamp = _first_stamp(epoch)
        #: The newest stamp of each key. Kept for a key that is taken away and given back.
        self._stamps: Dict[bytes, int] = {}
        self._pending = PendingInitiations()
        self._seen = SeenInitiations()
        #: The keys whose owners were called back, as their last initiation was stale.
        self._outdated: Set[bytes] = set()
        self._admission = Admission(entropy, now)
        self._response_budget = SharedBudget(
            HANDSHAKE_RATE, HANDSHAKE_BURST, RESPONSE_HOST_RATE, RESPONSE_HOST_BURST, now
        )
        self._resets = Resets(reset_keys or (entropy(KEY_BYTES),), now)
        self._notes = Notes(now)
        self._peers = KnownPeers(self._notes)
        self.table = table

    # Configuration.

    @property
    def public_key(self) -> bytes:
        """The key that other hosts know this one by."""
        return self._own.keys.public

    def set_identity(self, identity: KeyPair) -> None:
        """Take another key pair for handshakes from now on; sessions live on."""
        if identity.private == self._own.keys.private:
            return
        self._own.replace(identity)
        self._pending.drop_where(lambda _pending: True)

    def start_anew(self, epoch: int, reset_keys: Sequence[bytes], now: float) -> None:
        """Go on with nothing that a copy of this machine has too: handshakes, indices, stamps.

        Sessions stay. ``epoch`` and ``reset_keys`` are as for a new start.
        """
        self.raise_epoch(epoch)
        self._pending.drop_where(lambda _pending: True)
        self._admission.renew_secrets()
        self._resets = Resets(reset_keys, now)
        self._resets.set_peers(self._peers.keys)

    def forget_answers(self) -> None:
        """Answer no initiation again: the sessions that came of it have ended."""
        self._seen.forget_answers()

    def set_peers(self, peers: Iterable[PeerKeys]) -> List[Session]:
        """Take the peers that there are from now on; give the sessions that end because of it.

        These are the sessions with a host or key that is no longer configured; they are released.
        """
        changed = self._peers.replace(peers)
        self._resets.set_peers(self._peers.keys)
        self._pending.drop_where(
            lambda p: (
                not self._peers.has(p.host, p.public_key)
                or self._peers.by_host[p.host].psk != p.psk
            )
        )
        self._seen.forget_answers_to(changed)
        ended = [
            session
            for session in self.table.by_index.values()
            if not self._peers.has(session.host, session.public_key)
        ]
        for session in ended:
            self.release(session)
        return ended

    def set_host(self, host: bytes) -> None:
        """Name this host by another virtual address (4 bytes) from the next new initiation on."""
        self._host = host
        self._pending.drop_where(lambda _pending: True)

    def lease_to(self, tenants: AbstractSet[bytes], gives_leases: bool) -> None:
        """Have the owners of some keys go by the address that they get here.

        With ``gives_leases`` every peer may come without one, and goes by its entry.
        """
        self._peers.tenants = tenants if gives_leases else frozenset()
        self._peers.gives_leases = gives_leases
        self._peers.without_address.clear()

    @property
    def without_address(self) -> Dict[bytes, None]:
        """The keys of tenants that have come and have no address yet; the reader removes them."""
        return self._peers.without_address

    # The initiator.

    def initiate(self, host: str, now: float) -> List[bytes]:
        """Return an initiation for each public key of a peer; none for a host that is no peer.

        Within :data:`RETRANSMIT_S` it gives the same bytes, so it may be called whenever something
        is to be sent again.
        """
        peer = self._peers.by_host.get(host)
        if peer is None:
            return []
        messages = [self._initiation(peer, public_key, now) for public_key in peer.public_keys]
        return [message for message in messages if message is not None]

    def call_back(self, stale: Stale, now: float) -> Optional[bytes]:
        """Return an initiation for whoever has sent a stale one, which is as long; None for nobody.

        It says so, if it is not the repetition of one that was made before. The same bytes as
        :meth:`initiate` gives, for one key of the peer.
        """
        peer = self._peers.by_host.get(stale.host)
        if peer is None or stale.public_key not in peer.public_keys:
            return None
        self._outdated.add(stale.public_key)
        return self._initiation(peer, stale.public_key, now)

    def raise_epoch(self, epoch: int) -> None:
        """Begin with this epoch, 0 to 2**32 - 1, from the next new initiation on, if it is greater.

        ValueError if it is out of range.
        """
        self._stamp = max(self._stamp, _first_stamp(epoch))

    def _initiation(self, peer: PeerKeys, public_key: bytes, now: float) -> Optional[bytes]:
        pending = self._pending.last_to(peer.host, public_key)
        if pending is None or now - pending.made_at >= RETRANSMIT_S:
            pending = self._begin(peer, public_key, now)
        return None if pending is None else pending.message

    def _begin(self, peer: PeerKeys, public_key: bytes, now: float) -> Optional[Pending]:
        self._pending.drop_where(lambda pending: pending.is_over(now))
        index = self._new_index(public_key)
        ephemeral = KeyPair.of(self._entropy(32))
        noise = Initiator(self._own.keys, ephemeral, public_key, peer.psk, PROLOGUE)
        self._stamp += 1
        token = self._resets.token(index, public_key)
        flags = YOURS_IS_STALE if public_key in self._outdated else NO_FLAGS
        payload = FIRST.pack(index, self._stamp, self._host, flags, token)
        try:
            body = bytes((INITIATION, 0, 0, 0)) + noise.first(payload)
        except NoiseError:
            # The configured key is a point of low order: nobody can own it.
            return None
        mac1 = mac(mac1_key(public_key), body)
        message = body + mac1 + NO_MAC
        pending = Pending(peer.host, public_key, peer.psk, index, noise, message, mac1, now)
        self._pending.add(pending)
        return pending

    # What comes in.

    def receive(self, datagram: bytes, source: bytes, now: float) -> Outcome:
        """Take an initiation, response, cookie or reset from anyone; say what came of it.

        ``source`` is the address and port that it came from, as ``endpoint.pack_endpoint`` gives.
        """
        kind = kind_of(datagram)
        if kind is None:
            return Refused(Drop.MALFORMED)
        if kind == INITIATION:
            return self._receive_initiation(datagram, source, now)
        if kind == RESPONSE:
            return self._receive_response(datagram, now)
        if kind == COOKIE:
            return self._receive_cookie(datagram, now)
        return self._receive_reset(datagram, now)

    def credible(self, datagram: bytes) -> Optional[int]:
        """Return the type of a datagram that no mere stranger has made, None for all else.

        An initiation shows this host's public key; what is no initiation names something that only
        whoever it is from, or sees it pass, can know. It may be stale or forged nonetheless.
        Nothing is remembered, so this may be asked of anything at any time.
        """
        kind = kind_of(datagram)
        if kind == INITIATION:
            known = self._own.is_meant(datagram)
        elif kind == RESPONSE:
            known = datagram[4:8] in self._pending
        elif kind == COOKIE:
            known = self._pending.by_mac1(datagram[52:]) is not None
        else:
            known = kind == RESET and self.table.with_token(datagram[4:]) is not None
        return kind if known else None

    def _receive_initiation(self, datagram: bytes, source: bytes, now: float) -> Outcome:
        if not self._own.is_meant(datagram):
            # While a host's key is being changed, its peers try the former or the next key as well.
            expected = self._admission.is_known(source) or self._own.was_meant(datagram)
            note = None if expected else self._notes.note(b"", self._own.wrong_key_note(), now)
            return Refused(Drop.WRONG_KEY, note)
        body, mac1 = body_of(datagram), mac1_of(datagram)
        given = self._seen.answer_to(datagram[:-MAC_SIZE], now)
        if given is not None:
            if given.rate.take(now):
                return Answer(given.reply, given.host, None)
            return Refused(Drop.FLOOD)
        whose = self._seen.key_of(mac1)
        if whose is not None:
            return self._stale(datagram, whose, source, True, now)
        verdict = self._admission.judge(datagram, source, now)
        if verdict is Verdict.COOKIE_DEMANDED:
            return self.demand_cookie(datagram, source, now)
        if verdict is Verdict.FLOOD:
            return Refused(Drop.FLOOD)
        noise = Responder(self._own.keys, PROLOGUE)
        try:
            payload = noise.first(body[4:])
        except NoiseError:
            return Refused(Drop.FORGED)
        index, stamp, host, flags, token = FIRST.unpack(payload)
        public_key = noise.initiator_public
        is_new = stamp > self._stamps.get(public_key, -1)
        refused = self._peers.check_claim(public_key, host, is_new, now)
        if refused is not None:
            return refused
        self._seen.note(mac1, public_key)
        if not is_new:
            return self._stale(datagram, public_key, source, False, now)
        self._outdated.discard(public_key)
        self._admission.know(source)
        outcome = self._answer(datagram[:-MAC_SIZE], noise, index, stamp, token, now)
        says_stale = bool(flags[0] & YOURS_IS_STALE[0])
        return replace(outcome, says_stale=says_stale) if isinstance(outcome, Answer) else outcome

    def _stale(
        self, datagram: bytes, public_key: bytes, source: bytes, repeated: bool, now: float
    ) -> Outcome:
        host = self._peers.host_of(public_key)
        if host is None:
            return Refused(Drop.STALE)
        return Stale(
            host, public_key, self._admission.shows_cookie(datagram, source, now), repeated
        )

    def _answer(
        self, cached_as: bytes, noise: Responder, index: bytes, stamp: int, token: bytes, now: float
    ) -> Outcome:
        public_key = noise.initiator_public
        peer = self._peers.by_host[self._peers.keys[public_key]]
        local_index = self._new_index(public_key)
        own_token = self._resets.token(local_index, public_key)
        payload = SECOND.pack(local_index, NO_FLAGS, own_token)
        try:
            message = noise.second(payload, KeyPair.of(self._entropy(32)), peer.psk)
        except NoiseError:
            return Refused(Drop.FORGED)
        body = bytes((RESPONSE, 0, 0, 0)) + index + message
        reply = body + mac(mac1_key(public_key), body) + NO_MAC
        send_key, receive_key = noise.keys()
        session = Session(
            host=peer.host,
            public_key=public_key,
            local_index=local_index,
            remote_index=index,
            initiated=False,
            send_key=send_key,
            receive_key=receive_key,
            reset_token=token,
            now=now,
        )
        self._stamps[public_key] = stamp
        self.table.add(session)
        self._seen.note_answer(cached_as, peer.host, reply, now)
        return Answer(reply, peer.host, session)

    def _receive_response(self, datagram: bytes, now: float) -> Outcome:
        if not self._own.is_meant(datagram):
            return Refused(Drop.WRONG_KEY)
        body = body_of(datagram)
        index = body[4:8]
        pending = self._pending.get(index)
        if pending is None or pending.is_over(now):
            known = self.table.by_index.get(index)
            return Refused(Drop.REPEATED if known and known.initiated else Drop.UNWANTED)
        if not self._response_budget.take(pending.host, now):
            return Refused(Drop.FLOOD)
        try:
            payload = pending.noise.second(body[8:])
        except NoiseError:
            note = (
                f"An answer that claims to come from {pending.host} cannot be opened. If this is "
                f"said again, compare psk_file on both hosts."
            )
            return Refused(Drop.FORGED, self._notes.note(pending.public_key, note, now))
        remote_index, _flags, token = SECOND.unpack(payload)
        self._pending.drop(pending)
        send_key, receive_key = pending.noise.keys()
        session = Session(
            host=pending.host,
            public_key=pending.public_key,
            local_index=index,
            remote_index=remote_index,
            initiated=True,
            send_key=send_key,
            receive_key=receive_key,
            reset_token=token,
            now=now,
        )
        self.table.add(session)
        return Completed(pending.host, session)

    # Cookies.

    def demand_cookie(self, datagram: bytes, source: bytes, now: float) -> CookieReply:
        """Return what has the sender of an initiation show that it is where that came from."""
        key = self._own.cookie_key
        return CookieReply(self._admission.cookie_for(datagram, source, key, now))

    def know_source(self, source: bytes) -> None:
        """Note that a genuine handshake came from there, or would: a share is kept for it."""
        self._admission.know(source)

    def _receive_cookie(self, datagram: bytes, now: float) -> Outcome:
        salt, sealed, start = datagram[4:20], datagram[20:52], datagram[52:]
        pending = self._pending.by_mac1(start)
        if pending is None or pending.is_over(now):
            return Refused(Drop.UNWANTED)
        cipher = cookie_cipher(cookie_key(pending.public_key), salt)
        try:
            cookie = cipher.decrypt(bytes(12), sealed, pending.mac1)
        except InvalidTag:
            return Refused(Drop.FORGED)
        return CookieTaken(pending.host, cookie)

    # Resets.

    def resets_for(self, datagram: bytes, now: float) -> List[bytes]:
        """Return what answers a data or control frame of an unknown session.

        Nothing if it is no frame, its index may not have been given to a peer, its token may not be
        given out, or resets go out too often.
        """
        if len(datagram) < OVERHEAD or datagram[0] not in SESSION_TYPES:
            return []
        index = datagram[4:8]
        if self._is_taken(index):
            return []
        # Each has its own headers; over IPv6, which has the larger ones, fewer are as many bytes.
        most = (len(datagram) + _HEADERS) // (RESET_SIZE + _HEADERS)
        return self._resets.answer(index, most, now)

    def _receive_reset(self, datagram: bytes, now: float) -> Outcome:
        session = self.table.with_token(datagram[4:])
        if session is None:
            return Refused(Drop.UNWANTED)
        last = session.forgotten_at
        # What comes about a superseded session, or soon again, says nothing new.
        if session.superseded_at is not None or (
            last is not None and now - last < FORGOTTEN_PAUSE_S
        ):
            return Refused(Drop.REPEATED)
        session.forgotten_at = now
        return Forgotten(session.host)

    # Sessions.

    def release(self, session: Session) -> None:
        """Forget a session that is no longer to be read; nothing if it is forgotten already."""
        if self.table.remove(session):
            self._resets.forget(session.local_index, session.public_key)

    def _new_index(self, public_key: bytes) -> bytes:
        return self._resets.new_index(public_key, self._entropy(2), self._is_taken)

    def _is_taken(self, index: bytes) -> bool:
        return index in self.table.by_index or index in self._pending


def _first_stamp(epoch: int) -> int:
    if not 0 <= epoch < 2**32:
        raise ValueError(f"The epoch must be 0 to {2**32 - 1}; it is {epoch}.")
    return epoch << 32
