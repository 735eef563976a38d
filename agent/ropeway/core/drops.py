"""Why packets are dropped."""

from __future__ import annotations

import enum


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
    #: Another router passes this packet on, and its destination could not tell the copies apart.
    SPARE = "spare"
    #: No link may carry the packet's class of traffic now.
    OFF = "off"
    #: The packet from the device has a source that is not this host's.
    FOREIGN_SOURCE = "foreign_source"
    #: A host has announced a network that it may not, or too many.
    NOT_ALLOWED = "not_allowed"
