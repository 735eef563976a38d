"""The classic encapsulation's control side: links, interfaces of other hosts, connections.

It writes :mod:`ropeway.core.tables`, and ``by_path``, which :mod:`ropeway.core.classic.node` reads.
"""

from __future__ import annotations

import ipaddress
import random as random_module
from typing import Dict, List, Optional, Sequence, Union

from ropeway.core import events, tuning
from ropeway.core.classic import frame as classic
from ropeway.core.classic.strand import ClassicConnection, ClassicStrand, Remote
from ropeway.core.drops import Drop
from ropeway.core.endpoint import without_prefix
from ropeway.core.link import Link
from ropeway.core.network.routes import Routes
from ropeway.core.packet import ipv4
from ropeway.core.redundancy import Watch
from ropeway.core.strand.state import Input, State
from ropeway.core.strand.strand import NEVER, advance
from ropeway.core.tables import Tables
from ropeway.core.timers import Timers
from ropeway.core.token_bucket import TokenBucket

_INF = float("inf")
# The kernel counts interfaces in a signed int.
_INDEX_MAX = 2**31 - 1


class ClassicPeers:
    """All strands of a node with their connections, and what is due on them.

    ``own`` is the node's virtual address, four bytes.
    """

    def __init__(
        self,
        own: bytes,
        tables: Tables[ClassicStrand],
        routes: Routes,
        log: events.Log,
        watch: Watch,
        now: float,
        random: random_module.Random,
    ) -> None:
        self._own = own
        self._tables = tables
        self._routes = routes
        self._log = log
        self._watch = watch
        self._random = random
        self.links: Dict[int, Link] = {}
        self._owners: Dict[bytes, int] = {}
        #: Bytes 12 to 31 of the frames that a connection receives -> the connection.
        self.by_path: Dict[bytes, ClassicConnection] = {}
        #: Whether an address was met since :meth:`set_links` whose route was not looked up.
        self.wants_lookup = False
        self._timers: Timers[ClassicConnection] = Timers()
        self._forget_at = now + tuning.FORGET_EVERY_S
        self._greetings = TokenBucket(tuning.GREETINGS_PER_S, tuning.GREETINGS_BURST, now)
        self._learning = TokenBucket(tuning.LEARN_PER_S, tuning.LEARN_BURST, now)

    # Frames of no known connection.

    def introduce(
        self, frame: classic.Frame, now: float
    ) -> Union[ClassicConnection, ClassicStrand, Drop]:
        """Get to know where a frame belongs that came over no known path.

        Gives the connection; or only the strand, if nothing but the frame's packet is to be
        believed; or the reason to drop it.
        """
        fault = self._sender_fault(frame)
        if fault is not None:
            return fault
        host, source = ipv4.text(frame.host), ipv4.text(frame.source)
        strand = self._tables.strands.get(host)
        remote = strand.remotes.get(frame.src_index) if strand else None
        link = self._owners.get(frame.destination)
        if link is None:
            # An address that this host has just given up may still be in use at the other end.
            return strand if strand and remote else Drop.WRONG_DESTINATION
        holder = _holder(strand, source) if strand else None
        if strand and holder and holder is not remote and _in_use(holder, source, now):
            return strand
        if strand is None or remote is None:
            remote = self._learn(host, frame.src_index, source, now)
            if remote is None:
                return Drop.LIMIT
            strand = self._tables.strands[host]
        remote.heard_at = now
        connection = strand.connections[link, remote.index]
        if connection.address != source:
            if now - connection.heard_at < tuning.ADDRESS_HOLD_S:
                return strand
            self._move(connection, source, now)
        self._answer_from(connection, ipv4.text(frame.destination), now)
        return connection

    def _answer_from(self, connection: ClassicConnection, called: str, now: float) -> None:
        """Send from the address that the other end calls, unless it hears the one in use."""
        if called != connection.source and now - connection.heard_at >= tuning.ADDRESS_HOLD_S:
            connection.near = called
            self._redirect(connection, connection.address, "it is called at another address", now)

    def _sender_fault(self, frame: classic.Frame) -> Optional[Drop]:
        if frame.host == self._own or frame.source in self._owners:
            return Drop.REFLECTED
        if not self._routes.holds(frame.host):
            return Drop.FOREIGN_HOST
        if not frame.src_index or not ipv4.is_unicast(frame.source):
            return Drop.MALFORMED
        return None

    def _learn(self, host: str, index: int, address: str, now: float) -> Optional[Remote]:
        """Note an interface that a frame came from; None if no more may be known."""
        strand = self._tables.strands.get(host)
        remote = _holder(strand, address) if strand else None
        agreed = remote is not None and not remote.index
        if not agreed and not self._learning.take(now):
            return None
        strand = strand or self._open_strand(host)
        if remote is not None:
            # An agreed address meets its interface, or an interface got another index.
            self._renumber(strand, remote, index)
        elif self._has_room(strand, now):
            remote = Remote(index, address, now)
            strand.remotes[remote.key] = remote
            self._connect(strand, remote, now)
        self._close_if_empty(strand)
        return remote

    def _has_room(self, strand: ClassicStrand, now: float) -> bool:
        """Say whether one more remote may be learnt, if need be instead of a silent one."""
        learnt = [
            (other, remote)
            for other in self._tables.strands.values()
            for remote in other.remotes.values()
            if not other.has_agreed(remote)
        ]
        if len(strand.remotes) >= tuning.MAX_REMOTES_PER_PEER:
            learnt = [(other, remote) for other, remote in learnt if other is strand]
        elif len(learnt) < tuning.MAX_LEARNT_REMOTES:
            return True
        idle = [entry for entry in learnt if not _is_established(entry[1])]
        if not idle:
            return False
        other, remote = min(idle, key=lambda entry: _heard_at(entry[1]))
        self._drop_remote(other, remote, "others took its place", now)
        if other is not strand:
            self._close_if_empty(other)
        return True

    def _renumber(self, strand: ClassicStrand, remote: Remote, index: int) -> None:
        del strand.remotes[remote.key]
        for connection in remote.connections:
            del strand.connections[connection.link, remote.key]
        remote.index = index
        strand.remotes[remote.key] = remote
        for connection in remote.connections:
            strand.connections[connection.link, remote.key] = connection
            self._aim(connection)

    def _move(self, connection: ClassicConnection, address: str, now: float) -> None:
        """Have a connection follow its remote to the address that it was heard from."""
        strand, remote = connection.strand, connection.remote
        before = connection.address or remote.address
        remote.address = address
        for other in strand.connections.values():
            if other.link == connection.link and other.address == address:
                self._redirect(other, None, "another interface has its address", now)
        self._redirect(connection, address, "its remote moved", now)
        for other in remote.connections:
            if other.state == State.SENDING and other.address == before:
                aimed_at = _is_aimed_at(strand, other.link, address)
                self._redirect(other, None if aimed_at else address, "its remote moved", now)
        self._tend_agreed(strand, now)
        if before != address:
            self._log.report(events.RemoteMoved(strand.host, remote.index, before, address), now)

    # What links say.

    def heard(self, connection: ClassicConnection, state: int, now: float) -> bool:
        """Apply the state of a received frame; True if the frame is to be answered."""
        if state == State.SENDING and now - connection.confirmed_at >= tuning.RESTART_S:
            what = Input.HEARD_RESTART
        else:
            what = Input(state)
        # Whoever shows 1 may be at 2, and would answer in turn for ever.
        answered = connection.state != State.ESTABLISHED or state == State.SENDING
        reason = "the other end no longer hears this one, or started anew"
        self._advance(connection, what, now, reason)
        return answered

    def answer(self, connection: ClassicConnection, now: float) -> None:
        """Send an empty frame at once, if the limits allow."""
        if connection.source is None or now < connection.answered_at + tuning.ANSWER_PAUSE_S:
            return
        connection.answered_at = now
        if self._may_greet(connection, now):
            self._send_empty(connection, now)

    def _may_greet(self, connection: ClassicConnection, now: float) -> bool:
        # Strangers share what the limit allows; they cannot use up what agreed remotes need.
        agreed = connection.strand.has_agreed(connection.remote)
        return agreed or self._greetings.take(now)

    def _advance(
        self, connection: ClassicConnection, what: Input, now: float, reason: str = "it was silent"
    ) -> None:
        """Apply the table; all that follows from a new state follows from here."""
        if not advance(connection, what, reason, self._log, now):
            return
        if connection.state != State.ESTABLISHED:
            self._greet_soon(connection, now)
        self._schedule(connection, now)
        self._tables.unsettled[connection.strand] = None

    def settle(self) -> None:
        """Choose anew where something changed; at the end of each batch of work."""
        if self._tables.unsettled:
            self._watch.look_soon()
        for strand in self._tables.unsettled:
            if strand.choose():
                self._routes.forget()
        self._tables.unsettled.clear()

    # Links and remotes.

    def set_links(self, links: Sequence[Link], now: float) -> None:
        """Take the interfaces that take part now, all of them; the node finds the difference."""
        after = {link.index: link for link in links}
        before = self.links
        self.wants_lookup = False
        if after == before:
            return
        self.links = after
        self._watch.look_soon()
        self._owners = {
            ipv4.pack(without_prefix(address)): link.index
            for link in links
            for address in link.addresses
        }
        for event in events.of_links(before, after):
            self._log.report(event, now)
        for strand in self._tables.strands.values():
            self._follow_links(strand, now)
        self.settle()

    def called(self) -> List[str]:
        """Return the addresses that routes are to be looked up for, agreed ones first."""
        strands = self._tables.strands.values()
        agreed = [address for strand in strands for address in strand.agreed]
        known = [remote.address for strand in strands for remote in strand.remotes.values()]
        return list(dict.fromkeys(agreed + known))

    def add_remote(self, host: str, address: str, index: int, now: float) -> None:
        """Make an interface of another host known; ``index`` 0 means that it will be learnt.

        Raises ValueError, with a sentence, for an address that cannot be another host's.
        """
        host, address = str(_address(host)), str(_address(address))
        if not self._routes.holds(ipv4.pack(host)):
            raise ValueError(f"host {host} is not an address of the network {self._routes.network}")
        if ipv4.pack(host) == self._own:
            raise ValueError(f"host {host} is this host's own address; name another host")
        if not ipv4.is_unicast(ipv4.pack(address)):
            raise ValueError(f"{address} cannot be the address of a network interface")
        if ipv4.pack(address) in self._owners:
            raise ValueError(f"{address} is an address of this host; name one of {host}")
        if not 0 <= index <= _INDEX_MAX:
            raise ValueError(f"interface index {index} is not between 0 and {_INDEX_MAX}")
        strand = self._tables.strands.get(host)
        known = strand.remotes.get(index) if strand and index else None
        if known is not None and known.address != address:
            raise ValueError(
                f"interface {index} of {host} is known at {known.address}; remove that first"
            )
        if strand and len(strand.agreed) >= tuning.MAX_REMOTES_PER_PEER:
            raise ValueError(
                f"host {host} has {len(strand.agreed)} configured addresses, which is the limit"
            )
        strand = strand or self._open_strand(host)
        strand.agreed[address] = index
        self._tend_agreed(strand, now)
        self.settle()

    def remove_remote(self, host: str, address: Optional[str], now: float) -> None:
        """Forget a host's interface at ``address``, or with None the whole host.

        Raises ValueError, with a sentence, if there is no such thing. What is still heard is
        learnt again.
        """
        host = str(_address(host))
        strand = self._tables.strands.get(host)
        if strand is None:
            raise ValueError(f"host {host} is not known; see `ropeway status`")
        if address is not None:
            address = str(_address(address))
        remotes = [r for r in strand.remotes.values() if address in (None, r.address)]
        if not remotes and address not in strand.agreed:
            raise ValueError(f"host {host} has no interface at {address}; see `ropeway status`")
        for agreed in list(strand.agreed) if address is None else [address]:
            strand.agreed.pop(agreed, None)
        for remote in remotes:
            self._drop_remote(strand, remote, "it was removed", now)
        self._close_if_empty(strand)
        self.settle()

    def _open_strand(self, host: str) -> ClassicStrand:
        strand = self._tables.strands[host] = ClassicStrand(
            host, self._random.randrange(classic.ID_MODULUS)
        )
        self._routes.forget()
        return strand

    def _close_if_empty(self, strand: ClassicStrand) -> None:
        if not strand.remotes:
            self._tables.strands.pop(strand.host, None)
            self._routes.forget()

    def _tend_agreed(self, strand: ClassicStrand, now: float) -> None:
        """Have every agreed address greeted: by the interface that has it, or by a stand-in."""
        for remote in list(strand.remotes.values()):
            if not remote.index and _holder(strand, remote.address) is not remote:
                self._drop_remote(strand, remote, "its interface is known", now)
        for address, index in strand.agreed.items():
            if _holder(strand, address) is None:
                remote = Remote(0 if index in strand.remotes else index, address, now)
                strand.remotes[remote.key] = remote
                self._connect(strand, remote, now)

    def _connect(self, strand: ClassicStrand, remote: Remote, now: float) -> None:
        """Pair a remote with every link that it is not paired with."""
        for index in self.links:
            if (index, remote.key) in strand.connections:
                continue
            connection = ClassicConnection(strand, index, remote)
            strand.connections[index, remote.key] = connection
            remote.connections.append(connection)
            if not _is_aimed_at(strand, index, remote.address):
                connection.address = remote.address
            self._aim(connection)
            self._greet_soon(connection, now)
            self._schedule(connection, now)
        self._tables.unsettled[strand] = None

    def _drop_remote(self, strand: ClassicStrand, remote: Remote, reason: str, now: float) -> None:
        for connection in list(remote.connections):
            self._end(connection, reason, now)
        del strand.remotes[remote.key]

    def _end(self, connection: ClassicConnection, reason: str, now: float) -> None:
        self._advance(connection, Input.GONE, now, reason)
        self._timers.remove(connection)
        connection.outbox.clear()
        self.by_path.pop(connection.receive_path, None)
        connection.remote.connections.remove(connection)
        del connection.strand.connections[connection.link, connection.remote.key]
        self._tables.unsettled[connection.strand] = None

    def _follow_links(self, strand: ClassicStrand, now: float) -> None:
        """Bring the connections in line with the links: a pair of each with each remote."""
        for connection in list(strand.connections.values()):
            if connection.link not in self.links:
                self._end(connection, "the link vanished", now)
            else:
                self._reaim(connection, now)
        for remote in strand.remotes.values():
            self._connect(strand, remote, now)

    def _reaim(self, connection: ClassicConnection, now: float) -> None:
        """Follow a change of the link's addresses, routes, MTU or carrier."""
        source = self._source(connection)
        if source == connection.source:
            connection.fit(self.links[connection.link].mtu)
            self._tables.unsettled[connection.strand] = None
            return
        reason = "its address changed"
        if source is None:
            reason = "the link is down, or has no address or no route"
        self._redirect(connection, connection.address, reason, now)

    def _source(self, connection: ClassicConnection) -> Optional[str]:
        link = self.links[connection.link]
        if connection.address is None or not link.up:
            return None
        # Whoever names this host's own address as another's is told so elsewhere.
        if ipv4.pack(connection.address) in self._owners:
            return None
        if connection.address not in link.looked_up:
            self.wants_lookup = True
        if link.has_no_route(connection.address):
            return None
        heard = connection.heard_at != NEVER
        for kept in (connection.near, connection.source if heard else None):
            if kept is not None and link.holds(kept):
                return kept
        return link.source_for(connection.address)

    def _try_next(self, connection: ClassicConnection, now: float) -> None:
        """Send from the link's next address: only an answer tells which one is let through.

        What the routes prefer comes first. Only an agreed remote is called like that, and only
        until it has answered: an old node keeps to the address that it heard first.
        """
        if connection.heard_at != NEVER or not connection.strand.has_agreed(connection.remote):
            return
        if now < connection.try_at < _INF:
            return
        link = self.links[connection.link]
        if connection.try_at < _INF and connection.address is not None:
            best = link.source_for(connection.address)
            own = [without_prefix(text) for text in link.addresses]
            order = sorted(own, key=lambda address: address != best)
            place = order.index(connection.source) + 1 if connection.source in order else 0
            connection.near = order[place % len(order)]
            if connection.near != connection.source:
                self._aim(connection)
        connection.try_at = now + tuning.SOURCE_TRY_S

    def _aim(self, connection: ClassicConnection) -> None:
        self.by_path.pop(connection.receive_path, None)
        source = self._source(connection)
        connection.aim(self._own, source)
        connection.fit(self.links[connection.link].mtu)
        if source is not None and connection.remote.index:
            self.by_path[connection.receive_path] = connection
        self._tables.unsettled[connection.strand] = None

    def _redirect(
        self, connection: ClassicConnection, address: Optional[str], reason: str, now: float
    ) -> None:
        """Send a connection somewhere else, or nowhere: what it knew of the way holds no more."""
        if address != connection.address:
            connection.near = connection.source = None
        connection.address = address
        self._aim(connection)
        self._advance(connection, Input.GONE, now, reason)
        self._greet_soon(connection, now)
        self._schedule(connection, now)

    # Time.

    def deadline(self) -> float:
        """Give the time of the next :meth:`tick`."""
        return min(self._timers.next_at(), self._forget_at)

    def tick(self, now: float) -> None:
        """Do what is due: greetings, keepalives, falling back of silent connections."""
        for connection in self._timers.take(now):
            self._look_at(connection, now)
        if now >= self._forget_at:
            self._forget_at = now + tuning.FORGET_EVERY_S
            self._forget(now)
        self.settle()

    def _look_at(self, connection: ClassicConnection, now: float) -> None:
        if connection.source is None:
            return
        if connection.state and now >= connection.heard_at + tuning.SILENCE_S:
            self._advance(connection, Input.SILENT, now)
        if connection.state == State.ESTABLISHED:
            if now >= connection.sent_at + tuning.KEEPALIVE_S:
                self._send_empty(connection, now)
            if connection.strand.doubtful:
                self._tables.unsettled[connection.strand] = None
        elif now >= connection.greet_at:
            if self._may_greet(connection, now):
                self._try_next(connection, now)
                self._send_empty(connection, now)
            pause_s = connection.greet_pause_s
            connection.greet_pause_s = min(2 * pause_s, tuning.GREETING_MAX_S)
            spread = 1 + tuning.GREETING_JITTER * (2 * self._random.random() - 1)
            connection.greet_at = now + pause_s * spread
        self._schedule(connection, now)

    def _greet_soon(self, connection: ClassicConnection, now: float) -> None:
        connection.greet_pause_s = tuning.GREETING_MIN_S
        connection.greet_at = now

    def _schedule(self, connection: ClassicConnection, now: float) -> None:
        """Put the connection into the heap for the moment at which something is due."""
        if connection.source is None:
            self._timers.remove(connection)
            return
        if connection.state == State.ESTABLISHED:
            due = min(
                connection.sent_at + tuning.KEEPALIVE_S, connection.heard_at + tuning.SILENCE_S
            )
        elif connection.state:
            due = min(connection.greet_at, connection.heard_at + tuning.SILENCE_S)
        else:
            due = connection.greet_at
        self._timers.set(connection, max(due, now))

    def _send_empty(self, connection: ClassicConnection, now: float) -> None:
        if not connection.outbox:
            self._tables.touched.append(connection)
        connection.outbox.append(connection.frame(0, 0, now))

    def _forget(self, now: float) -> None:
        """Forget learnt remotes that have been silent for long."""
        for strand in list(self._tables.strands.values()):
            strand.window.expire(now)
            for remote in list(strand.remotes.values()):
                if strand.has_agreed(remote):
                    continue
                proven = any(c.confirmed_at >= 0 for c in remote.connections)
                patience_s = tuning.FORGET_S if proven else tuning.FORGET_UNPROVEN_S
                if now - _heard_at(remote) >= patience_s:
                    self._drop_remote(strand, remote, "it was silent for long", now)
            self._tend_agreed(strand, now)
            self._close_if_empty(strand)


def _holder(strand: ClassicStrand, address: str) -> Optional[Remote]:
    """Give the remote that is at ``address``, one whose index is known if there are two."""
    holders = [
        remote
        for remote in strand.remotes.values()
        if remote.address == address or any(c.address == address for c in remote.connections)
    ]
    return max(holders, key=lambda remote: (remote.index > 0, _heard_at(remote)), default=None)


def _is_aimed_at(strand: ClassicStrand, link: int, address: str) -> bool:
    return any(c.link == link and c.address == address for c in strand.connections.values())


def _heard_at(remote: Remote) -> float:
    return max([remote.heard_at, *(c.heard_at for c in remote.connections)])


def _in_use(remote: Remote, address: str, now: float) -> bool:
    """Say whether a known interface was heard from ``address`` just now."""
    return any(
        c.address == address and now - c.heard_at < tuning.ADDRESS_HOLD_S
        for c in remote.connections
    )


def _is_established(remote: Remote) -> bool:
    return any(c.state == State.ESTABLISHED for c in remote.connections)


def _address(text: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address") from None
