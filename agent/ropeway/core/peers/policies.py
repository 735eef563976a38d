"""The classes of traffic: which connections carry each class of each strand.

Written here, read by the data side: :attr:`ropeway.core.tables.Tables.classifier`, and in each
strand :attr:`ropeway.core.strand.secure.SecureStrand.classes`.
"""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ropeway.core import tuning
from ropeway.core.frame.control import TAKES_PARITY
from ropeway.core.frame.data import LANES
from ropeway.core.link import Role
from ropeway.core.packet.traffic_class import Classifier, Match, Mode, TrafficClass
from ropeway.core.peers.links import Links
from ropeway.core.peers.troubles import Troubles
from ropeway.core.strand.class_table import ClassTable, Share
from ropeway.core.strand.policy import Chooser, Connections, chooser_for, cost_ms
from ropeway.core.strand.probing import ProbeBudget
from ropeway.core.strand.secure import SecureConnection, SecureStrand
from ropeway.core.strand.state import State
from ropeway.core.tables import Tables


class _Kind(NamedTuple):
    """Classes that the same connections carry: one chooser of each strand does for all of them."""

    #: What they have in common.
    like: TrafficClass
    #: Numbers of the classes.
    numbers: Tuple[int, ...]


class Policies:
    """Has the choosers of all strands asked when something has changed."""

    def __init__(self, tables: Tables[SecureStrand], links: Links, troubles: Troubles) -> None:
        self._tables = tables
        #: Which connections fail together.
        self.troubles = troubles
        self._links = links
        self._budget = ProbeBudget(tables.strands)
        #: In the order in which they match.
        self.classes: Tuple[TrafficClass, ...] = ()
        #: For how long at most the other ends hold packets back, by lane.
        self.holds_ms: Tuple[int, ...] = ()
        #: How many packets a parity frame of this host covers, by lane, 0 for none; empty where no
        #: class has parity.
        self.parities: Tuple[int, ...] = ()
        # The lane of each class and of the rest, None for those that need none.
        self._lanes: Tuple[Optional[int], ...] = ()
        # By strand, one for each kind of class.
        self._choosers: Dict[SecureStrand, List[Chooser]] = {}
        self._kinds: List[_Kind] = []
        # Patterns of links that never carry a class, by class; the rest goes over all.
        self._off: Tuple[Tuple[str, ...], ...] = ()

    def set_classes(self, classes: Sequence[TrafficClass], now: float) -> None:
        """Take other classes, in the order in which they match; without any all is redundant."""
        if tuple(classes) == self.classes:
            return
        self.classes = tuple(classes)
        self._off = (*(one.off for one in classes), ())
        self._kinds = _kinds(classes)
        in_lanes = [one for one in classes if one.has_lane][:LANES]
        self.holds_ms = tuple(one.hold_ms for one in in_lanes)
        parities = tuple(one.parity for one in in_lanes)
        self.parities = parities if any(parities) else ()
        free = iter(range(len(in_lanes)))
        self._lanes = (*(next(free, None) if one.has_lane else None for one in classes), None)
        self._choosers.clear()
        self._tables.repeats.clear()
        limits = (*(one.within_ms for one in classes), tuning.DEADLINE_MS)
        self._tables.within_ms = limits if classes else ()
        self._tables.classifier = Classifier([c.match for c in classes]) if classes else None
        for strand in self._tables.strands.values():
            strand.classes = ()
            for connection in strand.connections.values():
                connection.probe_s = tuning.PROBE_S
            self.look(strand, now)

    def look(self, strand: SecureStrand, now: float) -> None:
        """Choose again for a strand, because something was measured or has changed."""
        if not self.classes:
            return
        choosers = self._choosers.get(strand)
        if choosers is None:
            choosers = [chooser_for(kind.like, self.troubles.together) for kind in self._kinds]
            self._choosers[strand] = choosers
            unordered = (*(not one.hold_ms for one in self.classes), True)
            strand.classes = tuple(map(ClassTable, self._lanes, unordered))
        for chooser, kind in zip(choosers, self._kinds):
            self._choose(strand, chooser, kind, now)
        self._pace(strand, choosers, now)
        if not strand.is_active(now):
            for table in strand.classes:
                table.forget_recent()

    def _pace(self, strand: SecureStrand, choosers: List[Chooser], now: float) -> None:
        """Have connections measured as often as their choosers wish and the budget lasts."""
        wished = [self._wish_s(strand, choosers, c, now) for c in strand.carrying]
        asked_per_s = sum(1 / pause_s for pause_s in wished if pause_s < tuning.PROBE_S)
        stretch = max(1.0, asked_per_s * self._budget.pause_s(strand, now)) if asked_per_s else 1.0
        for connection, pause_s in zip(strand.carrying, wished):
            if pause_s < tuning.PROBE_S and pause_s * stretch > tuning.SLOW_PROBE_S:
                trusted = self._is_trusted(strand, choosers, connection)
                connection.probe_s = tuning.SLOW_PROBE_S if trusted else tuning.PROBE_S
            else:
                connection.probe_s = min(pause_s * stretch, tuning.PROBE_S)

    def _wish_s(
        self,
        strand: SecureStrand,
        choosers: List[Chooser],
        connection: SecureConnection,
        now: float,
    ) -> float:
        """Return how often choosers want a connection measured; where bytes cost money, need it."""
        if not connection.metered:
            return min(one.probe_s(connection) for one in choosers)
        quiet = now >= connection.spare_at
        if quiet or not self._is_trusted(strand, choosers, connection):
            return tuning.PROBE_S
        return max(tuning.QUICK_PROBE_S, min(one.probe_s(connection) for one in choosers))

    def _is_trusted(
        self, strand: SecureStrand, choosers: List[Chooser], connection: SecureConnection
    ) -> bool:
        """Return whether a connection carries packets of which others carry no copies."""
        for chooser, kind in zip(choosers, self._kinds):
            carrying = strand.classes[kind.numbers[0]].carrying
            if chooser.repeats and connection in carrying:
                return True
        return False

    def answered_pause_s(self, connection: SecureConnection, now: float) -> float:
        """Return how far apart the other end's questions have to be, over all connections."""
        return self._budget.answered_pause_s(connection.strand, now)

    def _choose(self, strand: SecureStrand, chooser: Chooser, kind: _Kind, now: float) -> None:
        """Choose again for classes of one kind."""
        candidates, off = strand.carrying, kind.like.off
        if off:
            # What carries only in need does so for a class that has nothing else.
            spares = tuple(c for c in strand.spares if _is_spare(c))
            candidates = self._without(off, candidates) or self._without(off, spares)
        before = strand.classes[kind.numbers[0]]
        if kind.like.parity and before.lane is not None:
            session = strand.session
            taken = session is not None and session.features & TAKES_PARITY
            chooser.parity = kind.like.parity if taken else 0
        carrying = chooser.choose(candidates, now)
        if off and candidates and candidates[0] in strand.spares:
            # The strand's own limit is that of the connections that carry the rest.
            strand.limit = min([strand.limit, *(c.mtu for c in carrying)])
        shares = chooser.shares if len(carrying) > 1 else ()
        if kind.like.parity:
            self._choose_parity(strand, candidates, carrying, shares, kind, now)
        kept = chooser.repeats and (bool(shares) or len(carrying) < len(candidates))
        added: Connections = ()
        if chooser.lost:
            added = carrying[:1]
        elif chooser.repeat_since is not None:
            added = tuple(c for c in carrying if c not in before.carrying)
        elif (carrying, kept, shares) == (before.carrying, before.kept, before.shares):
            return
        for number in kind.numbers:
            table = strand.classes[number]
            table.carrying, table.kept, table.shares = carrying, kept, shares
            table.direct = carrying if not kept and table.lane is None else ()
            if chooser.repeat_since is not None:
                repeat = (table, added, chooser.repeat_since, chooser.lost)
                self._tables.repeats.append(repeat)

    def _choose_parity(
        self,
        strand: SecureStrand,
        candidates: Connections,
        carrying: Connections,
        shares: Sequence[Share],
        kind: _Kind,
        now: float,
    ) -> None:
        """Choose the connection for the parity frames of classes of one kind.

        It is the best one that carries none of their packets, or the best. Copies over several
        connections do more than such frames, which rest meanwhile.
        """
        needed = bool(carrying) and (len(carrying) == 1 or bool(shares))
        others = [c for c in candidates if c not in carrying] or carrying
        over = min(others, key=lambda c: cost_ms(c, now)) if needed else None
        for number in kind.numbers:
            table = strand.classes[number]
            table.parity = kind.like.parity if over is not None and table.lane is not None else 0
            table.parity_over = over
            if kind.like.mode is Mode.ADAPTIVE:
                # What is repaired has to be in time as well.
                wait_s = tuning.PARITY_SHARE * kind.like.within_ms / 1000
                table.parity_wait_s = min(wait_s, tuning.PARITY_AGE_S)

    def forget(self, strand: SecureStrand) -> None:
        """Forget a strand that is gone."""
        self._choosers.pop(strand, None)

    def status(self) -> List[Dict[str, Any]]:
        """Return the classes, ready for JSON."""
        return [
            {"name": one.name, "mode": one.mode.value, "parity": one.parity} for one in self.classes
        ]

    def of_strand(self, strand: SecureStrand) -> List[Dict[str, Any]]:
        """Return what carries each class of a strand, ready for JSON; the last one is the rest."""
        names = [*(one.name for one in self.classes), None]
        return [
            {
                "name": name,
                "links": sorted({c.link for c in table.carrying}),
                "packets": table.packets,
                "repeated": table.repeated,
                "parity_frames": table.parity_frames,
                "repaired": strand.repaired.get(-1 if name is None else number, 0),
            }
            for number, (name, table) in enumerate(zip(names, strand.classes))
        ]

    def name_of(self, number: Optional[int]) -> Tuple[Optional[str], str]:
        """Return name and mode of a class; of none for the rest, which goes over all links."""
        if number is None or number >= len(self.classes):
            return None, Mode.REDUNDANT.value
        return self.classes[number].name, self.classes[number].mode.value

    def parity_of(
        self, strand: SecureStrand, number: Optional[int]
    ) -> Tuple[int, Optional[SecureConnection]]:
        """Return how many packets of a class a parity frame covers, and where such go now."""
        if number is None or number >= len(self.classes):
            return 0, None
        return self.classes[number].parity, strand.classes[number].parity_over

    def why_not(
        self,
        strand: SecureStrand,
        number: Optional[int],
        connection: SecureConnection,
        now: float,
    ) -> Optional[str]:
        """Return why a connection does not carry a class, as the end of a sentence.

        Nothing is in it if it does. None where it is the connection's state that keeps it from
        that, and not the class. Without classes ``number`` is None.
        """
        if number is not None and self._is_off(connection, self._off[number]):
            return "it is off for the class"
        chosen = strand.carrying if number is None else strand.classes[number].carrying
        if connection in chosen:
            return ""
        if connection in strand.spares:
            if connection.duty is Role.LAST:
                return "its budget is used up, and it carries only what no other link does"
            return "its budget is used up, and it carries nothing"
        if connection in strand.carrying:
            metered = " and its bytes cost money" if connection.metered else ""
            joint = self._joint(connection, chosen, now)
            return f"others are better for the class now{metered and ','}{metered}{joint}"
        if connection.state == State.ESTABLISHED:
            return "enough others carry already"
        return None

    def _joint(
        self, connection: SecureConnection, chosen: Tuple[SecureConnection, ...], now: float
    ) -> str:
        """Return what to add if a connection fails together with one that carries; mostly ""."""
        for one in chosen:
            link = self._links.get(one.link)
            joint = self.troubles.together(connection, one, now)
            if link is not None and joint >= tuning.TOGETHER_SHOWN:
                return f", and it shares {100 * joint:.0f} % of its troubles with {link.name}"
        return ""

    def _without(
        self, off: Tuple[str, ...], connections: Tuple[SecureConnection, ...]
    ) -> Tuple[SecureConnection, ...]:
        """Return the connections that may carry a class, without those over links that never do."""
        return tuple(c for c in connections if not self._is_off(c, off))

    def _is_off(self, connection: SecureConnection, patterns: Tuple[str, ...]) -> bool:
        link = self._links.get(connection.link)
        return link is not None and any(fnmatch.fnmatchcase(link.name, one) for one in patterns)


def _kinds(classes: Sequence[TrafficClass]) -> List[_Kind]:
    """Put together the classes that differ in nothing but what matches; the last is the rest."""
    # What matches no class goes over all.
    rest = TrafficClass("", Match())
    found: Dict[TrafficClass, List[int]] = {}
    every = (*classes, rest)
    for number, one in enumerate(every):
        kind = replace(
            one,
            name=rest.name,
            match=rest.match,
            hold_ms=rest.hold_ms,
            copies=one.copies if one.mode is Mode.REDUNDANT else rest.copies,
            within_ms=one.within_ms if one.mode is Mode.ADAPTIVE else rest.within_ms,
        )
        found.setdefault(kind, []).append(number)
    return [_Kind(kind, tuple(numbers)) for kind, numbers in found.items()]


def _is_spare(connection: SecureConnection) -> bool:
    """Return whether a connection works that carries only what no other one does."""
    return connection.duty is Role.LAST and connection.state == State.ESTABLISHED
