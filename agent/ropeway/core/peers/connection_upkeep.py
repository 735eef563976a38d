"""What is due on a connection: greetings, keepalives, probes, and falling back in silence."""

from __future__ import annotations

import random as random_module

from ropeway.core import tuning
from ropeway.core.peers.connections import Connections, probes_once
from ropeway.core.peers.dialogue import Dialogue
from ropeway.core.peers.links import Links
from ropeway.core.peers.policies import Policies
from ropeway.core.peers.questions import Questions
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.strand.state import Input, State
from ropeway.core.strand.strand import NEVER
from ropeway.core.timers import NOT_DUE


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
        if self._save(connection, now) and connection.state == State.ESTABLISHED:
            self._dialogue.send(connection, now)
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
                if connection.quality.estimate.is_awaited:
                    # Nothing else may come that shows how late the answer is by now.
                    self._policies.look(strand, now)
                self._dialogue.send_due(connection, now)
            probe = self._probe(connection, now)
            if probe:
                self._dialogue.send(connection, now, probe)
        elif now >= connection.greet_at and connection.may_speak:
            self._greet(connection, now)
        self._connections.fit(connection, now)
        self._connections.schedule(connection, now)

    def wake(self, strand: SecureStrand, now: float) -> None:
        """Find out soon which connections still work, because data flows again."""
        for connection in strand.connections.values():
            self._save(connection, now)
            if connection.metered and now >= connection.spare_at:
                self._connections.schedule(connection, now)
                continue
            connection.pacing.awoken_at = now
            connection.greet_pause_s = tuning.GREETING_MIN_S
            if connection.may_speak:
                self._dialogue.send(connection, now)
            self._connections.schedule(connection, now)
        self._policies.look(strand, now)

    def _save(self, connection: SecureConnection, now: float) -> bool:
        """Keep a metered connection quiet while others carry the data; True if it no longer is.

        One stays lively while data flows: without any, nobody knew that the host is there.
        """
        strand = connection.strand
        if connection in strand.spares:
            return False
        used = connection.metering.is_used(connection.traffic.sent, now)
        if not connection.metered or (
            strand.is_active(now) and (used or _is_alone(connection, now))
        ):
            woken = connection.spare_at != NOT_DUE
            if woken:
                connection.spare_at = NOT_DUE
                connection.pacing.awoken_at = now
            return woken
        connection.spare_at = min(connection.spare_at, now)
        return False

    def _probe(self, connection: SecureConnection, now: float) -> int:
        """Return the size of a path MTU probe that is due, 0 for none: probes are large."""
        path_mtu = connection.quality.path_mtu
        if now >= connection.spare_at and not probes_once(connection, now):
            return 0
        active = connection.strand.is_active(now) and not connection.metered
        return path_mtu.probe(now, active)

    def _greet(self, connection: SecureConnection, now: float) -> None:
        tried = connection.heard_at != NEVER or connection.greet_pause_s > tuning.GREETING_MIN_S
        if connection.calls and connection.state == State.SENDING and tried:
            self._connections.try_next_path(connection, now)
        self._dialogue.send(connection, now)
        pause_s = connection.greet_pause_s
        longest_s = tuning.PROBE_S
        if not connection.is_active(now):
            longest_s = tuning.IDLE_START_S
            if connection.metered:
                active = connection.strand.is_active(now)
                longest_s = tuning.METERED_GREET_S if active else tuning.METERED_MUTUAL_S
        connection.greet_pause_s = min(2 * pause_s, longest_s)
        spread = 1 + tuning.GREETING_JITTER * (2 * self._random.random() - 1)
        connection.greet_at = now + pause_s * spread
        if connection.strand.announced.places:
            link = self._links[connection.link]
            self._questions.ask_if_unreached(connection.strand, link, now)


def _is_alone(connection: SecureConnection, now: float) -> bool:
    """Return whether no other connection to the host carries packets and is lively."""
    return not any(
        one.state == State.ESTABLISHED and now < one.spare_at
        for one in connection.strand.carrying
        if one is not connection
    )
