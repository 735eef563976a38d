"""The sessions of all strands: when one is asked for, which one seals, and how they end."""

from __future__ import annotations

import random as random_module
from typing import Callable, Sequence, Union

from ropeway.core import events, tuning
from ropeway.core.drops import Drop
from ropeway.core.endpoint import Endpoint, SocketKey
from ropeway.core.peers.connections import Connections
from ropeway.core.peers.dialogue import Dialogue
from ropeway.core.peers.outgoing import Outgoing
from ropeway.core.peers.settling import Settling
from ropeway.core.session.handshakes import Handshakes
from ropeway.core.session.messages import with_cookie
from ropeway.core.session.session import SKIP_COUNTERS, Session
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.strand.state import Input
from ropeway.core.tables import Tables
from ropeway.core.timers import Timers


class Sessions:
    """Has handshakes begun when a strand needs a session, and takes those that come of them."""

    def __init__(
        self,
        handshakes: Handshakes,
        tables: Tables[SecureStrand],
        connections: Connections,
        dialogue: Dialogue,
        settling: Settling,
        outgoing: Outgoing,
        timers: Timers[Union[SecureConnection, SecureStrand]],
        log: events.Log,
        random: random_module.Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._handshakes = handshakes
        self._tables = tables
        self._connections = connections
        self._dialogue = dialogue
        self._settling = settling
        self._outgoing = outgoing
        self._timers = timers
        self._log = log
        self._random = random
        self._entropy = entropy

    # Asking for one.

    def request(self, strand: SecureStrand, now: float) -> None:
        """Begin to ask for a session, or ask again soon; nothing if it was asked just now."""
        strand.request.begin(now)
        self.schedule(strand, now)

    def request_everywhere(self, now: float) -> None:
        """Ask every host for a session that has one, or that can be called."""
        for strand in self._tables.strands.values():
            if strand.session is not None or strand.endpoints:
                self.request(strand, now)

    def take_cookie(
        self, strand: SecureStrand, cookie: bytes, key: SocketKey, endpoint: Endpoint, now: float
    ) -> None:
        """Ask again, with the cookie, where it came from; anybody could have sent it, so once."""
        for connection in strand.connections.values():
            known = not connection.cookie.may_take(now)
            here = (connection.link, connection.path) == (key[0], (endpoint, key[1]))
            if not here or known or not connection.may_speak:
                continue
            connection.cookie.take(cookie, now)
            if strand.request.is_open:
                for message in self._handshakes.initiate(strand.host, now):
                    repeated = with_cookie(message, cookie)
                    self._outgoing.put(key, endpoint, repeated)

    def look_at(self, strand: SecureStrand, now: float) -> None:
        """Do what is due on a strand."""
        self._expire(strand, now)
        if not strand.request.is_open and strand.needs_session(now):
            self.request(strand, now)
        if now >= strand.request.due:
            self._initiate(strand, now)
        if strand.waiting.packets and strand.waiting.is_over(now):
            self._settling.give_up(strand)
        self.schedule(strand, now)

    def schedule(self, strand: SecureStrand, now: float) -> None:
        """Set the timer of a strand to the moment at which something is due."""
        if strand.is_active(now):
            look_at = now + tuning.SESSION_LOOK_S
        elif strand.session is None or strand.waiting.packets:
            look_at = now + tuning.SESSION_LOOK_IDLE_S
        else:
            rest_until = min(strand.sessions.rest_until(), now + tuning.SESSION_LOOK_REST_S)
            look_at = max(rest_until, now + tuning.SESSION_LOOK_IDLE_S)
        due = min(strand.request.due, look_at)
        self._timers.bring_forward(strand, max(due, now))

    def _initiate(self, strand: SecureStrand, now: float) -> None:
        """Ask for a session over every connection that leads anywhere."""
        if strand.session is None and strand.request.pause_s > tuning.INITIATE_MIN_S:
            self._try_other_paths(strand, now)
        paths = {
            (connection.link, connection.path): connection
            for connection in strand.connections.values()
            if connection.source is not None and connection.may_speak
        }
        strand.request.sent_at = now
        spread = 1 + tuning.GREETING_JITTER * (2 * self._random.random() - 1)
        strand.request.due = now + strand.request.pause_s * spread
        asked = now < max(strand.idle_at, strand.request.packet_at + tuning.ASKED_S)
        longest_s = tuning.INITIATE_ASKED_S if asked else tuning.INITIATE_MAX_S
        pause_s = strand.request.pause_s * tuning.INITIATE_GROWTH
        strand.request.pause_s = min(pause_s, longest_s)
        if not paths:
            return
        self._report_unanswered(strand, now)
        for message in self._handshakes.initiate(strand.host, now):
            for connection in paths.values():
                if connection.source is None:
                    continue
                datagram = message
                if connection.cookie.is_good(now):
                    datagram = with_cookie(message, connection.cookie.value)
                key = (connection.link, connection.source)
                self._outgoing.put(key, connection.endpoint, datagram)

    def _try_other_paths(self, strand: SecureStrand, now: float) -> None:
        for connection in strand.connections.values():
            answered = connection.cookie.is_good(now)
            if connection.source is not None and connection.calls and not answered:
                self._connections.try_next_path(connection, now)

    def _report_unanswered(self, strand: SecureStrand, now: float) -> None:
        """Report once, after a while, that a host does not answer."""
        waiting = (
            strand.session is None and now - strand.request.wanted_since >= tuning.UNANSWERED_S
        )
        if not waiting or strand.request.reported:
            return
        reason = strand.handshake_fault(now)
        if reason is not None:
            strand.request.reported = True
            self._log.report(events.SessionUnanswered(strand.host, reason), now)

    # Using one.

    def add(self, session: Session, now: float) -> None:
        """Take a new session; its strand may go on with the one that it has."""
        strand = self._tables.strands[session.host]
        for removed in strand.sessions.add(session, now):
            self._handshakes.release(removed)
        self.schedule(strand, now)

    def open(self, session: Session, datagram: bytes, now: float) -> Union[bytes, Drop]:
        """Return the body of a frame of the control side, or why not; note that its host lives."""
        body = session.open(datagram)
        if not isinstance(body, Drop):
            session.heard_at = self._tables.strands[session.host].heard_at = now
            if not session.confirmed:
                self.confirm(session, now)
        return body

    def confirm(self, session: Session, now: float) -> None:
        """Take the first frame that proves that the other end has a session's keys."""
        strand = self._tables.strands[session.host]
        strand.sessions.confirm(session, now)
        self.use_best(strand, now)

    def use_best(self, strand: SecureStrand, now: float) -> None:
        """Send under the session that has to be used now, and say so on every connection."""
        before, session = strand.session, strand.sessions.sending
        strand.heard_at = now
        if session is before or session is None:
            return
        strand.session = session
        if before is None:
            self._log.report(events.SessionMade(strand.host), now)
        else:
            strand.rollovers += 1
        strand.request.end()
        strand.shut_out = False
        for connection in strand.connections.values():
            # The other end may have started anew and know nothing.
            connection.pacing.sent_places = ()
            # The first frame under it tells the other end that it can be used.
            if connection.may_speak:
                self._dialogue.send(connection, now)
                connection.greet_at = max(connection.greet_at, now + connection.greet_pause_s)
            self._connections.schedule(connection, now)
        self._settling.note(strand)
        self.schedule(strand, now)

    # Ending them.

    def end(self, session: Session, reason: str, now: float) -> None:
        """End a session; ``reason`` ends the sentence that reports it."""
        self._handshakes.release(session)
        strand = self._tables.strands.get(session.host)
        if strand is None:
            return
        strand.sessions.remove(session)
        if strand.session is session:
            self._lose(strand, reason, now)

    def end_all_of(self, strand: SecureStrand, reason: str, now: float) -> None:
        """End every session with one host."""
        for session in list(strand.sessions.sessions):
            self.end(session, reason, now)

    def remove(self, strand: SecureStrand, now: float) -> None:
        """End every session with a host that does not belong here any more."""
        self.end_all_of(strand, "the host was removed", now)
        self._timers.remove(strand)

    def end_all(self, reason: str, epoch: int, reset_keys: Sequence[bytes], now: float) -> None:
        """End all sessions at once and make new ones: a copy of this machine has their keys.

        ``epoch`` and ``reset_keys`` are as for a new start.
        """
        self._handshakes.start_anew(epoch, reset_keys, now)
        self._handshakes.forget_answers()
        for strand in self._tables.strands.values():
            self.end_all_of(strand, reason, now)
            if strand.request.is_open:
                self.request(strand, now)

    def replace_all(self, epoch: int, reset_keys: Sequence[bytes], now: float) -> None:
        """Make new sessions, as there may be a copy of this machine; those that there are carry on.

        Until then they go on with counters that no copy uses.
        """
        self._handshakes.start_anew(epoch, reset_keys, now)
        for strand in self._tables.strands.values():
            for session in strand.sessions.sessions:
                session.skip(int.from_bytes(self._entropy(8), "little") % SKIP_COUNTERS)
            if strand.session is not None or strand.request.is_open:
                self.request(strand, now)

    def expire_all(self, now: float) -> None:
        """End sessions that have become too old while nothing ran here."""
        for strand in self._tables.strands.values():
            self._expire(strand, now)

    def _expire(self, strand: SecureStrand, now: float) -> None:
        for session in strand.sessions.expire(now):
            self._handshakes.release(session)
        if strand.session is not None and strand.sessions.sending is not strand.session:
            self._lose(strand, "it was not renewed", now)

    def _lose(self, strand: SecureStrand, reason: str, now: float) -> None:
        strand.session = strand.sessions.sending
        if strand.session is not None:
            return
        self._log.report(events.SessionLost(strand.host, reason), now)
        for connection in strand.connections.values():
            self._connections.advance(connection, Input.GONE, now, "there is no session")
        self._settling.note(strand)
        self.request(strand, now)

    # Whether hosts answer.

    def unanswered(self, now: float) -> bool:
        """Return whether a host does not answer, perhaps because this one's epoch is too low."""
        return any(
            strand.stale.own
            or (strand.session is None and now - strand.request.wanted_since >= tuning.UNANSWERED_S)
            for strand in self._tables.strands.values()
        )

    def raise_epoch(self, epoch: int) -> None:
        """Begin handshakes with this epoch from now on, if it is greater."""
        self._handshakes.raise_epoch(epoch)
        for strand in self._tables.strands.values():
            strand.stale.own = False
