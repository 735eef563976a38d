"""The handshakes that make secure sessions: initiation, response, cookie.

Three datagrams, integers little-endian. The handshake inside the first two is
:mod:`ropeway.core.session.noise` with the prologue :data:`PROLOGUE`; mac1, mac2 and cookies follow
the design of WireGuard (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", section
5.4.4):

==========  =====  =============================================================================
datagram    bytes  layout
==========  =====  =============================================================================
initiation  172    ``01 000000``, Noise message 1 with a payload of 40, mac1 16, mac2 16
response    112    ``02 000000``, receiver index 4, Noise message 2 with a payload of 24, mac1 16,
                   mac2 16
cookie      60     ``03 000000``, salt 16, sealed cookie 32, first 8 bytes of the initiation's mac1
==========  =====  =============================================================================

Resets (type 6) are :mod:`ropeway.core.session.resets`'; what comes of one is decided here.

What an initiation goes through, cheapest first: length, mac1 (it knows this host's public key), the
cache of answers (a copy over another link, or a retransmission, gets the same answer), whether it
is known to be stale, the budget (from half of it on, mac2 proves that the source is real), the
Noise handshake, the peer's key and host, the stamp. Only then is anything kept, so strangers leave
no state. No reply is longer than what it answers.

An initiation that is genuine but stale makes no session. Its sender may be called back where it
came from, once a cookie has shown that somebody is there.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import struct
from dataclasses import dataclass, field, replace
from hashlib import blake2s
from typing import (
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
    Union,
)

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ropeway.core.drops import Drop
from ropeway.core.endpoint import IPV4_MAPPED
from ropeway.core.frame.data import (
    CONTROL,
    COOKIE,
    DATA,
    INITIATION,
    OVERHEAD,
    PARTIAL,
    RESET,
    RESPONSE,
)
from ropeway.core.frame.outer import IPV6_SIZE, UDP_SIZE
from ropeway.core.session.noise import Initiator, KeyPair, NoiseError, Responder
from ropeway.core.session.resets import KEY_BYTES, RESET_SIZE, Resets
from ropeway.core.session.session import Session
from ropeway.core.session.table import SessionTable
from ropeway.core.settings import PeerKeys
from ropeway.core.token_bucket import SharedBudget, TokenBucket

PROLOGUE = b"ropeway secure 1"

INITIATION_SIZE = 172
RESPONSE_SIZE = 112
COOKIE_SIZE = 60

#: Sender index, serial and epoch of the stamp, sender's host, flags, zero, reset token.
_FIRST = struct.Struct("<4s Q 4s 4s 4x 16s")
#: Sender index, flags, reset token.
_SECOND = struct.Struct("<4s 4s 16s")
_NO_FLAGS = bytes(4)
#: In an initiation: the receiver's own last one was stale here.
_YOURS_IS_STALE = b"\x01\0\0\0"
_MAC = 16
_NO_MAC = bytes(_MAC)
_LENGTHS = {
    INITIATION: INITIATION_SIZE,
    RESPONSE: RESPONSE_SIZE,
    COOKIE: COOKIE_SIZE,
    RESET: RESET_SIZE,
}

#: A cookie is accepted for this time at least and twice as long at most, in seconds.
COOKIE_S = 120.0
#: The same initiation is sent again until it is this old, in seconds; then a new one is made.
RETRANSMIT_S = 4.0
#: An answer to an initiation is accepted until the initiation is this old, in seconds.
PENDING_S = 12.0
#: Copies of an initiation get the same answer for this time, in seconds ...
ANSWER_S = 20.0
#: ... and at this rate: as many at once as a host may have links, then so many a second.
ANSWER_BURST = 16.0
ANSWER_RATE = 20.0
#: Answers that are remembered.
MAX_ANSWERS = 1024
#: Initiations that are remembered, so that playing them back costs next to nothing.
MAX_SEEN = 4096
#: Handshakes that strangers begin and that are computed: a second, and at once. One takes 0.07 ms
#: on a fast processor, and half a millisecond on a small board.
HANDSHAKE_RATE = 500.0
HANDSHAKE_BURST = 500.0
#: The same for sources that have begun a genuine handshake lately: strangers cannot use it up.
KNOWN_RATE = 100.0
KNOWN_BURST = 200.0
#: As many responses are computed as handshakes, but to initiations to one host only so many a
#: second, and at once: whoever sees one pass may forge responses to it.
RESPONSE_HOST_RATE = 100.0
RESPONSE_HOST_BURST = 100.0
#: Handshakes of one source address that has shown a cookie: a second, and at once ...
SOURCE_RATE = 5.0
SOURCE_BURST = 20.0
#: ... and of all strangers of one network, an IPv4 /24 or an IPv6 /48, so that those of a few
#: networks do not take what the others need.
NETWORK_RATE = 5.0
NETWORK_BURST = 40.0
#: Source addresses and networks whose rate is kept, and known sources.
MAX_SOURCES = 1024
#: A reset of the same session counts again after this time, in seconds.
FORGOTTEN_PAUSE_S = 1.0
#: One note about a key in this time, in seconds, and notes in this time at most.
NOTE_PAUSE_S = 60.0
MAX_NOTES = 32

#: What a datagram has before it on the wire, at most.
_HEADERS = IPV6_SIZE + UDP_SIZE
_IPV6_PREFIX_BYTES = 8
#: Of an address in 16 bytes, what names its network: 96 and 24 bits, or 48.
_IPV4_NETWORK_BYTES = 15
_IPV6_NETWORK_BYTES = 6


@dataclass(frozen=True)
class Answer:
    """A peer began a handshake; it is to be answered where the initiation came from."""

    reply: bytes
    #: The peer's virtual address, proven by its key.
    host: str
    #: The new session, to be added to the peer's; None if this is an answer given again.
    session: Optional[Session]
    #: Whether the peer says that this host's own last initiation was stale there.
    says_stale: bool = False


@dataclass(frozen=True)
class Completed:
    """A peer answered; the session may be used at once, and should, so that the peer may too."""

    host: str
    session: Session


@dataclass(frozen=True)
class CookieReply:
    """Handshakes come too fast: the sender is to repeat its initiation with this cookie."""

    reply: bytes


@dataclass(frozen=True)
class CookieTaken:
    """A peer demands a cookie from initiations that come from the address this was sent to.

    It is good for :data:`COOKIE_S`; :meth:`Handshakes.with_cookie` puts it in.
    """

    host: str
    cookie: bytes = field(repr=False)


@dataclass(frozen=True)
class Forgotten:
    """A peer no longer knows the session that is used; a handshake is to be begun."""

    host: str


@dataclass(frozen=True)
class Stale:
    """A peer's genuine initiation that is not newer than all before; no session comes of it.

    The peer's clock was set back and its state lost, or the initiation was overtaken on its way, or
    somebody plays it back. What may be done is :meth:`Handshakes.demand_cookie` and, where it is
    ``proven``, :meth:`Handshakes.call_back`.
    """

    host: str
    public_key: bytes
    #: Whether somebody receives what is sent to where it came from.
    proven: bool
    #: Whether it came before, over another link for instance.
    repeated: bool


@dataclass(frozen=True)
class Refused:
    """Nothing came of a datagram."""

    drop: Drop
    #: A sentence for the log that names the host concerned, rarely more than one a minute.
    note: Optional[str] = None


_Value = TypeVar("_Value")

Outcome = Union[Answer, Completed, CookieReply, CookieTaken, Forgotten, Stale, Refused]


class _Identity:
    """A host's own keys and what follows from them."""

    __slots__ = ("cookie_key", "keys", "mac1_key")

    def __init__(self, keys: KeyPair) -> None:
        self.keys = keys
        self.mac1_key = _mac1_key(keys.public)
        self.cookie_key = _cookie_key(keys.public)


class _Pending:
    """An initiation that has not been answered."""

    __slots__ = ("host", "index", "mac1", "made_at", "message", "noise", "psk", "public_key")

    def __init__(
        self, host: str, public_key: bytes, psk: bytes, index: bytes, noise: Initiator, now: float
    ) -> None:
        self.host = host
        self.public_key = public_key
        self.psk = psk
        self.index = index
        self.noise = noise
        self.made_at = now
        self.message = b""
        self.mac1 = b""


class _GivenAnswer:
    """An answer that copies of the same initiation get again."""

    __slots__ = ("given_at", "host", "rate", "reply")

    def __init__(self, host: str, reply: bytes, now: float) -> None:
        self.host = host
        self.reply = reply
        self.given_at = now
        self.rate = TokenBucket(ANSWER_RATE, ANSWER_BURST, now)


class Handshakes:
    """All handshakes of a host, in both roles, and the table of its sessions by index.

    ``host`` is this host's virtual address (4 bytes); ``epoch`` is a number, 0 to 2**32 - 1, that
    is greater at each start of the agent; ``entropy(n)`` gives n bytes that nobody can guess;
    ``reset_keys`` are as in :class:`ropeway.core.session.resets.Resets`, by default a fresh one
    alone; ``sessions`` is the table that sessions are put into. Times are monotonic seconds. No
    method raises because of what a datagram holds; ValueError if the epoch is out of range.
    """

    def __init__(
        self,
        identity: KeyPair,
        host: bytes,
        epoch: int,
        entropy: Callable[[int], bytes],
        now: float,
        reset_keys: Sequence[bytes] = (),
        sessions: Optional[SessionTable] = None,
    ) -> None:
        self._identity = _Identity(identity)
        self._former: Optional[_Identity] = None
        self._host = host
        self._entropy = entropy
        self._stamp = _first_stamp(epoch)
        self._peers: Dict[str, PeerKeys] = {}
        self._host_of: Dict[bytes, str] = {}
        #: The newest stamp of each key. Kept for a key that is taken away and given back.
        self._stamps: Dict[bytes, int] = {}
        # One initiation by its index, by the mac1 that a cookie repeats, and the last one to a key.
        self._pending: Dict[bytes, _Pending] = {}
        self._pending_mac1: Dict[bytes, _Pending] = {}
        self._last_to: Dict[Tuple[str, bytes], _Pending] = {}
        self._answers: Dict[bytes, _GivenAnswer] = {}
        #: mac1 of initiations by peers, new or stale, that need not be computed again: whose key.
        self._seen: Dict[bytes, bytes] = {}
        #: The keys whose owners were called back, as their last initiation was stale.
        self._outdated: Set[bytes] = set()
        self._budget = TokenBucket(HANDSHAKE_RATE, HANDSHAKE_BURST, now)
        self._known_budget = TokenBucket(KNOWN_RATE, KNOWN_BURST, now)
        self._response_budget = SharedBudget(
            HANDSHAKE_RATE, HANDSHAKE_BURST, RESPONSE_HOST_RATE, RESPONSE_HOST_BURST, now
        )
        #: Where genuine handshakes came from lately, the newest at the end.
        self._known: Dict[bytes, None] = {}
        self._sources: Dict[bytes, TokenBucket] = {}
        self._networks: Dict[bytes, TokenBucket] = {}
        self._secrets: Tuple[bytes, bytes] = (entropy(32), entropy(32))
        self._secret_at = now
        self._resets = Resets(reset_keys or (entropy(KEY_BYTES),), now)
        self._noted_at: Dict[bytes, float] = {}
        self._notes = TokenBucket(MAX_NOTES / NOTE_PAUSE_S, MAX_NOTES, now)
        self._sessions = sessions or SessionTable()
        self._by_token: Dict[bytes, Session] = {}

    @property
    def by_index(self) -> Mapping[bytes, Session]:
        """All sessions that can be read, by the index that the peer puts into its frames."""
        return self._sessions.by_index

    # Configuration.

    @property
    def public_key(self) -> bytes:
        """The key that other hosts know this one by."""
        return self._identity.keys.public

    def set_identity(self, identity: KeyPair) -> None:
        """Take another key pair for handshakes from now on; sessions live on."""
        if identity.private == self._identity.keys.private:
            return
        self._former = self._identity
        self._identity = _Identity(identity)
        for pending in list(self._pending.values()):
            self._drop(pending)

    def start_anew(self, epoch: int, reset_keys: Sequence[bytes], now: float) -> None:
        """Go on with nothing that a copy of this machine has too: handshakes, indices, stamps.

        Sessions stay. ``epoch`` and ``reset_keys`` are as for a new start.
        """
        self.raise_epoch(epoch)
        for pending in list(self._pending.values()):
            self._drop(pending)
        self._secrets = (self._entropy(32), self._entropy(32))
        self._resets = Resets(reset_keys, now)
        self._resets.set_peers(self._host_of)

    def forget_answers(self) -> None:
        """Answer no initiation again: the sessions that came of it have ended."""
        self._answers.clear()

    def set_peers(self, peers: Iterable[PeerKeys]) -> List[Session]:
        """Take the peers that there are from now on; give the sessions that end because of it.

        These are the sessions with a host or key that is no longer configured; they are released.
        """
        before = self._peers
        self._peers = {peer.host: peer for peer in peers}
        self._host_of = {
            key: peer.host for peer in self._peers.values() for key in peer.public_keys
        }
        self._resets.set_peers(self._host_of)
        for pending in list(self._pending.values()):
            peer = self._peers.get(pending.host)
            if not _belongs(peer, pending.public_key) or (peer and peer.psk != pending.psk):
                self._drop(pending)
        for message, given in list(self._answers.items()):
            if not _same(before.get(given.host), self._peers.get(given.host)):
                del self._answers[message]
        ended = [
            session
            for session in self._sessions.by_index.values()
            if not _belongs(self._peers.get(session.host), session.public_key)
        ]
        for session in ended:
            self.release(session)
        return ended

    # The initiator.

    def initiate(self, host: str, now: float) -> List[bytes]:
        """Give an initiation for each public key of a peer; none for a host that is no peer.

        Within :data:`RETRANSMIT_S` it gives the same bytes, so it may be called whenever something
        is to be sent again.
        """
        peer = self._peers.get(host)
        if peer is None:
            return []
        messages = [self._initiation(peer, public_key, now) for public_key in peer.public_keys]
        return [message for message in messages if message is not None]

    def call_back(self, stale: Stale, now: float) -> Optional[bytes]:
        """Give an initiation for whoever has sent a stale one, which is as long; None for nobody.

        It says so, if it is not the repetition of one that was made before. The same bytes as
        :meth:`initiate` gives, for one key of the peer.
        """
        peer = self._peers.get(stale.host)
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
        pending = self._last_to.get((peer.host, public_key))
        if pending is None or now - pending.made_at >= RETRANSMIT_S:
            pending = self._begin(peer, public_key, now)
        return None if pending is None else pending.message

    def with_cookie(self, message: bytes, cookie: bytes) -> bytes:
        """Give an initiation with the cookie that its receiver demands."""
        body = message[:-_MAC]
        return body + _mac(cookie, body)

    def _begin(self, peer: PeerKeys, public_key: bytes, now: float) -> Optional[_Pending]:
        for old in [p for p in self._pending.values() if now - p.made_at >= PENDING_S]:
            self._drop(old)
        index = self._new_index(public_key)
        ephemeral = KeyPair.of(self._entropy(32))
        noise = Initiator(self._identity.keys, ephemeral, public_key, peer.psk, PROLOGUE)
        self._stamp += 1
        token = self._resets.token(index, public_key)
        flags = _YOURS_IS_STALE if public_key in self._outdated else _NO_FLAGS
        payload = _FIRST.pack(index, self._stamp, self._host, flags, token)
        pending = _Pending(peer.host, public_key, peer.psk, index, noise, now)
        try:
            body = bytes((INITIATION, 0, 0, 0)) + noise.first(payload)
        except NoiseError:
            # The configured key is a point of low order: nobody can own it.
            return None
        pending.mac1 = _mac(_mac1_key(public_key), body)
        pending.message = body + pending.mac1 + _NO_MAC
        self._pending[index] = pending
        self._pending_mac1[pending.mac1[:8]] = pending
        self._last_to[peer.host, public_key] = pending
        return pending

    def _drop(self, pending: _Pending) -> None:
        del self._pending[pending.index]
        self._pending_mac1.pop(pending.mac1[:8], None)
        if self._last_to.get((pending.host, pending.public_key)) is pending:
            del self._last_to[pending.host, pending.public_key]

    # What comes in.

    def receive(self, datagram: bytes, source: bytes, now: float) -> Outcome:
        """Take an initiation, response, cookie or reset from anyone; say what came of it.

        ``source`` is the address and port that it came from, as ``endpoint.pack_endpoint`` gives.
        """
        kind = _kind(datagram)
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
        """Give the type of a datagram that no mere stranger has made, None for all else.

        An initiation shows this host's public key; what is no initiation names something that only
        whoever it is from, or sees it pass, can know. It may be stale or forged nonetheless.
        Nothing is remembered, so this may be asked of anything at any time.
        """
        kind = _kind(datagram)
        if kind == INITIATION:
            known = self._is_meant(datagram[: -2 * _MAC], datagram[-2 * _MAC : -_MAC])
        elif kind == RESPONSE:
            known = datagram[4:8] in self._pending
        elif kind == COOKIE:
            known = datagram[52:] in self._pending_mac1
        else:
            known = kind == RESET and datagram[4:] in self._by_token
        return kind if known else None

    def _is_meant(self, body: bytes, mac1: bytes) -> bool:
        """Say whether whoever sent this meant this host's public key."""
        return hmac.compare_digest(_mac(self._identity.mac1_key, body), mac1)

    def _receive_initiation(self, datagram: bytes, source: bytes, now: float) -> Outcome:
        body, mac1 = datagram[: -2 * _MAC], datagram[-2 * _MAC : -_MAC]
        if not self._is_meant(body, mac1):
            return Refused(Drop.WRONG_KEY, self._note_wrong_key(body, mac1, source, now))
        given = self._answers.get(datagram[:-_MAC])
        if given is not None and now - given.given_at < ANSWER_S:
            if given.rate.take(now):
                return Answer(given.reply, given.host, None)
            return Refused(Drop.FLOOD)
        whose = self._seen.get(mac1)
        if whose is not None:
            return self._stale(datagram, whose, source, True, now)
        known = _address(source) in self._known
        budget = self._known_budget if known else self._budget
        if budget.left(now) < budget.burst / 2:
            # Nor can anybody take what is kept for a known source without being there.
            if not self._shows_cookie(datagram, source, now):
                return self.demand_cookie(datagram, source, now)
            rates = [self._source_rate(source, now)]
            if not known:
                rates.append(self._network_rate(source, now))
            if not all(rate.left(now) >= 1.0 for rate in rates):
                return Refused(Drop.FLOOD)
            for rate in rates:
                rate.take(now)
        if not budget.take(now):
            return Refused(Drop.FLOOD)
        noise = Responder(self._identity.keys, PROLOGUE)
        try:
            payload = noise.first(body[4:])
        except NoiseError:
            return Refused(Drop.FORGED)
        index, stamp, host, flags, token = _FIRST.unpack(payload)
        public_key = noise.initiator_public
        refused = self._check_claim(public_key, host, now)
        if refused is not None:
            return refused
        _bound(self._seen, MAX_SEEN)
        self._seen[mac1] = public_key
        if stamp <= self._stamps.get(public_key, -1):
            return self._stale(datagram, public_key, source, False, now)
        self._outdated.discard(public_key)
        self.know_source(source)
        outcome = self._answer(datagram[:-_MAC], noise, index, stamp, token, now)
        says_stale = bool(flags[0] & _YOURS_IS_STALE[0])
        return replace(outcome, says_stale=says_stale) if isinstance(outcome, Answer) else outcome

    def _stale(
        self, datagram: bytes, public_key: bytes, source: bytes, repeated: bool, now: float
    ) -> Outcome:
        host = self._host_of.get(public_key)
        if host is None:
            return Refused(Drop.STALE)
        return Stale(host, public_key, self._shows_cookie(datagram, source, now), repeated)

    def _check_claim(self, public_key: bytes, host: bytes, now: float) -> Optional[Refused]:
        claimed = str(ipaddress.IPv4Address(host))
        owner = self._host_of.get(public_key)
        if owner == claimed:
            return None
        key = base64.b64encode(public_key).decode()
        if owner is not None:
            note = (
                f"The key of {owner} is used by a host that calls itself {claimed}: one of them "
                f"has the wrong address or private key."
            )
            return Refused(Drop.WRONG_HOST, self._note(public_key, note, now))
        if claimed in self._peers:
            note = (
                f"A host that claims to be {claimed} uses the public key {key}, but another one "
                f"is configured for {claimed}."
            )
        else:
            note = (
                f"A host that claims to be {claimed} uses the public key {key}; neither is "
                f"among the peers."
            )
        return Refused(Drop.UNKNOWN_PEER, self._note(public_key, note, now))

    def _answer(
        self, cached_as: bytes, noise: Responder, index: bytes, stamp: int, token: bytes, now: float
    ) -> Outcome:
        public_key = noise.initiator_public
        peer = self._peers[self._host_of[public_key]]
        local_index = self._new_index(public_key)
        own_token = self._resets.token(local_index, public_key)
        payload = _SECOND.pack(local_index, _NO_FLAGS, own_token)
        try:
            message = noise.second(payload, KeyPair.of(self._entropy(32)), peer.psk)
        except NoiseError:
            return Refused(Drop.FORGED)
        body = bytes((RESPONSE, 0, 0, 0)) + index + message
        reply = body + _mac(_mac1_key(public_key), body) + _NO_MAC
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
        self._keep(session)
        while self._answers:
            oldest = next(iter(self._answers))
            if now - self._answers[oldest].given_at < ANSWER_S:
                break
            del self._answers[oldest]
        _bound(self._answers, MAX_ANSWERS)
        self._answers[cached_as] = _GivenAnswer(peer.host, reply, now)
        return Answer(reply, peer.host, session)

    def _receive_response(self, datagram: bytes, now: float) -> Outcome:
        body, mac1 = datagram[: -2 * _MAC], datagram[-2 * _MAC : -_MAC]
        if not self._is_meant(body, mac1):
            return Refused(Drop.WRONG_KEY)
        index = body[4:8]
        pending = self._pending.get(index)
        if pending is None or now - pending.made_at >= PENDING_S:
            known = self._sessions.by_index.get(index)
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
            return Refused(Drop.FORGED, self._note(pending.public_key, note, now))
        remote_index, _flags, token = _SECOND.unpack(payload)
        self._drop(pending)
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
        self._keep(session)
        return Completed(pending.host, session)

    # Cookies.

    def demand_cookie(self, datagram: bytes, source: bytes, now: float) -> CookieReply:
        """Give what has the sender of an initiation show that it is where that came from."""
        mac1 = datagram[-2 * _MAC : -_MAC]
        salt = self._entropy(16)
        cookie = _mac(self._current_secrets(now)[0], source)
        sealed = _cookie_cipher(self._identity.cookie_key, salt).encrypt(bytes(12), cookie, mac1)
        return CookieReply(bytes((COOKIE, 0, 0, 0)) + salt + sealed + mac1[:8])

    def _shows_cookie(self, datagram: bytes, source: bytes, now: float) -> bool:
        mac2 = datagram[-_MAC:]
        if mac2 == _NO_MAC:
            return False
        body = datagram[:-_MAC]
        return any(
            hmac.compare_digest(_mac(_mac(secret, source), body), mac2)
            for secret in self._current_secrets(now)
        )

    def _current_secrets(self, now: float) -> Tuple[bytes, bytes]:
        age_s = now - self._secret_at
        if age_s >= COOKIE_S:
            former = self._secrets[0] if age_s < 2 * COOKIE_S else self._entropy(32)
            self._secrets = (self._entropy(32), former)
            self._secret_at = now
        return self._secrets

    def _receive_cookie(self, datagram: bytes, now: float) -> Outcome:
        salt, sealed, start = datagram[4:20], datagram[20:52], datagram[52:]
        pending = self._pending_mac1.get(start)
        if pending is None or now - pending.made_at >= PENDING_S:
            return Refused(Drop.UNWANTED)
        cipher = _cookie_cipher(_cookie_key(pending.public_key), salt)
        try:
            cookie = cipher.decrypt(bytes(12), sealed, pending.mac1)
        except InvalidTag:
            return Refused(Drop.FORGED)
        return CookieTaken(pending.host, cookie)

    def know_source(self, source: bytes) -> None:
        """Note that a genuine handshake came from there, or would: a share is kept for it."""
        address = _address(source)
        self._known.pop(address, None)
        _bound(self._known, MAX_SOURCES)
        self._known[address] = None

    def _source_rate(self, source: bytes, now: float) -> TokenBucket:
        return _rate_of(self._sources, _address(source), SOURCE_RATE, SOURCE_BURST, now)

    def _network_rate(self, source: bytes, now: float) -> TokenBucket:
        is_ipv4 = source.startswith(IPV4_MAPPED)
        network = source[: _IPV4_NETWORK_BYTES if is_ipv4 else _IPV6_NETWORK_BYTES]
        return _rate_of(self._networks, network, NETWORK_RATE, NETWORK_BURST, now)

    # Resets.

    def resets_for(self, datagram: bytes, now: float) -> List[bytes]:
        """Give what answers a data or control frame of an unknown session.

        Nothing if it is no frame, its index may not have been given to a peer, its token may not be
        told, or resets go out too often.
        """
        if len(datagram) < OVERHEAD or datagram[0] not in (DATA, PARTIAL, CONTROL):
            return []
        index = datagram[4:8]
        if self._is_taken(index):
            return []
        # Each has its own headers; over IPv6, which has the larger ones, fewer are as many bytes.
        most = (len(datagram) + _HEADERS) // (RESET_SIZE + _HEADERS)
        return self._resets.answer(index, most, now)

    def _receive_reset(self, datagram: bytes, now: float) -> Outcome:
        session = self._by_token.get(datagram[4:])
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

    # Tables.

    def release(self, session: Session) -> None:
        """Forget a session that is no longer to be read; nothing if it is forgotten already."""
        if self._sessions.remove(session):
            self._resets.forget(session.local_index, session.public_key)
        token = session.remote_index + session.reset_token
        if self._by_token.get(token) is session:
            del self._by_token[token]

    def _keep(self, session: Session) -> None:
        self._sessions.add(session)
        self._by_token[session.remote_index + session.reset_token] = session

    def _new_index(self, public_key: bytes) -> bytes:
        return self._resets.new_index(public_key, self._entropy(2), self._is_taken)

    def _is_taken(self, index: bytes) -> bool:
        return index in self._sessions.by_index or index in self._pending

    # Notes for the log.

    def _note_wrong_key(self, body: bytes, mac1: bytes, source: bytes, now: float) -> Optional[str]:
        # While a host's key is being changed, its peers try the former or the next key as well.
        if _address(source) in self._known:
            return None
        if self._former is not None and _mac(self._former.mac1_key, body) == mac1:
            return None
        own = base64.b64encode(self._identity.keys.public).decode()
        note = (
            f"A handshake came that is meant for another public key than this host's, {own}: "
            f"compare what the peers have configured for this host."
        )
        return self._note(b"", note, now)

    def _note(self, about: bytes, note: str, now: float) -> Optional[str]:
        last = self._noted_at.get(about)
        if (last is not None and now - last < NOTE_PAUSE_S) or not self._notes.take(now):
            return None
        self._noted_at.pop(about, None)
        _bound(self._noted_at, MAX_NOTES)
        self._noted_at[about] = now
        return note


def _address(source: bytes) -> bytes:
    """Give what stands for the sender in a packed endpoint.

    A port costs nothing, and an IPv6 network usually has 64 bits of addresses to spare.
    """
    return source[:-2] if source.startswith(IPV4_MAPPED) else source[:_IPV6_PREFIX_BYTES]


def _rate_of(
    table: Dict[bytes, TokenBucket], whose: bytes, rate: float, burst: float, now: float
) -> TokenBucket:
    """Give somebody's rate out of a bounded table, a new one if there is none."""
    found = table.get(whose)
    if found is None:
        _bound(table, MAX_SOURCES)
        found = table[whose] = TokenBucket(rate, burst, now)
    return found


def _first_stamp(epoch: int) -> int:
    if not 0 <= epoch < 2**32:
        raise ValueError(f"The epoch must be 0 to {2**32 - 1}; it is {epoch}.")
    return epoch << 32


def _belongs(peer: Optional[PeerKeys], public_key: bytes) -> bool:
    return peer is not None and public_key in peer.public_keys


def _same(one: Optional[PeerKeys], other: Optional[PeerKeys]) -> bool:
    return (
        one is not None
        and other is not None
        and (one.public_keys, one.psk) == (other.public_keys, other.psk)
    )


def _bound(table: Dict[bytes, _Value], limit: int) -> None:
    """Make room for one more entry; the oldest one goes."""
    while len(table) >= limit:
        del table[next(iter(table))]


def _kind(datagram: bytes) -> Optional[int]:
    """Give the type of what has the form of an initiation, response, cookie or reset."""
    kind = datagram[0] if datagram else 0
    if _LENGTHS.get(kind) != len(datagram) or datagram[1:4] != b"\0\0\0":
        return None
    return kind


def _mac(key: bytes, data: bytes) -> bytes:
    return blake2s(data, key=key, digest_size=_MAC).digest()


def _mac1_key(public_key: bytes) -> bytes:
    return blake2s(b"ropeway mac1" + public_key).digest()


def _cookie_key(public_key: bytes) -> bytes:
    return blake2s(b"ropeway cookie" + public_key).digest()


def _cookie_cipher(cookie_key: bytes, salt: bytes) -> ChaCha20Poly1305:
    """Give the cipher of one cookie; its key is used once, so the nonce is zero."""
    return ChaCha20Poly1305(blake2s(salt, key=cookie_key).digest())
