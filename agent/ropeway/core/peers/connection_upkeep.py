"""What is due on a connection: greetings, keepalives, probes, and falling back in silence."""

from __future__ import annotations

import random as random_module

from ropeway.core import tuning
from ropeway.core.peers.connections import Connections
from ropeway.core.peers.dialogue import Dialogue
from ropeway.core.peers.links import Links
from ropeway.core.peers.policies import Policies
from ropeway.core.peers.questions import Questions
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.strand.state import Input, State
from ropeway.core.strand.strand import NEVER


class ConnectionUpkeep:
    """Looks at connections when their timers run out, and when data begins to flow."""

    def __init__(
        self,
        links: Links,
        connections: Connections,
        dialogue: Dialogue,
        questions: Questions,
        policies: Policies,
        random: random_module.Random,
    ) -> None:
        self._links = links
        self._connections = connections
        self._dialogue = dialogue
        self._questions = questions
        self._policies = policies
        self._random = random

    def look_at(self, connection: SecureConnection, now: float) -> None:
        """Do what is due on a connection."""
        strand = connection.strand
        if connection.source is None or strand.session is None:
            return
        if now >= connection.migration.due and connection.migration.path is not None:
            self._connections.move(connection, connection.migration.path, True, now)
        if connection.state and now >= connection.silent_at(now):
            self._connections.advance(connection, Input.SILENT, now)
        if connection.state == State.ESTABLISHED:
            if now >= connection.quality.estimate.late_due:
                connection.quality.estimate.note_late()
                self._policies.troubles.note(connection, now)
                self._policies.look(strand, now)
            if now >= connection.next_at(now):
                connection.judge_pause(now)
                self._dialogue.send_due(connection, now)
            # What a spare one carries does not matter, and probes are large.
            spare = now >= connection.spare_at
            probe = 0 if spare else connection.quality.path_mtu.probe(now, strand.is_active(now))
            if probe:
                self._dialogue.send(connection, now, probe)
        elif now >= connection.greet_at and connection.may_speak:
            self._greet(connection, now)
        self._connections.fit(connection, now)
        self._connections.schedule(connection, now)

    def wake(self, strand: SecureStrand, now: float) -> None:
        """Find out soon which connections still work, because data flows again."""
        for connection in strand.connections.values():
            connection.pacing.awoken_at = now
            connection.greet_pause_s = tuning.GREETING_MIN_S
            if connection.may_speak:
                self._dialogue.send(connection, now)
            self._connections.schedule(connection, now)
        self._policies.look(strand, now)

    def _greet(self, connection: SecureConnection, now: float) -> None:
        tried = connection.heard_at != NEVER or connection.greet_pause_s > tuning.GREETING_MIN_S
        if connection.calls and connection.state == State.SENDING and tried:
            self._connections.try_next_path(connection, now)
        self._dialogue.send(connection, now)
        pause_s = connection.greet_pause_s
        longest_s = tuning.PROBE_S
        if not connection.is_active(now):
            longest_s = tuning.IDLE_START_S
        connection.greet_pause_s = min(2 * pause_s, longest_s)
        spread = 1 + tuning.GREETING_JITTER * (2 * self._random.random() - 1)
        connection.greet_at = now + pause_s * spread
        if connection.strand.announced.places:
            link = self._links[connection.link]
            self._questions.ask_if_unreached(connection.strand, link, now)
