"""A router's end of leases: hosts without an address of their own get one, and keep it.

Such a host names itself 0.0.0.0 in its handshake; its key says who it is. Before it has an address
its initiations are left unanswered, and one is found for it and written. From then on its strand is
named by that address, and its next initiation is answered. So every session and every packet has
one host, whose address is the router's own entry and never what the host claims.
"""

from __future__ import annotations

import base64
import ipaddress
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ropeway.core import events
from ropeway.core.frame.lease import Grant, Question, decode_lease, encode_lease
from ropeway.core.frame.message import Kind
from ropeway.core.network.leases import Change, Pool
from ropeway.core.packet import ipv4
from ropeway.core.peers.messages import Messages
from ropeway.core.session.handshakes import Handshakes
from ropeway.core.settings import Leases, PeerSettings, SecureSettings, Tenant
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.token_bucket import SharedBudget

#: Questions that are answered: a second, and at once, of all hosts, and of each.
QUESTIONS_PER_S = 1000.0
QUESTIONS_BURST = 4000
QUESTIONS_STRAND_PER_S = 1.0
QUESTIONS_STRAND_BURST = 5
#: Whether leases are over is looked at this often, in parts of the lease time and in seconds.
LOOK_SHARE = 20
LOOK_MIN_S = 0.5
LOOK_MAX_S = 60.0

_INF = float("inf")


class LeaseServer:
    """Gives leases as the settings say; nothing is given without ``settings.leases``.

    Nothing is given either before :meth:`load`. Whoever drives it takes :meth:`take_changes` to the
    disk and calls :meth:`written`. ``follow`` is called when :meth:`peers` has changed.
    """

    def __init__(
        self,
        messages: Messages,
        handshakes: Handshakes,
        log: events.Log,
        follow: Callable[[float], None],
        now: float,
    ) -> None:
        self._messages = messages
        self._handshakes = handshakes
        self._log = log
        self._follow = follow
        self._given: Optional[Leases] = None
        self._tenants: Dict[bytes, Tenant] = {}
        self._pool = Pool()
        self._is_loaded = False
        self._due = _INF
        self._budget = SharedBudget(
            QUESTIONS_PER_S,
            QUESTIONS_BURST,
            QUESTIONS_STRAND_PER_S,
            QUESTIONS_STRAND_BURST,
            now,
        )
        #: Called when there is something for :meth:`take_changes`.
        self.changed: Callable[[], None] = lambda: None

    @property
    def is_on(self) -> bool:
        """Whether this host gives leases."""
        return self._given is not None

    def configure(self, settings: SecureSettings, now: float) -> None:
        """Take over settings, which may be other ones than before."""
        given = self._given = settings.leases
        self._tenants = {tenant.public_key: tenant for tenant in settings.tenants}
        self._handshakes.lease_to(self._tenants.keys(), given is not None)
        if given is None:
            self._due = _INF
            return
        self._messages.handlers[Kind.LEASES] = self._take
        network = ipaddress.IPv4Network(settings.network)
        excluded = {settings.address, *settings.routers, *(peer.host for peer in settings.peers)}
        excluded |= {str(network.network_address), str(network.broadcast_address)}
        self._pool.configure(given.ranges, excluded, self._tenants.keys(), given.time_s)
        self._schedule(now)
        self.changed()

    def load(self, kept: Iterable[Tuple[str, bytes]], now: float) -> None:
        """Take what was on disk at the start: addresses, and the keys that have them."""
        if self._is_loaded:
            return
        self._is_loaded = True
        self._pool.load(kept, now)
        self._follow(now)
        self.changed()

    def peers(self) -> List[PeerSettings]:
        """Return the hosts that have an address by a lease."""
        if self._given is None or not self._is_loaded:
            return []
        return [
            PeerSettings(one.address, (one.key,), self._tenants[one.key].psk)
            for one in self._pool.leases()
            if one.is_in_force and one.key in self._tenants
        ]

    def take_changes(self, limit: int) -> List[Change]:
        """Return what has to be written, the first ``limit`` of it, in order."""
        return self._pool.take_changes(limit) if self._is_loaded else []

    def written(self, changes: Sequence[Change], now: float) -> None:
        """Take note that changes are on disk: who has an address by them is let in."""
        if self._pool.written(changes, now):
            self._follow(now)

    def release(self, address: str, now: float) -> None:
        """End a lease; ValueError, with a sentence, if nobody has that address by one."""
        if self._given is None or not self._pool.release(address):
            raise ValueError(
                f"no host has {address} by a lease of this router: `ropeway leases` shows them"
            )
        self._follow(now)
        self.changed()

    def deadline(self) -> float:
        """Return when :meth:`tick` has something to do."""
        return 0.0 if self._handshakes.without_address and self._is_loaded else self._due

    def tick(self, now: float) -> None:
        """Look for addresses for those who ask, and end what is over."""
        if self._given is None or not self._is_loaded:
            return
        asked = list(self._handshakes.without_address)
        if asked:
            self._handshakes.without_address.clear()
            # Who had an address until not long ago gets it back at once.
            found = [self._pool.ask(key, now) for key in asked]
            if any(found):
                self._follow(now)
            self.changed()
        if now >= self._due:
            self._schedule(now)
            if self._pool.expire(now):
                self._follow(now)
            self.changed()
        if self._pool.is_exhausted:
            self._pool.is_exhausted = False
            self._log.report(events.LeasesExhausted(self._pool.size), now)

    def status(self) -> Optional[Dict[str, Any]]:
        """Return how full the pool is, ready for JSON; None where this host gives no leases."""
        if self._given is None:
            return None
        return {
            "time_s": self._given.time_s,
            "addresses": self._pool.size,
            "held": self._pool.held,
            "free": self._pool.free,
        }

    def listed(self, strands: Mapping[str, SecureStrand], now: float) -> List[Dict[str, Any]]:
        """Return the leases in the order of their addresses, ready for JSON."""
        return [
            {
                "address": one.address,
                "public_key": base64.b64encode(one.key).decode(),
                "state": one.state,
                "connected": one.address in strands and bool(strands[one.address].carrying),
                "left_s": max(0.0, round(one.until - now, 1)),
            }
            for one in self._pool.leases()
            if one.key and self._given is not None
        ]

    def _take(self, strand: SecureStrand, body: bytes, now: float) -> None:
        """Answer a host that asks which address it has."""
        question, session, given = decode_lease(body), strand.session, self._given
        if not isinstance(question, Question) or session is None or given is None:
            return
        if not self._budget.take(strand.host, now):
            return
        if session.public_key in self._tenants and (
            self._pool.ask(session.public_key, now) != strand.host
        ):
            return
        grant = Grant(question.number, ipv4.pack(strand.host), int(given.time_s), given.mtu)
        self._messages.send(strand, Kind.LEASES, encode_lease(grant))

    def _schedule(self, now: float) -> None:
        time_s = 0.0 if self._given is None else self._given.time_s
        look_s = min(max(time_s / LOOK_SHARE, LOOK_MIN_S), LOOK_MAX_S)
        self._due = now + look_s
