"""Who takes part in handshakes: this host's own keys, and its peers with theirs."""

from __future__ import annotations

import base64
import hmac
import ipaddress
from typing import AbstractSet, Dict, Iterable, List, Optional

from ropeway.core.drops import Drop
from ropeway.core.session.messages import body_of, cookie_key, mac, mac1_key, mac1_of
from ropeway.core.session.noise import KeyPair
from ropeway.core.session.notes import Notes
from ropeway.core.session.outcomes import Refused
from ropeway.core.settings import UNASSIGNED, PeerKeys


class OwnKeys:
    """This host's key pair and what follows from it; of the former one only what is needed."""

    def __init__(self, keys: KeyPair) -> None:
        self.keys = keys
        #: Seals the cookies that this host gives out.
        self.cookie_key = cookie_key(keys.public)
        self._mac1_key = mac1_key(keys.public)
        self._former_mac1_key: Optional[bytes] = None

    def replace(self, keys: KeyPair) -> None:
        """Take another key pair."""
        self._former_mac1_key = self._mac1_key
        self.keys = keys
        self.cookie_key = cookie_key(keys.public)
        self._mac1_key = mac1_key(keys.public)

    def is_meant(self, datagram: bytes) -> bool:
        """Return whether the sender of an initiation or response meant this host's key."""
        return hmac.compare_digest(mac(self._mac1_key, body_of(datagram)), mac1_of(datagram))

    def was_meant(self, datagram: bytes) -> bool:
        """Return whether the sender of an initiation or response meant the former key."""
        key = self._former_mac1_key
        return key is not None and mac(key, body_of(datagram)) == mac1_of(datagram)

    def wrong_key_note(self) -> str:
        """Return the sentence for the log about a handshake for another key."""
        own = base64.b64encode(self.keys.public).decode()
        return (
            f"A handshake came that is meant for another public key than this host's, {own}: "
            f"compare what the peers have configured for this host."
        )


class KnownPeers:
    """The peers, by their hosts and by their keys."""

    def __init__(self, notes: Notes) -> None:
        #: By virtual address.
        self.by_host: Dict[str, PeerKeys] = {}
        #: The host of each public key.
        self.keys: Dict[bytes, str] = {}
        #: Keys whose owners get an address from this host, whatever they believe to have.
        self.tenants: AbstractSet[bytes] = frozenset()
        #: Whether hosts may come without an address.
        self.gives_leases = False
        #: The tenants that have come and have no address.
        self.without_address: Dict[bytes, None] = {}
        self._notes = notes

    def replace(self, peers: Iterable[PeerKeys]) -> List[str]:
        """Take all peers that there are now; return hosts whose keys or secret have changed."""
        before = self.by_host
        self.by_host = {peer.host: peer for peer in peers}
        self.keys = {key: peer.host for peer in self.by_host.values() for key in peer.public_keys}
        return [host for host, peer in before.items() if not _same(peer, self.by_host.get(host))]

    def has(self, host: str, public_key: bytes) -> bool:
        """Return whether a key may be that host's."""
        peer = self.by_host.get(host)
        return peer is not None and public_key in peer.public_keys

    def host_of(self, public_key: bytes) -> Optional[str]:
        """Return the host that a key belongs to, or None."""
        return self.keys.get(public_key)

    def check_claim(
        self, public_key: bytes, host: bytes, is_new: bool, now: float
    ) -> Optional[Refused]:
        """Return why an initiation by a key in the name of a host is refused, or None.

        ``is_new`` says whether it was made after all that were answered. An older one may come from
        whoever has seen it, and gets no address.
        """
        claimed = str(ipaddress.IPv4Address(host))
        owner = self.keys.get(public_key)
        if owner == claimed:
            return None
        if public_key in self.tenants:
            if owner is not None:
                return None
            if is_new:
                self.without_address[public_key] = None
            return Refused(Drop.UNKNOWN_PEER)
        if owner is not None and claimed == UNASSIGNED and self.gives_leases:
            return None
        key = base64.b64encode(public_key).decode()
        if owner is not None:
            note = (
                f"The key of {owner} is used by a host that calls itself {claimed}: one of them "
                f"has the wrong address or private key."
            )
            return Refused(Drop.WRONG_HOST, self._notes.note(public_key, note, now))
        if claimed in self.by_host:
            note = (
                f"A host that claims to be {claimed} uses the public key {key}, but another one "
                f"is configured for {claimed}."
            )
        else:
            note = (
                f"A host that claims to be {claimed} uses the public key {key}; neither is "
                f"among the peers."
            )
        return Refused(Drop.UNKNOWN_PEER, self._notes.note(public_key, note, now))


def _same(one: PeerKeys, other: Optional[PeerKeys]) -> bool:
    return other is not None and (one.public_keys, one.psk) == (other.public_keys, other.psk)
