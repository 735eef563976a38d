"""Hosts that make sessions with each other, with a clock and randomness of the test's own."""

import random
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Tuple

from ropeway.core.drops import Drop
from ropeway.core.endpoint import pack_endpoint
from ropeway.core.frame.data import CONTROL, CONTROL_AD
from ropeway.core.session.handshakes import Handshakes
from ropeway.core.session.noise import KeyPair
from ropeway.core.session.outcomes import Answer, Completed
from ropeway.core.session.session import PeerSessions
from ropeway.core.session.table import SessionTable

NO_PSK = bytes(32)
SOURCE = pack_endpoint(("192.0.2.1", 51840))


@dataclass(frozen=True)
class Peer:
    host: str
    public_keys: Tuple[bytes, ...]
    psk: bytes = NO_PSK


def keys(name):
    """Give the same key pair for the same name."""
    return KeyPair.of(random.Random(f"key of {name}").getrandbits(256).to_bytes(32, "little"))


class Host:
    """One host; what a node does with sessions and nothing more."""

    def __init__(
        self, address, epoch=1, identity=None, rollover_s=120.0, now=0.0, former_reset_keys=()
    ):
        self.address = address
        self.identity = identity or keys(address)
        self.rollover_s = rollover_s
        source = random.Random(f"entropy of {address} in epoch {epoch}")
        self.draw = lambda size: source.getrandbits(8 * size).to_bytes(size, "little")
        self.reset_keys = (self.draw(32), *former_reset_keys)
        self.handshakes = Handshakes(
            self.identity,
            IPv4Address(address).packed,
            epoch,
            lambda size: self.draw(size),
            now,
            SessionTable(),
            self.reset_keys,
        )
        self.peers = {}
        self.settings = []

    def know(self, *peers):
        self.settings = list(peers)
        ended = self.handshakes.set_peers(peers)
        for session in ended:
            self.peers[session.host].remove(session)
        for peer in peers:
            self.peers.setdefault(peer.host, PeerSessions(self.rollover_s))
        return ended

    def restarted(self, epoch, now):
        other = Host(self.address, epoch, self.identity, self.rollover_s, now, self.reset_keys)
        other.know(*self.settings)
        return other

    def receive(self, datagram, now, source=SOURCE):
        outcome = self.handshakes.receive(datagram, source, now)
        if isinstance(outcome, (Answer, Completed)) and outcome.session is not None:
            for gone in self.peers[outcome.host].add(outcome.session, now):
                self.handshakes.release(gone)
        return outcome

    def expire(self, now):
        for sessions in self.peers.values():
            for gone in sessions.expire(now):
                self.handshakes.release(gone)

    def frame(self, host, body):
        """Seal a control frame under the session in use."""
        return bytes((CONTROL, 0, 0, 0)) + self.peers[host].sending.seal(CONTROL_AD, body)

    def read(self, frame, now):
        session = self.handshakes.table.by_index.get(frame[4:8])
        if session is None:
            return Drop.UNKNOWN_SESSION
        body = session.open(frame)
        if not isinstance(body, Drop):
            session.heard_at = now
            self.peers[session.host].confirm(session, now)
        return body


A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def two_hosts(psk=NO_PSK, **options):
    """Give two hosts that know each other; no session yet."""
    one, other = Host(A, **options), Host(B, **options)
    one.know(Peer(B, (other.identity.public,), psk))
    other.know(Peer(A, (one.identity.public,), psk))
    return one, other


def shake_hands(one, other, now):
    """Let ``one`` begin and complete a handshake; ``other`` has heard a frame under it."""
    (initiation,) = one.handshakes.initiate(other.address, now)
    answer = other.receive(initiation, now)
    assert isinstance(answer, Answer), answer
    completed = one.receive(answer.reply, now)
    assert isinstance(completed, Completed), completed
    assert other.read(one.frame(other.address, b"here"), now) == b"here"
    return completed.session
