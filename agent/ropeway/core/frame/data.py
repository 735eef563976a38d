"""The secure encapsulation: what travels in a UDP datagram, bytes <-> frames.

Every datagram begins with its type. Integers are little-endian. Initiation, response and cookie are
:mod:`ropeway.core.session.handshakes`'s, resets :mod:`ropeway.core.session.resets`'; the frames of
a session are laid out here:

======  ====  ======================================================================
offset  size  field
======  ====  ======================================================================
0       1     type: :data:`DATA`, :data:`PARTIAL`, :data:`CONTROL`, :data:`MESSAGE` or a lane's
1       1     way: what the receiver calls this connection; 0 where it has not said
2       2     link sequence: counts the data frames of one connection
4       4     index of the session, as the receiver chose it
8       8     counter: counts the frames of one session, or of one lane of it
16      ...   ciphertext and tag
======  ====  ======================================================================

A lane is a class of traffic whose packets the receiver puts back into the order in which they were
sent. It has a counter of its own, so that a gap in it is a packet of this class. Its number is in
the type, and in the nonce.

Bytes 1 to 3 are the only ones in which the copies of a packet differ. Nothing seals them, so they
serve statistics and the order of packets in a lane, and nothing else.
"""

from __future__ import annotations

import enum
import functools
import struct
from typing import List, NamedTuple, Tuple

from ropeway.core.endpoint import Endpoint

INITIATION = 1
RESPONSE = 2
COOKIE = 3
DATA = 4
CONTROL = 5
RESET = 6
#: As :data:`DATA`, but the TCP or UDP checksum of the packet in it covers only the pseudo-header so
#: far: whoever takes the packet out completes it, or tells its kernel to.
PARTIAL = 7
#: What the control sides of two hosts say to each other, about no single connection.
MESSAGE = 8
#: The XOR of packets of a lane, from which the receiver makes one that was lost.
PARITY = 9

#: Lanes of one session, numbered from 0. As many types each follow the first ones: as :data:`DATA`
#: and as :data:`PARTIAL`.
LANES = 8
LANE = 16
LANE_PARTIAL = LANE + LANES
#: As :data:`DATA` and as :data:`PARTIAL`, with a label before the packet
#: (:mod:`ropeway.core.frame.label`); those of lanes follow.
LABELLED = 10
LABELLED_PARTIAL = 11
LABELLED_LANE = LANE_PARTIAL + LANES
LABELLED_LANE_PARTIAL = LABELLED_LANE + LANES
LABELLED_TYPES = frozenset(
    (LABELLED, LABELLED_PARTIAL, *range(LABELLED_LANE, LABELLED_LANE_PARTIAL + LANES))
)
#: All types that carry a packet.
PARTIAL_TYPES = frozenset(
    (
        *(PARTIAL, LABELLED_PARTIAL),
        *range(LANE_PARTIAL, LANE_PARTIAL + LANES),
        *range(LABELLED_LANE_PARTIAL, LABELLED_LANE_PARTIAL + LANES),
    )
)
PACKET_TYPES = frozenset((DATA, *range(LANE, LANE_PARTIAL))) | LABELLED_TYPES | PARTIAL_TYPES
#: All types of frames that a session seals.
SESSION_TYPES = PACKET_TYPES | {CONTROL, MESSAGE, PARITY}

#: Associated data of the kinds of frames, so that none can be passed off as another.
DATA_AD = b"\x04"
CONTROL_AD = b"\x05"
PARTIAL_AD = b"\x07"
MESSAGE_AD = b"\x08"
PARITY_AD = b"\x09"
#: The nonce is this and the counter as it stands in the frame.
NONCE_PREFIX = bytes(4)

HEADER_SIZE = 16
TAG_SIZE = 16
#: What a data frame adds to its packet, UDP and IP headers left out.
OVERHEAD = HEADER_SIZE + TAG_SIZE

#: What stands before the part that all copies of a packet share.
LINK_PART = struct.Struct("<BBH")
#: The whole header: type, way, link sequence, index, counter.
HEADER = struct.Struct("<BBH4sQ")
#: The nonce of a counter.
NONCE = struct.Struct("<4xQ")
#: The nonce in a lane: its number from 1, which no other frame has there, and its counter.
LANE_NONCE = struct.Struct("<IQ")


def labelled(kind: int) -> int:
    """Return the type of a frame with a label, by that of the same frame without one."""
    if kind >= LANE:
        return kind + LABELLED_LANE - LANE
    return LABELLED_PARTIAL if kind == PARTIAL else LABELLED


class Form(enum.IntFlag):
    """What is sealed in a data frame beside a mere packet."""

    PLAIN = 0
    #: The checksum of the packet covers only the pseudo-header so far.
    PARTIAL = 1
    #: A label precedes the packet.
    LABELLED = 2


def form_of(kind: int) -> Form:
    """Return what a type of data frames holds."""
    partial = Form.PARTIAL if kind in PARTIAL_TYPES else Form.PLAIN
    return partial | Form.LABELLED if kind in LABELLED_TYPES else partial


def lane_of(kind: int) -> int:
    """Return the lane of a type of data frames, 0 to 7; -1 if it has none."""
    return (kind - LANE) % LANES if kind >= LANE else -1


def nonce_prefix(kind: int) -> bytes:
    """Return what precedes the counter in the nonce of a frame of a session."""
    return (lane_of(kind) + 1).to_bytes(4, "little")


#: What a socket gives: the bytes of one or more datagrams from one sender, one after the other,
#: where they came from, and the size, 1 or more, of each but the last, which may be shorter.
Received = Tuple[bytes, Endpoint, int]


class Train(NamedTuple):
    """Frames of one size that go to one endpoint in one call; the last may be shorter."""

    #: Bytes of each frame but the last.
    size: int
    #: How many frames, 1 to 64.
    count: int  # type: ignore[assignment]  # takes the place of tuple.count
    #: The frames one after the other, each in one part or two, none sharing a part with another.
    parts: List[bytes]
    #: The DS field of the outer headers with ECN bits of 0 (RFC 2474, RFC 3168), 0 to 252.
    ds_field: int = 0

    def frames(self) -> List[bytes]:
        """Give the frames apart."""
        if len(self.parts) == self.count:
            return list(self.parts)
        whole = b"".join(self.parts)
        return [whole[start : start + self.size] for start in range(0, len(whole), self.size)]


def take_apart(data: bytes, size: int) -> List[Tuple[bytes, int, bytes, int, bytes]]:
    """Give (type and way, sequence, index, counter, ciphertext and tag) of each frame in ``data``.

    All frames are ``size`` bytes long, 1 or more, and the last may be shorter. What is shorter than
    :data:`OVERHEAD` is left out: the last one, or all of them.
    """
    if len(data) <= size:
        return [_layout(len(data)).unpack(data)] if len(data) >= OVERHEAD else []
    if size < OVERHEAD:
        return []
    whole = len(data) // size * size
    frames = list(_layout(size).iter_unpack(memoryview(data)[:whole]))
    if len(data) - whole >= OVERHEAD:
        frames.append(_layout(len(data) - whole).unpack_from(data, whole))
    return frames


@functools.lru_cache(maxsize=2048)
def _layout(size: int) -> struct.Struct:
    """Give what takes a frame of ``size`` bytes apart, :data:`OVERHEAD` or more."""
    return struct.Struct(f"<2sH4sQ{size - HEADER_SIZE}s")
