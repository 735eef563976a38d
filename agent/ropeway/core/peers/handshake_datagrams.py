"""Datagrams that belong to no session: what comes of handshakes, and of stale ones."""

from __future__ import annotations

from ropeway.core import events, tuning
from ropeway.core.drops import Drop
from ropeway.core.endpoint import Endpoint, SocketKey, pack_endpoint
from ropeway.core.peers.connections import Connections
from ropeway.core.peers.dialogue import Dialogue
from ropeway.core.peers.links import Links
from ropeway.core.peers.outgoing import Outgoing
from ropeway.core.peers.sessions import Sessions
from ropeway.core.session.clones import CLONE_PAUSE_S
from ropeway.core.session.handshakes import Handshakes
from ropeway.core.session.initiations import PENDING_S
from ropeway.core.session.outcomes import (
    Answer,
    Completed,
    CookieReply,
    CookieTaken,
    Forgotten,
    Refused,
    Stale,
)
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.strand.state import State
from ropeway.core.strand.strand import NEVER
from ropeway.core.strand.strand_parts import OWN_STALE, STALE
from ropeway.core.tables import Tables
from ropeway.core.token_bucket import SharedBudget, TokenBucket


class HandshakeDatagrams:
    """Has datagrams of no session read, and does what they ask for, within limits."""

    def __init__(
        self,
        handshakes: Handshakes,
        tables: Tables[SecureStrand],
        links: Links,
        connections: Connections,
        dialogue: Dialogue,
        sessions: Sessions,
        outgoing: Outgoing,
        log: events.Log,
        now: float,
    ) -> None:
        self._handshakes = handshakes
        self._tables = tables
        self._links = links
        self._connections = connections
        self._dialogue = dialogue
        self._sessions = sessions
        self._outgoing = outgoing
        self._log = log
        self._notes = TokenBucket(1.0, 10, now)
        self._stale = SharedBudget(
            tuning.STALE_PER_S,
            tuning.STALE_BURST,
            tuning.STALE_STRAND_PER_S,
            tuning.STALE_STRAND_BURST,
            now,
        )

    def take(self, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float) -> None:
        """Take a datagram that is no frame of a session."""
        outcome = self._handshakes.receive(datagram, pack_endpoint(endpoint), now)
        if isinstance(outcome, Refused):
            self._tables.dropped[outcome.drop] += 1
            if outcome.note is not None and self._notes.take(now):
                self._log.report(events.HandshakeRefused(outcome.note), now)
        elif isinstance(outcome, Answer):
            self._outgoing.put(key, endpoint, outcome.reply)
            if outcome.session is not None:
                if outcome.says_stale:
                    self._note_own_stale(self._tables.strands[outcome.host], now)
                self._sessions.add(outcome.session, now)
        elif isinstance(outcome, Completed):
            strand = self._tables.strands[outcome.host]
            strand.stale.own = False
            self._sessions.add(outcome.session, now)
            self._connect_called_back(strand, key, endpoint, now)
            self._sessions.use_best(strand, now)
        elif isinstance(outcome, CookieReply):
            self._outgoing.put(key, endpoint, outcome.reply)
        elif isinstance(outcome, CookieTaken):
            strand = self._tables.strands[outcome.host]
            self._sessions.take_cookie(strand, outcome.cookie, key, endpoint, now)
        elif isinstance(outcome, Forgotten):
            self._sessions.request(self._tables.strands[outcome.host], now)
        elif isinstance(outcome, Stale):
            self._tables.dropped[Drop.STALE] += 1
            self._take_stale(outcome, datagram, key, endpoint, now)

    def _take_stale(
        self, stale: Stale, datagram: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Call back a host whose genuine handshakes are older than others before.

        Whoever plays one back must gain nothing: where it came from gets no more than came, and no
        initiation before somebody there has shown a cookie; a host that is well is left alone.
        """
        strand = self._tables.strands[stale.host]
        if now - strand.heard_at < tuning.STALE_HEARD_S:
            if not stale.repeated:
                self._note_elsewhere(strand, endpoint, now)
            return
        if not self._stale.take((strand.host, stale.proven), now):
            return
        if strand.best_state == State.ESTABLISHED and self._ask_if_there(strand, now):
            return
        strand.stale.at = now
        self._report_stale(strand, now)
        if not stale.proven:
            reply = self._handshakes.demand_cookie(datagram, pack_endpoint(endpoint), now).reply
            self._outgoing.put(key, endpoint, reply)
            return
        message = self._handshakes.call_back(stale, now)
        if message is not None:
            self._outgoing.put(key, endpoint, message)
            strand.stale.called_back[key, endpoint] = now
            if len(strand.stale.called_back) > tuning.MAX_REMOTES_PER_PEER:
                del strand.stale.called_back[next(iter(strand.stale.called_back))]

    def _report_stale(self, strand: SecureStrand, now: float) -> None:
        if now - strand.stale.reported_at >= tuning.STALE_REPORT_PAUSE_S and self._notes.take(now):
            strand.stale.reported_at = now
            self._log.report(
                events.HandshakeRefused(f"a handshake of {strand.host} was refused: {STALE}"), now
            )

    def _note_elsewhere(self, strand: SecureStrand, endpoint: Endpoint, now: float) -> None:
        """Take a host's stale handshake that came while the host itself is heard."""
        heard = {
            c.endpoint: c.heard_at
            for c in strand.connections.values()
            if now - c.heard_at < CLONE_PAUSE_S
        }
        if not heard or endpoint in heard:
            return
        here = max(heard, key=lambda known: heard[known])
        if strand.clones.note(here, endpoint, now):
            self._log.report(events.KeyShared(strand.host, here, endpoint), now)

    def _ask_if_there(self, strand: SecureStrand, now: float) -> bool:
        """Ask a host that is quiet whether it lives; return whether it may still answer."""
        if strand.stale.asked_at > strand.heard_at:
            return now - strand.stale.asked_at < tuning.STALE_ANSWER_S
        strand.stale.asked_at = now
        there = [c for c in strand.connections.values() if c.state == State.ESTABLISHED]
        for connection in sorted(there, key=lambda c: -c.heard_at)[: tuning.STALE_ASKED]:
            self._dialogue.challenge(connection, connection.path, now)
        return True

    def _connect_called_back(
        self, strand: SecureStrand, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Have a connection to where a host was called back and has answered, if there is none."""
        called_at = strand.stale.called_back.get((key, endpoint), NEVER)
        strand.stale.called_back.clear()
        link = self._links.get(key[0])
        if link is None or not link.holds(key[1]) or now - called_at >= PENDING_S:
            return
        if any(c.link == key[0] and c.endpoint == endpoint for c in strand.connections.values()):
            return
        connection = self._connections.learn(strand, key[0], 0, endpoint, now)
        if connection is not None and link.up and not link.has_no_route(endpoint[0]):
            connection.source = key[1]

    def _note_own_stale(self, strand: SecureStrand, now: float) -> None:
        """Report that a host finds this one's handshakes old, if it did not answer them."""
        if strand.session is not None or not strand.request.is_open or strand.stale.own:
            return
        strand.stale.own = True
        self._log.report(events.HandshakeRefused(f"no answer from {strand.host}: {OWN_STALE}"), now)
