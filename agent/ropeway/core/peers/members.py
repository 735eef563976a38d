"""The hosts that belong to the network, with their keys and endpoints."""

from __future__ import annotations

import ipaddress
from itertools import islice
from typing import Dict, Iterable, Sequence

from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint, parse_address, parse_endpoint
from ropeway.core.peers.calls import Calls
from ropeway.core.peers.connections import Connections
from ropeway.core.peers.dialogue import Dialogue
from ropeway.core.peers.sessions import Sessions
from ropeway.core.peers.settling import Settling
from ropeway.core.session.handshakes import Handshakes
from ropeway.core.session.noise import KEY_BYTES
from ropeway.core.session.session import PeerSessions
from ropeway.core.settings import PeerSettings
from ropeway.core.strand.secure import SecureStrand
from ropeway.core.tables import Tables


class _Named:
    """The endpoints that the configuration names for one host; each in order, without value."""

    __slots__ = ("configured", "resolved")

    def __init__(self) -> None:
        #: As addresses.
        self.configured: Dict[Endpoint, None] = {}
        #: As names that have these addresses now.
        self.resolved: Dict[Endpoint, None] = {}

    def all(self) -> Dict[Endpoint, None]:
        """Return every endpoint once, :data:`tuning.MAX_REMOTES_PER_PEER` at most."""
        every = {**self.configured, **self.resolved}
        return dict.fromkeys(islice(every, tuning.MAX_REMOTES_PER_PEER))


class Members:
    """Opens and closes the strands, and keeps the endpoints of each."""

    def __init__(
        self,
        handshakes: Handshakes,
        tables: Tables[SecureStrand],
        connections: Connections,
        dialogue: Dialogue,
        sessions: Sessions,
        calls: Calls,
        settling: Settling,
        rollover_s: float,
    ) -> None:
        self._handshakes = handshakes
        self._tables = tables
        self._connections = connections
        self._dialogue = dialogue
        self._sessions = sessions
        self._calls = calls
        self._settling = settling
        self._rollover_s = rollover_s
        self._named: Dict[str, _Named] = {}
        self._configured: Dict[str, PeerSettings] = {}
        #: Hosts that a router has told of, by virtual address. The configuration's come before.
        self.learnt: Dict[str, PeerSettings] = {}

    def set_peers(self, peers: Iterable[PeerSettings], now: float) -> None:
        """Take the hosts that belong here, all of them, with their keys and endpoints.

        A host that is missing, or whose key is another one now, is cut off at once; every other
        session and connection lives on. ValueError, with a sentence, for a peer that no node could
        take; then nothing has changed.
        """
        listed = {peer.host: peer for peer in peers}
        check_peers(listed.values())
        self._configured = listed
        self.learnt = {host: peer for host, peer in self.learnt.items() if self._is_free(peer)}
        self._take(now)

    def learn(self, peer: PeerSettings, now: float) -> bool:
        """Have a host belong here of which a router has told; it replaces what was learnt before.

        False, and nothing happens, if the configuration has it, or its key is another host's.
        """
        others = [known for known in self.learnt.values() if known.host != peer.host]
        taken = {key for known in others for key in known.public_keys}
        if not self._is_free(peer) or not taken.isdisjoint(peer.public_keys):
            return False
        self.learnt[peer.host] = peer
        self._take(now)
        return True

    def unlearn(self, host: str, now: float) -> None:
        """Cut off a host that was learnt."""
        if self.learnt.pop(host, None) is not None:
            self._take(now)

    def may_meet(self, host: str) -> bool:
        """Return whether others may be told where a host can be called."""
        peer = self._configured.get(host)
        return peer is not None and peer.direct

    def _is_free(self, peer: PeerSettings) -> bool:
        """Return whether the configuration has neither a host nor its keys."""
        known = {key for one in self._configured.values() for key in one.public_keys}
        known.add(self._handshakes.public_key)
        return peer.host not in self._configured and known.isdisjoint(peer.public_keys)

    def _take(self, now: float) -> None:
        """Bring strands and keys in line with the hosts that belong here now."""
        listed = {**self.learnt, **self._configured}
        for known in self._tables.strands.values():
            keys = listed[known.host].public_keys if known.host in listed else ()
            if known.session is not None and known.session.public_key not in keys:
                for connection in known.connections.values():
                    self._dialogue.shut_out(connection, now)
        for session in self._handshakes.set_peers(listed.values()):
            self._sessions.end(session, "its key is not valid any more", now)
        for host in [host for host in self._tables.strands if host not in listed]:
            self._close(self._tables.strands[host], now)
        for host, peer in listed.items():
            strand = self._tables.strands.get(host) or self._open(host, now)
            endpoints = [parse_endpoint(*endpoint) for endpoint in peer.endpoints]
            named = self._named[host]
            named.configured = dict.fromkeys(endpoints)
            strand.learnt = host in self.learnt
            strand.has_names = bool(peer.names)
            if not strand.has_names:
                named.resolved = {}
            self._follow(strand, now)

    def set_resolved(self, host: str, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take the endpoints that the names of a configured host have now, instead of before.

        Sessions and connections that work live on. An impossible endpoint is left out, because a
        name server may answer anything; so is every one beyond
        :data:`tuning.MAX_REMOTES_PER_PEER`, configured ones included, and every one of a host that
        has no names. ValueError, with a sentence, for a host without a key.
        """
        strand = self._known(host)
        resolved: Dict[Endpoint, None] = {}
        for endpoint in endpoints:
            try:
                resolved[parse_endpoint(*endpoint)] = None
            except ValueError:
                continue
            if len(resolved) == tuning.MAX_REMOTES_PER_PEER:
                break
        named = self._named[strand.host]
        if strand.has_names and list(named.resolved) != list(resolved):
            named.resolved = resolved
            self._follow(strand, now)

    def _known(self, host: str) -> SecureStrand:
        strand = self._tables.strands.get(str(parse_address(host)))
        if strand is None:
            raise ValueError(
                f"host {host} has no key here: add it, with its public_key, to peers in the"
                " configuration"
            )
        return strand

    def _open(self, host: str, now: float) -> SecureStrand:
        strand = SecureStrand(host, PeerSessions(self._rollover_s), now)
        self._tables.strands[host] = strand
        self._named[host] = _Named()
        self._settling.note_strand_added()
        return strand

    def _close(self, strand: SecureStrand, now: float) -> None:
        for connection in list(strand.connections.values()):
            self._connections.end(connection, "the host was removed", now)
        self._sessions.remove(strand, now)
        del self._tables.strands[strand.host]
        del self._named[strand.host]
        self._settling.note_strand_removed(strand)

    def _follow(self, strand: SecureStrand, now: float) -> None:
        """Have the endpoints called that a host has now, and no others."""
        strand.endpoints = self._named[strand.host].all()
        if not strand.endpoints:
            strand.announced.forget()
        self._connections.keep_candidates(strand, now)
        self._calls.follow(strand, now)


def check_peers(peers: Iterable[PeerSettings]) -> None:
    """Raise ValueError, with a sentence, for a peer that no node could take."""
    for peer in peers:
        if not isinstance(parse_address(peer.host), ipaddress.IPv4Address):
            raise ValueError(f"host {peer.host} is no IPv4 address")
        for key in (*peer.public_keys, peer.psk):
            if len(key) != KEY_BYTES:
                raise ValueError(f"a key of {peer.host} has {len(key)} bytes, not {KEY_BYTES}")
        for endpoint in peer.endpoints:
            parse_endpoint(*endpoint)
