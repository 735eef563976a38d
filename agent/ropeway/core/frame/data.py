"""The secure encapsulation: what travels in a UDP datagram, bytes <-> frames.

Every datagram begins with its type. Integers are little-endian. Initiation, response and cookie are
:mod:`ropeway.core.session.handshakes`'s, resets :mod:`ropeway.core.session.resets`'; the frames of
a session are laid out here:

======  ====  ======================================================================
offset  size  field
======  ====  ======================================================================
0       1     type: :data:`DATA`, :data:`PARTIAL` or :data:`CONTROL`
1       1     way: what the receiver calls this connection; 0 where it has not said
2       2     link sequence: counts the data frames of one connection
4       4     index of the session, as the receiver chose it
8       8     counter: counts the frames of one session
16      ...   ciphertext and tag
======  ====  ======================================================================

Bytes 1 to 3 are the only ones in which the copies of a packet differ. Nothing seals them, so they
serve statistics and nothing else.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Tuple

INITIATION = 1
RESPONSE = 2
COOKIE = 3
DATA = 4
CONTROL = 5
RESET = 6
#: As :data:`DATA`, but the TCP or UDP checksum of the packet in it covers only the pseudo-header so
#: far: whoever takes the packet out completes it, or tells its kernel to.
PARTIAL = 7

#: Associated data of the kinds of frames, so that none can be passed off as another.
DATA_AD = b"\x04"
CONTROL_AD = b"\x05"
PARTIAL_AD = b"\x07"
#: The nonce is this and the counter as it stands in the frame.
NONCE_PREFIX = bytes(4)

HEADER_SIZE = 16
TAG_SIZE = 16
#: What a data frame adds to its packet, UDP and IP headers left out.
OVERHEAD = HEADER_SIZE + TAG_SIZE
UDP_SIZE = 8
IPV4_SIZE = 20
IPV6_SIZE = 40
#: What the search of a path's MTU does not go below: what every IPv4 host takes (RFC 791, section
#: 3.1) and every IPv6 path carries (RFC 8200, section 5).
IPV4_MTU_MIN = 576
IPV6_MTU_MIN = 1280

#: What stands before the part that all copies of a packet share.
LINK_PART = struct.Struct("<BBH")
#: The whole header: type, way, link sequence, index, counter.
HEADER = struct.Struct("<BBH4sQ")
#: The nonce of a counter.
NONCE = struct.Struct("<4xQ")

#: An endpoint: an IPv4 or IPv6 address as text, and a UDP port.
Endpoint = Tuple[str, int]

#: Where a link can be called: its interface's index on its host, and an endpoint.
Place = Tuple[int, Endpoint]

#: What a socket gives: the bytes of one or more datagrams from one sender, one after the other,
#: where they came from, and the size, 1 or more, of each but the last, which may be shorter.
Received = Tuple[bytes, Endpoint, int]

#: ``flags, way, pause, src_index, dst_index, mark, echo, held, probe, probe_heard, address, port,
#: received``; what is announced may follow, and zeros in a frame that probes the path MTU.
_CONTROL = struct.Struct("<BBHIIIIIHH16sHI")
CONTROL_SIZE = _CONTROL.size
#: Endpoints that one frame announces: eight links with IPv4 and IPv6 each. The frame stays below
#: :data:`IPV4_MTU_MIN` that way.
MAX_ANNOUNCED = 16
#: ``index, address, port`` of each, after one byte that counts them.
_PLACE = struct.Struct("<I16sH")
_STATE_MASK = 3
_ANSWER = 4
_CALLS = 8
_CHALLENGE = 16
_TAKES_PARTIAL = 32
_SHUTS_OUT = 64
_MAPPED = bytes(10) + b"\xff\xff"
#: The unit of ``pause`` in seconds.
_PAUSE_S = 0.01


class Train(NamedTuple):
    """Frames of one size that go to one endpoint in one call; the last may be shorter."""

    #: Bytes of each frame but the last.
    size: int
    #: How many frames, 1 to 64.
    count: int  # type: ignore[assignment]  # takes the place of tuple.count
    #: The frames one after the other, each in one part or two, none sharing a part with another.
    parts: List[bytes]

    def frames(self) -> List[bytes]:
        """Give the frames apart."""
        if len(self.parts) == self.count:
            return list(self.parts)
        whole = b"".join(self.parts)
        return [whole[start : start + self.size] for start in range(0, len(whole), self.size)]


@dataclass(frozen=True)
class Control:
    """What one end says about one connection; sealed."""

    #: The sender's state, 0 to 2 (:mod:`ropeway.core.strand.state`).
    state: int
    #: The sender's interface index, and the receiver's, 0 while that is not known.
    src_index: int
    dst_index: int
    #: What the receiver is to put into byte 1 of its data frames, 1 to 255.
    way: int
    #: The sender's next frame on this connection comes after this time at the latest, 0 to 655.
    pause_s: float = 0.0
    #: Whether the receiver is asked to answer at once.
    answer: bool = False
    #: Whether the sender knows by its configuration where the receiver is.
    calls: bool = False
    #: Whether the receiver is asked to show, by an answer, that this frame has reached it.
    challenge: bool = False
    #: A number, 1 to 2**32 - 1, that nobody else can guess and that this frame alone has.
    mark: int = 1
    #: The mark of the frame that was heard last on this connection, 0 for none: proof that it
    #: arrived ...
    echo: int = 0
    #: ... and how long before this frame it was heard.
    held_ms: int = 0
    #: Size in bytes of the outer IP packet that this frame fills to probe the path MTU, or 0.
    probe: int = 0
    #: Size of the last such packet that was heard on this connection, or 0.
    probe_heard: int = 0
    #: Where the sender saw the receiver's last frame of this connection come from.
    observed: Optional[Endpoint] = None
    #: Data frames that the sender received over this connection, modulo 2**32.
    received: int = 0
    #: Whether the receiver may send :data:`PARTIAL` frames.
    takes_partial: bool = False
    #: Whether the receiver no longer belongs to the sender's network: the session ends with this.
    shuts_out: bool = False
    #: Where the sender's links can be called, at most :data:`MAX_ANNOUNCED`; nothing where this
    #: frame does not say.
    announced: Tuple[Place, ...] = ()


def take_apart(data: bytes, size: int) -> List[Tuple[bytes, bytes, int, bytes]]:
    """Give (type and way, index, counter, ciphertext and tag) of each frame in ``data``.

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
    return struct.Struct(f"<2s2x4sQ{size - HEADER_SIZE}s")


def encode_control(control: Control, size: int = 0) -> bytes:
    """Give the body to be sealed, padded to at least ``size`` bytes."""
    address, port = control.observed or ("::", 0)
    flags = control.state | _ANSWER * control.answer | _CALLS * control.calls
    flags |= _CHALLENGE * control.challenge | _TAKES_PARTIAL * control.takes_partial
    flags |= _SHUTS_OUT * control.shuts_out
    body = _CONTROL.pack(
        flags,
        control.way,
        min(round(control.pause_s / _PAUSE_S), 0xFFFF),
        control.src_index,
        control.dst_index,
        control.mark,
        control.echo,
        min(control.held_ms, 0xFFFFFFFF),
        control.probe,
        control.probe_heard,
        _packed(address),
        port,
        control.received & 0xFFFFFFFF,
    )
    if control.announced:
        places = control.announced[:MAX_ANNOUNCED]
        body += bytes((len(places),)) + b"".join(
            _PLACE.pack(index, _packed(endpoint[0]), endpoint[1]) for index, endpoint in places
        )
    return body + bytes(max(0, size - len(body)))


def decode_control(body: bytes) -> Optional[Control]:
    """Read an opened body; None if it is none.

    Flags and bytes that are not known are left to later versions.
    """
    if len(body) < CONTROL_SIZE:
        return None
    (flags, way, pause, src_index, dst_index, mark, echo, held_ms) = struct.unpack_from(
        "<BBHIIIII", body
    )
    probe, probe_heard, address, port, received = struct.unpack_from("<HH16sHI", body, 24)
    state = flags & _STATE_MASK
    if state > 2 or not src_index or not way or not mark:
        return None
    announced = _announced(body)
    if announced is None:
        return None
    return Control(
        state=state,
        src_index=src_index,
        dst_index=dst_index,
        way=way,
        pause_s=pause * _PAUSE_S,
        answer=flags & _ANSWER != 0,
        calls=flags & _CALLS != 0,
        challenge=flags & _CHALLENGE != 0,
        mark=mark,
        echo=echo,
        held_ms=held_ms,
        probe=probe,
        probe_heard=probe_heard,
        observed=(_text(address), port) if port else None,
        received=received,
        takes_partial=flags & _TAKES_PARTIAL != 0,
        shuts_out=flags & _SHUTS_OUT != 0,
        announced=announced,
    )


def _announced(body: bytes) -> Optional[Tuple[Place, ...]]:
    """Read the list that may follow the fields; None if there is less than it counts."""
    count = body[CONTROL_SIZE] if len(body) > CONTROL_SIZE else 0
    start = CONTROL_SIZE + 1
    if len(body) < start + count * _PLACE.size and count:
        return None
    used = body[start : start + min(count, MAX_ANNOUNCED) * _PLACE.size]
    return tuple((index, (_text(where), port)) for index, where, port in _PLACE.iter_unpack(used))


def outer_size(address: str) -> int:
    """Give the bytes of the IP and UDP headers of a datagram to ``address``."""
    return (IPV6_SIZE if is_ipv6(address) else IPV4_SIZE) + UDP_SIZE


def is_ipv6(address: str) -> bool:
    """Say whether the text of an address is an IPv6 one's."""
    return ":" in address


def pack_endpoint(endpoint: Endpoint) -> bytes:
    """Give 18 bytes that stand for an endpoint."""
    return _packed(endpoint[0]) + endpoint[1].to_bytes(2, "little")


def _packed(address: str) -> bytes:
    # The scope of a link-local address means nothing to the other end.
    packed = ipaddress.ip_address(address.partition("%")[0]).packed
    return packed if len(packed) == 16 else _MAPPED + packed


def _text(packed: bytes) -> str:
    if packed[:12] == _MAPPED:
        return str(ipaddress.IPv4Address(packed[12:]))
    return str(ipaddress.IPv6Address(packed))
