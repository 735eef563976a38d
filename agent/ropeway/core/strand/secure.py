"""The secure encapsulation's strand: sessions with one host, and sealed frames on connections."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Set, Tuple

from ropeway.core import events, tuning
from ropeway.core.endpoint import Endpoint, is_ipv6
from ropeway.core.frame.data import OVERHEAD
from ropeway.core.frame.outer import (
    IPV4_MTU_MIN,
    IPV4_SIZE,
    IPV6_MTU_MIN,
    IPV6_SIZE,
    UDP_SIZE,
    outer_size,
)
from ropeway.core.link import Role
from ropeway.core.session.clones import Clones
from ropeway.core.session.session import Order, PeerSessions, Session
from ropeway.core.strand.announcement import Announced
from ropeway.core.strand.arrivals import Arrivals, Copies
from ropeway.core.strand.class_table import ClassTable
from ropeway.core.strand.connection_parts import (
    Cookie,
    FarReport,
    Mark,
    Metering,
    Migration,
    Pacing,
    Path,
    Quality,
)
from ropeway.core.strand.joint import Joint
from ropeway.core.strand.path_mtu import BASE_MTU
from ropeway.core.strand.rescued import Rescued
from ropeway.core.strand.state import State
from ropeway.core.strand.strand import NEVER, Connection, RemoteKey, Strand
from ropeway.core.strand.strand_parts import (
    OWN_STALE,
    SHUT_OUT,
    STALE,
    PacketRate,
    SessionRequest,
    StaleHandshakes,
    Waiting,
)
from ropeway.core.timers import NOT_DUE
from ropeway.core.token_bucket import TokenBucket

_WAYS = 255
#: Different pauses of the connections of a host that has many.
_PHASES = 50


class SecureConnection(Connection):
    """A connection whose frames are UDP datagrams.

    It sends from ``source`` to ``endpoint``. While its remote interface is not known, ``remote``
    is 0, and it stands under its endpoint.
    """

    __slots__ = (
        "_marked",
        "_sooner",
        "arrivals",
        "asked_at",
        "candidates",
        "controls_heard",
        "controls_sent",
        "cookie",
        "endpoint",
        "ipv6",
        "marks",
        "metering",
        "migration",
        "order",
        "pacing",
        "probe_s",
        "proven",
        "quality",
        "reached_at",
        "remote",
        "report",
        "sequence",
        "spare_at",
        "strand",
    )

    def __init__(
        self,
        strand: SecureStrand,
        way: int,
        link: int,
        link_mtu: int,
        remote: int,
        endpoint: Endpoint,
        now: float,
    ) -> None:
        super().__init__(way, link)
        self.strand = strand
        #: The interface's index on its host; 0 while it is not known.
        self.remote = remote
        self.endpoint = endpoint
        self.ipv6 = is_ipv6(endpoint[0])
        #: The endpoints that lead to this interface: this end calls, they are greeted for good.
        #: They are configured, or announced and have answered once. Without any the connection was
        #: learnt, and is forgotten when it is silent.
        self.candidates: List[Endpoint] = []
        #: Counts data frames.
        self.sequence = 0
        self.arrivals = Arrivals(self.traffic)
        #: Which of its control frames are newer than all before.
        self.order = Order()
        #: Control frames with a measurement that were sent, and heard.
        self.controls_sent = 0
        self.controls_heard = 0
        #: The last control frames that were sent, by their marks; the oldest first.
        self.marks: Dict[int, Mark] = {}
        self._marked: Path = (endpoint, None)
        #: When the other end was asked for an answer at once, to measure.
        self.asked_at = NEVER
        #: How often it sends a control frame while data flows, in seconds; below PROBE_S each asks
        #: for an answer at once.
        self.probe_s = tuning.PROBE_S
        #: Whether an echo has proven that the other end is at the endpoint, and when the newest
        #: frame that was echoed from there had been sent.
        self.proven = False
        self.reached_at = NEVER
        #: From when on it is kept up as if no data flowed; it says so before.
        self.spare_at = NOT_DUE
        self.report = FarReport()
        self.metering = Metering()
        self.migration = Migration()
        self.pacing = Pacing(now)
        self.quality = Quality(link_mtu, IPV6_MTU_MIN if self.ipv6 else IPV4_MTU_MIN, now)
        # Of many connections each probes with a pause of its own: 1 for the usual one.
        self._sooner = 1.0
        if way > tuning.MAX_COPIES:
            self._sooner -= tuning.PROBE_SPREAD * (way % _PHASES) / _PHASES
        self.quality.path_mtu.verify_s *= self._sooner
        self.cookie = Cookie()

    @property
    def far(self) -> RemoteKey:
        """What distinguishes the remote interface."""
        return self.remote or self.endpoint

    @property
    def duty(self) -> Role:
        """Which packets it carries: either end may want fewer."""
        return max(self.role, self.report.role)

    @property
    def metered(self) -> bool:
        """Whether its bytes cost money at either end."""
        return self.metering.here or self.report.metered

    @property
    def ends(self) -> Tuple[str, int, int]:
        """The other host, the local interface's index and the remote one's, 0 if not known."""
        return self.strand.host, self.link, self.remote

    @property
    def far_address(self) -> str:
        """The remote interface's address."""
        return self.endpoint[0]

    @property
    def path(self) -> Path:
        """Where its frames go, and where from."""
        return (self.endpoint, self.source)

    @property
    def may_speak(self) -> bool:
        """Whether it may send what was not asked for.

        Not where only a frame has said that somebody is: that is no more than a claim.
        """
        return self.assured or not self.remote or self.endpoint in self.candidates

    @property
    def assured(self) -> bool:
        """Whether its endpoint is a configured one, or has answered there."""
        return self.proven or self.configured

    @property
    def configured(self) -> bool:
        """Whether it sends to an endpoint that the configuration names, or a name in it has."""
        return self.endpoint in self.candidates and self.endpoint in self.strand.endpoints

    @property
    def calls(self) -> bool:
        """Whether this end knows by itself where the other is, and so keeps the way open."""
        return bool(self.candidates)

    def fit(self) -> None:
        """Follow the path MTU."""
        outer = outer_size(self.endpoint[0]) + OVERHEAD
        self.mtu = self.quality.path_mtu.mtu - outer
        self.quality.assumed = self.quality.path_mtu.assumed

    def is_active(self, now: float) -> bool:
        """Return whether frames are expected soon: data passes, and the connection may carry it."""
        return self.strand.is_active(now) and now < self.spare_at

    def silent_at(self, now: float) -> float:
        """Return when the connection counts as silent if nothing is heard until then."""
        silence_s = tuning.SILENCE_S
        if not self.is_active(now):
            silence_s = max(silence_s, tuning.SILENT_PAUSES * self.report.pause_s)
        return max(self.heard_at, self.pacing.awoken_at) + silence_s

    def pause_s(self, now: float) -> float:
        """Return the longest time that this end leaves the connection without a frame."""
        if self.is_active(now):
            return self.probe_s
        if self.calls:
            mutual_s = tuning.METERED_MUTUAL_S if self.metered else tuning.IDLE_MUTUAL_S
            return mutual_s if self.report.calls else self.pacing.keepalive.pause_s
        if self.report.pause_s <= tuning.PROBE_S:
            return tuning.IDLE_START_S
        return self.report.pause_s

    def next_at(self, now: float) -> float:
        """Return when the next control frame of an established connection is due."""
        if self._is_quick(now):
            return min(self.sent_at + tuning.PROBE_S, self.asked_at + self.probe_s)
        if self.pacing.sent_pause_s <= tuning.PROBE_S:
            return self.sent_at + tuning.PROBE_S * self._sooner
        called = not self.calls and self.report.pause_s > tuning.PROBE_S
        if called and not self.is_active(now):
            proof_at = self.heard_at + tuning.IDLE_ANSWER_SHARE * self.report.pause_s
            if self.sent_at < self.heard_at + self.report.pause_s / 2:
                return proof_at
        return self.sent_at + self.pause_s(now)

    def wants_answer(self, now: float) -> bool:
        """Return whether the other end would otherwise leave this one waiting."""
        if self.state != State.ESTABLISHED:
            return True
        if self.is_active(now):
            return self.report.pause_s > tuning.PROBE_S
        return now - self.heard_at > self.report.pause_s

    def judge_pause(self, now: float) -> None:
        """See whether the other end's frame came before an idle pause was over."""
        if not self.calls or self.report.calls:
            return
        idle = self.sent_at >= min(self.strand.idle_at, self.spare_at)
        if idle and self.heard_at < self.sent_at + self.pacing.keepalive.pause_s / 2:
            self.pacing.keepalive.missed(now)

    def asks(self, now: float) -> bool:
        """Return whether a frame asks for an answer at once, to measure the path.

        Where questions are few, a frame that goes out anyway asks early, and spares another one.
        """
        early = self.probe_s > tuning.EARLY_ASK_S
        pause_s = self.probe_s / 2 if early else self.probe_s
        return self._is_quick(now) and now >= self.asked_at + pause_s

    def _is_quick(self, now: float) -> bool:
        """Return whether the path is measured often: it must be known where it leads."""
        quick = self.probe_s < tuning.PROBE_S
        return quick and self.proven and self.is_active(now)

    @property
    def frames_sent(self) -> int:
        """Data frames, and control frames with a measurement, that were sent."""
        return self.traffic.sent + self.controls_sent

    @property
    def frames_received(self) -> int:
        """Data frames, and control frames with a measurement, that were received."""
        return self.traffic.received + self.controls_heard

    def note_mark(self, mark: int, path: Path, now: float) -> None:
        """Note that a control frame with a mark goes out over a path."""
        marks = self.marks
        if self._marked != path:
            self._marked = path
        # One path for all of them, which is less than one for each.
        marks[mark] = Mark(now, self._marked, self.frames_sent, self.traffic.sent_bytes)
        while len(marks) > tuning.MARKS_KEPT:
            oldest = next(iter(marks))
            if len(marks) <= tuning.MAX_MARKS and now < marks[oldest].sent_at + tuning.MARKS_S:
                break
            del marks[oldest]

    def call_if_announced(self) -> None:
        """Call a host, if it is called, also where it announced itself and has answered."""
        strand, endpoint = self.strand, self.endpoint
        if not strand.endpoints or self.remote not in strand.announced.places.get(endpoint, ()):
            return
        there = [c for c in strand.connections.values() if c.link == self.link]
        # Interfaces are claimed without an end, endpoints are not.
        if not any(endpoint in c.candidates for c in there):
            self.candidates.append(endpoint)


class SecureStrand(Strand[SecureConnection]):
    """All connections to one host, with the sessions that they share.

    :class:`ropeway.core.data.send.Sender` seals what goes over them.
    """

    __slots__ = (
        "announced",
        "by_way",
        "classes",
        "clones",
        "copies",
        "endpoints",
        "far_pause_s",
        "has_names",
        "heard_at",
        "holds_ms",
        "idle_at",
        "joint",
        "lanes",
        "packet_rate",
        "parities",
        "quick_answers",
        "repaired",
        "repairs",
        "request",
        "rescued",
        "rollovers",
        "session",
        "sessions",
        "shut_out",
        "stale",
        "takes_labels",
        "waiting",
    )

    def __init__(self, host: str, sessions: PeerSessions, now: float) -> None:
        super().__init__(host)
        self.sessions = sessions
        #: The session to seal with; None while there is none.
        self.session: Optional[Session] = None
        #: The endpoints that the configuration names, and those that names in it have.
        self.endpoints: Dict[Endpoint, None] = {}
        #: Whether the configuration names it, so that endpoints come as the names resolve.
        self.has_names = False
        #: Where the other end says that it can be called.
        self.announced = Announced(now)
        #: What the other end calls our connections by, for statistics.
        self.by_way: Dict[int, SecureConnection] = {}
        #: Without data until then, the strand is idle.
        self.idle_at = now
        #: When anything that is authentic was heard on any connection.
        self.heard_at = NEVER
        #: For how long at most packets of a lane may be held back here, by lane: the other end's
        #: wish.
        self.holds_ms: Tuple[int, ...] = ()
        #: What the data side holds back of the lanes that the other end uses, by lane.
        self.lanes: Dict[int, Any] = {}
        #: How many packets a parity frame of the other end covers, by lane, 0 for none; and what
        #: the data side keeps for it, and the packets that it made: how many, by class.
        self.parities: Tuple[int, ...] = ()
        self.repairs: Dict[int, Any] = {}
        self.repaired: Dict[int, int] = {}
        #: Whether the other end takes labels, by its last control frame that says so under any
        #: session; None before the first.
        self.takes_labels: Optional[bool] = None
        self.rollovers = 0
        #: By class of traffic, the last one is that of the rest; empty without classes.
        self.classes: Tuple[ClassTable, ...] = ()
        self.rescued = Rescued()
        self.copies = Copies()
        #: Which of its interfaces fail together; None before the first trouble.
        self.joint: Optional[Joint[RemoteKey]] = None
        #: Copies of packets that it is sent, and packets that come from it.
        self.packet_rate = PacketRate()
        #: How far apart it wants to be asked, to measure, over all connections, in seconds.
        self.far_pause_s = 0.0
        #: How often it is answered at once, on any connection, so that it can measure.
        self.quick_answers = TokenBucket(tuning.ANSWERS_PER_S, tuning.ANSWERS_BURST, now)
        #: Whether the other end has said that this host belongs to its network no more.
        self.shut_out = False
        #: Whether another host uses its key.
        self.clones = Clones()
        self.request = SessionRequest()
        self.stale = StaleHandshakes()
        self.waiting = Waiting()

    def is_active(self, now: float) -> bool:
        """Return whether data has passed lately, so that frames are expected soon."""
        return now < self.idle_at

    @property
    def is_called(self) -> bool:
        """Whether an address is known at which the host can be called."""
        return bool(self.endpoints)

    def needs_session(self, now: float) -> bool:
        """Return whether a new session has to be asked for."""
        if self.session is None:
            return bool(self.connections)
        if self.sessions.rollover_due(now):
            return True
        woken_at = max((c.pacing.awoken_at for c in self.connections.values()), default=now)
        silent_s = now - max(self.heard_at, woken_at)
        return self.is_active(now) and silent_s >= tuning.PEER_SILENCE_S

    def handshake_fault(self, now: float) -> Optional[str]:
        """Return a sentence about what is wrong with the sessions; None if nothing is."""
        if self.stale.own:
            return OWN_STALE
        places = self.clones.places(now)
        if places is not None:
            return events.key_shared(*places)
        if self.session is not None:
            return None
        if now - self.stale.at < tuning.STALE_REPORT_PAUSE_S:
            return STALE
        if not self.connections:
            if self.endpoints:
                return "no link has a route to any of its addresses"
            if self.has_names:
                return "its names have no address that can be used: waiting for one"
            return "it has no configured address: waiting for it to call"
        if self.shut_out:
            return SHUT_OUT
        waiting_s = max(0.0, now - self.request.wanted_since)
        return (
            f"no answer for {waiting_s:.0f} s: it is off or cannot be reached over UDP, one of the"
            " two hosts has another key for the other, or it has taken newer handshakes from this"
            " host's key, so this host's clock was set back or another host uses the key"
        )

    def free_way(self) -> int:
        """Return a number for a new connection, 1 to 255; 0 if there is none left."""
        return next((way for way in range(1, _WAYS + 1) if way not in self.by_way), 0)

    def may_lengthen(self, connection: SecureConnection, now: float) -> bool:
        """Return whether a connection is the next to try a longer pause.

        One at a time, so that a pause that does not hold never makes the host unreachable; the
        shortest pause that may still grow comes first.
        """
        others = [
            c for c in self.connections.values() if c.calls and c.state and c is not connection
        ]
        pause_s = connection.pacing.keepalive.pause_s
        if not others and pause_s * tuning.IDLE_GROWTH > tuning.IDLE_ALONE_S:
            return False
        if any(c.pacing.keepalive.trying for c in others):
            return False
        return all(
            c.pacing.keepalive.settled(now)
            or (pause_s, connection.way) < (c.pacing.keepalive.pause_s, c.way)
            for c in others
        )

    def choose(self) -> bool:
        """Work out which connections carry packets; True if the answer is another than before.

        While nothing has shown what any of them carries, senders of large packets have to send
        smaller ones, so that no flow stops because of a path that drops them silently.
        """
        changed = super().choose()
        known = [connection.mtu for connection in self.carrying if not connection.quality.assumed]
        if known:
            self.limit = min(known)
        elif self.carrying:
            ipv6 = any(connection.ipv6 for connection in self.carrying)
            added = (IPV6_SIZE if ipv6 else IPV4_SIZE) + UDP_SIZE
            self.limit = min(self.limit, BASE_MTU - added - OVERHEAD)
        return changed

    def _usable(self) -> List[SecureConnection]:
        if self.session is None:
            return []
        # A host may claim many interfaces at one endpoint: what reaches it there comes once.
        usable: Dict[Tuple[int, Endpoint], SecureConnection] = {}
        for connection in super()._usable():
            if connection.assured:
                place = (connection.link, connection.endpoint)
                if place not in usable or connection.state > usable[place].state:
                    usable[place] = connection
        return list(usable.values())

    def _works_since(self, connection: SecureConnection, since: float) -> bool:
        return connection.reached_at >= since

    def _distinct(self, connections: List[SecureConnection]) -> List[SecureConnection]:
        # IPv4 and IPv6 between the same two interfaces are one way; IPv4's overhead is smaller.
        seen: Set[Tuple[int, RemoteKey]] = set()
        kept = []
        for connection in sorted(connections, key=lambda c: c.ipv6):
            pair = (connection.link, connection.far)
            if pair not in seen:
                seen.add(pair)
                kept.append(connection)
        return kept

    def hold(self, packet: bytes, origin: Optional[Strand[Any]], now: float) -> bool:
        """Keep a packet until it can be sent, if that is likely and not long."""
        self.request.packet_at = now
        if not self.connections or (self.session is None and not self.request.is_open):
            return False
        return self.waiting.add((packet, origin, now))


def connection_key(connection: SecureConnection) -> Any:
    """Return the key of a connection in its strand, beside its link."""
    return (connection.remote, connection.ipv6) if connection.remote else connection.endpoint
