"""The end of a lease at the host that has it: asked for, renewed, and given up when it is over.

Only the router that gave a lease is asked, because no other one can know that it has not given the
address away. A lease is believed from the session with that router alone, as the answer to the last
question. Its time counts from when that was asked.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

from ropeway.core import events
from ropeway.core.frame.lease import NUMBER_BYTES, Grant, Question, decode_lease, encode_lease
from ropeway.core.frame.message import Kind
from ropeway.core.packet import ipv4
from ropeway.core.peers.messages import Messages
from ropeway.core.session.session import Session
from ropeway.core.settings import UNASSIGNED, SecureSettings
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.tables import Tables

#: Whether the router can be asked is looked at this often while it has to be.
LOOK_S = 0.2
#: An unanswered question is asked again after this time, and then ever later.
ASK_MIN_S = 1.0
ASK_MAX_S = 30.0
#: A router whose session is another one may have forgotten the lease; that is looked at so often.
SESSION_LOOK_S = 15.0

_INF = float("inf")


@dataclass(frozen=True)
class Lease:
    """The address that this host has, until when."""

    address: str
    #: In monotonic seconds.
    until: float
    #: The most that the device's MTU should be, in bytes; 0 leaves it to this host.
    mtu: int = 0


class LeaseClient:
    """Keeps the lease of a host without an address of its own.

    ``entropy`` returns so many bytes that nobody can guess. ``changed`` is called when the address
    or the MTU is another one, or is gone.
    """

    def __init__(
        self,
        messages: Messages,
        tables: Tables[SecureStrand],
        settings: SecureSettings,
        log: events.Log,
        entropy: Callable[[int], bytes],
        now: float,
    ) -> None:
        self._messages = messages
        self._tables = tables
        self._settings = settings
        self._log = log
        self._entropy = entropy
        #: What this host has now.
        self.lease: Optional[Lease] = None
        #: Called with the lease, or None, when it is another one.
        self.changed: Callable[[Optional[Lease], float], None] = lambda lease, now: None
        #: Called with each lease that was given or renewed.
        self.renewed: Callable[[Lease, float], None] = lambda lease, now: None
        self._number = b""
        self._asked_at = -_INF
        self._ask_at = now
        self._pause_s = ASK_MIN_S
        self._look_at = now
        # The session under which the router was heard last about the lease.
        self._session: Optional[Session] = None
        messages.handlers[Kind.LEASES] = self._take

    def recall(self, lease: Lease, now: float) -> None:
        """Go on with a lease of an earlier run; the router is asked for it all the same."""
        if now < lease.until and self._is_possible(lease.address):
            self.lease = lease
            self.changed(lease, now)

    def follow(self, settings: SecureSettings) -> None:
        """Take over settings that may name another router."""
        self._settings = settings

    def deadline(self) -> float:
        """Return when :meth:`tick` has something to do."""
        due = min(self._ask_at, self._look_at)
        return due if self.lease is None else min(due, self.lease.until)

    def tick(self, now: float) -> None:
        """Ask when it is time, and give the lease up when it is over."""
        lease = self.lease
        if lease is not None and now >= lease.until:
            self.lease = None
            why = f"{self._router_host} has not answered in its time"
            self._log.report(events.LeaseLost(lease.address, why), now)
            self.changed(None, now)
            self._ask_soon(now)
        if now >= self._look_at:
            self._look_at = now + SESSION_LOOK_S
            strand = self._router()
            if strand is not None and strand.session not in (None, self._session):
                self._ask_soon(now)
        if now >= self._ask_at:
            self._ask(now)

    def status(self, now: float) -> Dict[str, Any]:
        """Return the lease, ready for JSON."""
        lease = self.lease
        return {
            "router": self._router_host,
            "address": None if lease is None else lease.address,
            "left_s": None if lease is None else max(0.0, round(lease.until - now, 1)),
            "mtu": None if lease is None or not lease.mtu else lease.mtu,
        }

    @property
    def _router_host(self) -> str:
        return next(iter(self._settings.routers), "")

    def _router(self) -> Optional[SecureStrand]:
        return self._tables.strands.get(self._router_host)

    def _ask_soon(self, now: float) -> None:
        self._ask_at, self._pause_s = min(self._ask_at, now), ASK_MIN_S

    def _ask(self, now: float) -> None:
        strand = self._router()
        if strand is None or not self._messages.room(strand):
            self._ask_at = now + LOOK_S
            return
        self._number, self._asked_at = self._entropy(NUMBER_BYTES), now
        self._session = strand.session
        self._messages.send(strand, Kind.LEASES, encode_lease(Question(self._number)))
        self._ask_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, ASK_MAX_S)

    def _take(self, strand: SecureStrand, body: bytes, now: float) -> None:
        grant = decode_lease(body)
        if strand is not self._router() or not isinstance(grant, Grant):
            return
        if not self._number or grant.number != self._number or not grant.time_s:
            return
        address = ipv4.text(grant.address)
        if not self._is_possible(address):
            return
        self._number = b""
        before = self.lease
        lease = self.lease = Lease(address, self._asked_at + grant.time_s, grant.mtu)
        self._ask_at, self._pause_s = now + grant.time_s / 2, ASK_MIN_S
        if before is None or (before.address, before.mtu) != (lease.address, lease.mtu):
            if before is None or before.address != lease.address:
                self._log.report(events.LeaseTaken(address, strand.host, grant.time_s), now)
            self.changed(lease, now)
        self.renewed(lease, now)

    def _is_possible(self, address: str) -> bool:
        """Return whether an address can be this host's."""
        network = ipaddress.IPv4Network(self._settings.network)
        own = ipaddress.IPv4Address(address)
        taken = {peer.host for peer in self._settings.peers}
        ends = (network.network_address, network.broadcast_address)
        return own in network and own not in ends and address not in taken | {UNASSIGNED}
