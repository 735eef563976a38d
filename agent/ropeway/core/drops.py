"""Why packets are dropped, and how often things that strangers cause may happen."""

from __future__ import annotations

import enum
from typing import Dict, Hashable


class Drop(enum.Enum):
    """The reason why a packet or frame went no further; the value is its name in status."""

    #: The outer frame breaks the format: length, version, protocol, state or fragment fields.
    MALFORMED = "malformed"
    #: The outer header's checksum is wrong.
    CHECKSUM = "checksum"
    #: The frame was sent to an address that is on none of the links, or to another link.
    WRONG_DESTINATION = "wrong_destination"
    #: The sending host's virtual address is outside the virtual network.
    FOREIGN_HOST = "foreign_host"
    #: The frame claims to come from this host itself.
    REFLECTED = "reflected"
    #: An unknown remote interface came when as many as allowed were known or admitted.
    LIMIT = "limit"
    #: The inner packet is not a whole IPv4 packet.
    MALFORMED_INNER = "malformed_inner"
    #: The packet from the device is IPv6, which the virtual network does not carry.
    IPV6 = "ipv6"
    #: The packet from the device is neither IPv4 nor IPv6.
    NOT_IPV4 = "not_ipv4"
    #: The inner destination is a multicast address, 224.0.0.0/4 (RFC 5771).
    MULTICAST = "multicast"
    #: The inner destination is the network's broadcast address, or 255.255.255.255.
    BROADCAST = "broadcast"
    #: The inner destination is another address that no host can have, such as 127.0.0.1.
    NOT_UNICAST = "not_unicast"
    #: The inner packet is for another host, and this host does not forward.
    NOT_FORWARDING = "not_forwarding"
    #: No host or router of the virtual network takes the inner destination.
    NO_ROUTE = "no_route"
    #: The next hop has no connection that can be used.
    UNREACHABLE = "unreachable"
    #: The packet would go back to the host that it came from.
    ECHO = "echo"
    #: The inner packet's time to live ended here.
    TTL = "ttl"
    #: The packet must not be fragmented and fits no link.
    TOO_BIG = "too_big"
    #: The packet has waited on this host for longer than it may.
    EXPIRED = "expired"

    # What follows happens to the secure encapsulation only.

    #: A handshake message is meant for another public key than this host's.
    WRONG_KEY = "wrong_key"
    #: A handshake was begun by a public key that belongs to no peer.
    UNKNOWN_PEER = "unknown_peer"
    #: A peer's key was used by a host that calls itself otherwise.
    WRONG_HOST = "wrong_host"
    #: An initiation is not newer than one that the same key has sent before.
    STALE = "stale"
    #: More handshakes came than are answered.
    FLOOD = "flood"
    #: An answer, cookie or reset came that nothing here has asked for.
    UNWANTED = "unwanted"
    #: A copy of an answer that had come before, over another link for instance.
    REPEATED = "repeated"
    #: A frame or handshake message is not authentic.
    FORGED = "forged"
    #: The frame belongs to no session that is known here.
    UNKNOWN_SESSION = "unknown_session"
    #: A frame was received before; the copies that make a rope are counted elsewhere.
    REPLAYED = "replayed"
    #: A frame is so much older than the newest that it cannot be told from a replay.
    TOO_OLD = "too_old"
    #: The inner packet's source is not an address of the host that sealed it.
    SPOOFED = "spoofed"
    #: The packet from the device has a source that is not this host's.
    FOREIGN_SOURCE = "foreign_source"


class TokenBucket:
    """A rate limit: ``rate`` tokens come a second, at most ``burst`` are kept."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = now

    def left(self, now: float) -> float:
        """Give the tokens there are at ``now`` (monotonic seconds)."""
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        return self._tokens

    def take(self, now: float) -> bool:
        """Take one token; False if there is none at ``now`` (monotonic seconds)."""
        if self.left(now) < 1.0:
            return False
        self._tokens -= 1.0
        return True


#: Whose shares of a budget are remembered.
MAX_SHARES = 1024


class SharedBudget:
    """A rate limit for all together, of which nobody uses up what another needs.

    ``rate`` and ``burst`` are everybody's; ``share_rate`` and ``share_burst``, smaller ones, are
    the most that one gets.
    """

    __slots__ = ("_share_burst", "_share_rate", "_shares", "_whole")

    def __init__(
        self, rate: float, burst: float, share_rate: float, share_burst: float, now: float
    ) -> None:
        self._whole = TokenBucket(rate, burst, now)
        self._share_rate = share_rate
        self._share_burst = share_burst
        #: By whose they are, the one that was used last at the end.
        self._shares: Dict[Hashable, TokenBucket] = {}

    def __len__(self) -> int:
        """Shares that are remembered."""
        return len(self._shares)

    def take(self, who: Hashable, now: float) -> bool:
        """Take one token for ``who``; False if there is none at ``now`` (monotonic seconds)."""
        shares = self._shares
        share = shares.pop(who, None)
        if share is None:
            share = TokenBucket(self._share_rate, self._share_burst, now)
            if len(shares) >= MAX_SHARES:
                del shares[next(iter(shares))]
        shares[who] = share
        return share.left(now) >= 1.0 and self._whole.take(now) and share.take(now)
