"""Secure sessions: the keys that seal one peer's frames, and how they take turns.

:mod:`ropeway.core.session.handshakes` makes them, by handshakes. Each session has an initiator, who
sends under it as soon as the handshake is complete, and a responder, who waits for the first
authentic frame under it (``confirm``), because only that proves that the answer has arrived and
that nobody has played back an old initiation. The session that one end sends under need not be the
one that the other end sends under: what is superseded stays readable until nothing has come under
it for :data:`LINGER_S`.
"""

from __future__ import annotations

import struct
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

from cryptography.exceptions import InvalidTag

from ropeway.core.drops import Drop
from ropeway.core.frame.data import HEADER_SIZE, LANE_NONCE, LANES, NONCE, NONCE_PREFIX, OVERHEAD
from ropeway.core.session.aead import TransportCipher
from ropeway.core.session.replay import ReplayWindow

#: A session is replaced after so many frames; each frame has its own nonce up to 2**64.
ROLLOVER_FRAMES = 2**40
#: What a copy of this machine may have sealed is skipped by a random number of counters below this:
#: where 2**23 frames were, as in two minutes at 70 000 a second, another copy meets them once in
#: 2**29 times. A session lives for an hour at most, so that so many skips, one a second, fit into
#: 64 bits.
SKIP_COUNTERS = 2**52
#: How long after its rollover was due a session is still used for sending, in seconds.
OVERDUE_S = 60.0
#: How much later than the initiator the responder begins a rollover that is due, in seconds; at
#: most half the time between rollovers.
RESPONDER_GRACE_S = 10.0
#: A superseded session is readable until nothing has been heard under it for this time, in seconds.
LINGER_S = 30.0
#: Sessions of one peer that are kept; the one least in use gives way to a new one.
MAX_SESSIONS = 4
#: Two sessions that both ends began so close together, in seconds, were begun at the same time.
SIMULTANEOUS_S = 5.0

_COUNTER = struct.Struct("<Q")


class Session:
    """One pair of keys, and what has been sent and received under it. Keys are in no repr."""

    __slots__ = (
        "confirmed",
        "counter",
        "created_at",
        "decrypt",
        "encrypt",
        "features",
        "forgotten_at",
        "heard_at",
        "host",
        "initiated",
        "lane_counters",
        "lane_windows",
        "local_index",
        "public_key",
        "receive_key",
        "remote_index",
        "reset_token",
        "send_key",
        "superseded_at",
        "takes_lanes",
        "takes_partial",
        "window",
    )

    def __init__(
        self,
        *,
        host: str,
        public_key: bytes,
        local_index: bytes,
        remote_index: bytes,
        initiated: bool,
        send_key: bytes,
        receive_key: bytes,
        reset_token: bytes,
        now: float,
    ) -> None:
        #: The peer's virtual address, and the public key that it has proven to own.
        self.host = host
        self.public_key = public_key
        #: 4 bytes that the peer puts into frames to this host, and those that it expects.
        self.local_index = local_index
        self.remote_index = remote_index
        #: Whether this host began the handshake.
        self.initiated = initiated
        #: Whether the peer is known to have the keys too.
        self.confirmed = initiated
        #: Monotonic seconds: when the keys were made, when an authentic frame came last, since when
        #: another session is used for sending (None while that is not so), and when the peer last
        #: said that it no longer knows the session.
        self.created_at = now
        self.heard_at = now
        self.superseded_at: Optional[float] = None
        self.forgotten_at: Optional[float] = None
        #: The counter of the next frame to be sealed.
        self.counter = 0
        #: Whether the peer has said that it takes PARTIAL frames, under this session or one begun
        #: at the same time.
        self.takes_partial = False
        #: Whether the peer has said that it takes the frames of lanes, as above.
        self.takes_lanes = False
        #: What else the peer has said that it takes, as above: bits of
        #: :attr:`ropeway.core.frame.control.Control.features`.
        self.features = 0
        #: The counter of the next frame to be sealed, by lane.
        self.lane_counters = [0] * LANES
        #: Which counters of the peer have been received, by lane, for those that it has used.
        self.lane_windows: Dict[int, ReplayWindow] = {}
        #: Which counters of the peer have been received.
        self.window = ReplayWindow()
        #: 16 bytes with which the peer proves that it has forgotten the session.
        self.reset_token = reset_token
        #: 32 bytes each, secret.
        self.send_key = send_key
        self.receive_key = receive_key
        #: ``encrypt(nonce, plain, associated data)``; ``decrypt`` alike, raises InvalidTag.
        self.encrypt: Callable[[bytes, bytes, bytes], bytes] = TransportCipher(send_key).encrypt
        self.decrypt: Callable[[bytes, bytes, bytes], bytes] = TransportCipher(receive_key).decrypt

    def skip(self, drawn: int) -> None:
        """Go on where no copy of this machine has sealed or will seal; its rollover is due.

        ``drawn`` is a secret random number below :data:`SKIP_COUNTERS`.
        """
        skipped = ROLLOVER_FRAMES + drawn
        self.counter += skipped
        self.lane_counters = [counter + skipped for counter in self.lane_counters]

    def seal(self, kind_ad: bytes, plain: bytes) -> bytes:
        """Return what follows the four per-link bytes of a frame: index, counter, ciphertext.

        ``kind_ad`` is the frame's type as one byte; for control frames and messages, data frames go
        by runs.
        """
        counter = _COUNTER.pack(self.counter)
        self.counter += 1
        return self.remote_index + counter + self.encrypt(NONCE_PREFIX + counter, plain, kind_ad)

    def seal_run(self, kind_ad: bytes, packets: Sequence[bytes]) -> Tuple[int, List[bytes]]:
        """Return the counter of the first of some frames, and what follows the header of each.

        ``kind_ad`` is DATA_AD or PARTIAL_AD. The counters of the other frames follow the first.
        """
        first = counter = self.counter
        encrypt, nonce = self.encrypt, NONCE.pack
        texts = []
        for packet in packets:
            texts.append(encrypt(nonce(counter), packet, kind_ad))
            counter += 1
        self.counter = counter
        return first, texts

    def seal_lane(
        self, kind_ad: bytes, lane: int, packets: Sequence[bytes]
    ) -> Tuple[int, List[bytes]]:
        """Do the same for packets of a lane, 0 to 7; ``kind_ad`` is the lane's type as one byte."""
        first = counter = self.lane_counters[lane]
        encrypt, nonce = self.encrypt, LANE_NONCE.pack
        texts = []
        for packet in packets:
            texts.append(encrypt(nonce(lane + 1, counter), packet, kind_ad))
            counter += 1
        self.lane_counters[lane] = counter
        return first, texts

    def open(self, datagram: bytes) -> Union[bytes, Drop]:
        """Return the body of a whole frame of this session and mark it received, or why not.

        For control frames and messages; the data path does the same in place. The session is not
        confirmed and ``heard_at`` not set by this.
        """
        if len(datagram) < OVERHEAD:
            return Drop.MALFORMED
        packed = datagram[8:HEADER_SIZE]
        (counter,) = _COUNTER.unpack(packed)
        known = self.window.check(counter)
        if known:
            return Drop.REPLAYED if known == ReplayWindow.DUPLICATE else Drop.TOO_OLD
        try:
            body = self.decrypt(NONCE_PREFIX + packed, datagram[HEADER_SIZE:], datagram[:1])
        except InvalidTag:
            return Drop.FORGED
        self.window.mark(counter)
        return body

    def __repr__(self) -> str:
        role = "initiator" if self.initiated else "responder"
        return f"Session({self.host}, {role}, {self.local_index.hex()}/{self.remote_index.hex()})"


class Order:
    """Which of a peer's frames was sent last, of those that were heard in one place.

    Each end may send under another one of two sessions that were made at the same time; of others
    what comes under the older one was sent before.
    """

    __slots__ = ("_counters", "session")

    def __init__(self) -> None:
        #: The newest session that a frame came under; None before the first.
        self.session: Optional[Session] = None
        self._counters: Dict[Session, int] = {}

    def advance(self, session: Session, counter: int) -> bool:
        """Return whether a frame was sent after all that were heard, and note it if so."""
        last, counters = self.session, self._counters
        if last is not None and session.created_at < last.created_at:
            if session.initiated == last.initiated or not _simultaneous(session, last):
                return False
        else:
            self.session = session
        if counter <= counters.get(session, -1):
            return False
        counters[session] = counter
        if len(counters) > MAX_SESSIONS:
            del counters[min(counters, key=lambda known: known.created_at)]
        return True


class PeerSessions:
    """The sessions of one peer; at most :data:`MAX_SESSIONS`.

    Of two sessions the newer one is used for sending. When both ends begin a handshake at the same
    time, two sessions come to be, and each end may send under another one of them; only one of the
    ends then begins the next rollover, which leaves one session.
    """

    __slots__ = ("rollover_s", "sending", "sessions")

    def __init__(self, rollover_s: float) -> None:
        #: A session's rollover is due at this age, in seconds, 2 to 3600; may be set at any time.
        self.rollover_s = rollover_s
        #: All that can be read, oldest first.
        self.sessions: List[Session] = []
        #: The one that frames are sealed under.
        self.sending: Optional[Session] = None

    def add(self, session: Session, now: float) -> List[Session]:
        """Take a new session; give those that gave way to it. They are to be released."""
        self.sessions.append(session)
        if session.initiated:
            self._send_under(session, now)
        removed = []
        while len(self.sessions) > MAX_SESSIONS:
            idle = min(
                (s for s in self.sessions if s is not session and s is not self.sending),
                key=lambda s: s.heard_at,
            )
            self.sessions.remove(idle)
            removed.append(idle)
        return removed

    def confirm(self, session: Session, now: float) -> None:
        """Note the first authentic frame under a session; send under it if it is the newest."""
        if session.confirmed:
            return
        session.confirmed = True
        current = self.sending
        if current is None or session.created_at >= current.created_at:
            self._send_under(session, now)
        elif session.superseded_at is None:
            session.superseded_at = now

    def note_takes(self, session: Session, partial: bool, lanes: bool, features: int) -> None:
        """Note what the peer takes, as said under ``session``: PARTIAL frames, lanes, and the rest.

        Where both ends began at the same time each may send under another session. Not every frame
        speaks of lanes and of ``features``, so who has taken them goes on to.
        """
        for one in self.sessions:
            begun_with = one.initiated != session.initiated and _simultaneous(one, session)
            if one is session or begun_with:
                one.takes_partial = partial
                one.takes_lanes = one.takes_lanes or lanes
                one.features |= features

    def remove(self, session: Session) -> None:
        """Take a session away, whatever it is used for; nothing if it is not here."""
        if session in self.sessions:
            self.sessions.remove(session)
        if session is self.sending:
            self.sending = None

    def expire(self, now: float) -> List[Session]:
        """Give up what is too old; return the sessions that are gone. The caller releases them."""
        life_s = self.rollover_s + OVERDUE_S
        sending = self.sending
        if sending is not None and now - sending.created_at >= life_s:
            sending.superseded_at = now
            self.sending = None
        removed = []
        for session in list(self.sessions):
            silent_s = now - max(session.heard_at, session.superseded_at or session.created_at)
            done = session.superseded_at is not None or now - session.created_at >= life_s
            # What an end that never rolls over keeps alive ends as well.
            over = now - session.created_at >= life_s + 2 * LINGER_S
            if over or (done and silent_s >= LINGER_S):
                self.sessions.remove(session)
                removed.append(session)
        return removed

    def rollover_due(self, now: float) -> bool:
        """Return whether this host is to begin a handshake to replace the session it sends under.

        False if there is none. Asking is free; it stays true until the new session is there.
        """
        sending = self.sending
        if sending is None:
            return False
        leads = sending.initiated and not self._other_leads(sending)
        grace_s = 0.0 if leads else min(RESPONDER_GRACE_S, self.rollover_s / 2)
        if now - sending.created_at >= self.rollover_s + grace_s:
            return True
        return max(sending.counter, sending.window.top) >= ROLLOVER_FRAMES

    def rest_until(self) -> float:
        """Return a time before which neither :meth:`expire` nor a rollover has anything to do.

        That is so until a session is added or confirmed, while little is sent.
        """
        sending = self.sending
        if sending is None or sending.superseded_at is not None or len(self.sessions) > 1:
            return float("-inf")
        return sending.created_at + self.rollover_s

    def _send_under(self, session: Session, now: float) -> None:
        for other in self.sessions:
            # An unconfirmed one may be what the peer is about to use, and is none the worse.
            if other is not session and other.confirmed and other.superseded_at is None:
                other.superseded_at = now
        session.superseded_at = None
        self.sending = session

    def _other_leads(self, sending: Session) -> bool:
        """Return whether the peer is the one to replace two sessions begun at the same time."""
        return any(
            not other.initiated
            and other.confirmed
            and _simultaneous(other, sending)
            and _rank(other) > _rank(sending)
            for other in self.sessions
        )


def _simultaneous(one: Session, other: Session) -> bool:
    return abs(one.created_at - other.created_at) < SIMULTANEOUS_S


def _rank(session: Session) -> bytes:
    """Return a number by which both ends put two sessions in the same order."""
    return max(session.send_key, session.receive_key)
