"""Control frames: what one end says about one connection, bytes <-> :class:`Control`.

A control frame has the header of :mod:`ropeway.core.frame.data`; this is what is sealed in it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Optional, Tuple

from ropeway.core.endpoint import Endpoint, Place, pack_address, unpack_address
from ropeway.core.frame.data import LANES

#: ``flags, way, pause, src_index, dst_index, mark, echo, held, probe, probe_heard, address, port,
#: received``; what is announced may follow, then what was measured, how long lanes are held, and
#: zeros in a frame that probes the path MTU.
_CONTROL = struct.Struct("<BBHIIIIIHH16sHI")
CONTROL_SIZE = _CONTROL.size
#: Endpoints that one frame announces: eight links with IPv4 and IPv6 each. The frame stays below
#: :data:`ropeway.core.frame.outer.IPV4_MTU_MIN` that way.
MAX_ANNOUNCED = 16
#: ``index, address, port`` of each, after one byte that counts them.
_PLACE = struct.Struct("<I16sH")
#: ``clock, sent, received, queue, jitter, role, ask``, after one byte that says how long that is.
_MEASURED = struct.Struct("<IIIHHBH")
#: Versions up to 0.9.0 end before ``ask``.
_MEASURED_SHORT = struct.Struct("<IIIHHB")
#: Bytes that the measurement adds to a body that announces something.
MEASURED_SIZE = 1 + _MEASURED.size
#: Milliseconds of each lane, after the measurement and one byte that says how many bytes that is,
#: itself included.
_HOLD = struct.Struct("<H")
#: Bytes that this adds where there are no lanes.
HOLDS_SIZE = 1
#: What a host may say that it takes, one bit each.
TAKES_MESSAGES = 1
TAKES_PARITY = 2
TAKES_LABELS = 8
TAKES_IPV6 = 16
#: Bytes of these bits, after one byte that says how many follow.
_FEATURES_SIZE = 2
FEATURES_SIZE = 1 + _FEATURES_SIZE
#: The longest time for which packets of a lane may be held back.
HOLD_MAX_MS = 2000
#: A clock counts in this unit, milliseconds, up to so many.
CLOCK_MS = 0.01
CLOCK_TICKS = 1 << 32
#: The unit of ``queue`` and ``jitter`` in milliseconds, and what says that they are not known.
_WAIT_MS = 0.1
_UNKNOWN = 0xFFFF
_ROLE_MAX = 2
#: The unit of ``ask`` in seconds.
_ASK_S = 0.001
_STATE_MASK = 3
_ANSWER = 4
_CALLS = 8
_CHALLENGE = 16
_TAKES_PARTIAL = 32
_SHUTS_OUT = 64
_METERED = 128
#: The unit of ``pause`` in seconds.
_PAUSE_S = 0.01


@dataclass(frozen=True)
class Measured:
    """What the sender of a control frame has counted and measured on the connection."""

    #: Its clock when it sent this frame, in units of :data:`CLOCK_MS`, modulo :data:`CLOCK_TICKS`.
    clock: int
    #: Data frames and control frames without a probe that it has sent before, modulo 2**32 ...
    sent: int
    #: ... and that it had received when the frame came that this one echoes, modulo 2**32.
    received: int
    #: How long that frame had waited in queues on its way, 0 to 6553; None where it cannot say.
    queue_ms: Optional[float] = None
    #: How much the time on the way varies, 0 to 6553; None where it cannot say.
    jitter_ms: Optional[float] = None
    #: Which packets the sender wants over the connection, a :class:`ropeway.core.link.Role`.
    role: int = 0
    #: How far apart frames have to be that ask the sender for an answer in order to measure, over
    #: all connections to it, 0 to 65 s.
    ask_pause_s: float = 0.0


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
    #: Whether the receiver may send :data:`ropeway.core.frame.data.PARTIAL` frames.
    takes_partial: bool = False
    #: Whether the receiver no longer belongs to the sender's network: the session ends with this.
    shuts_out: bool = False
    #: Whether the bytes of the sender's link cost money, so that nothing is to pass over the
    #: connection that need not.
    metered: bool = False
    #: Where the sender's links can be called, at most :data:`MAX_ANNOUNCED`; nothing where this
    #: frame does not say.
    announced: Tuple[Place, ...] = ()
    #: None where the sender says nothing of that.
    measured: Optional[Measured] = None
    #: For how long at most the receiver holds packets back for one before them, by lane from 0, 0
    #: to :data:`HOLD_MAX_MS`; the receiver chooses for a lane that is not named. None where the
    #: sender of this frame takes no frames of lanes, or does not say.
    holds_ms: Optional[Tuple[int, ...]] = None
    #: What the sender takes under the session of this frame: a sum of :data:`TAKES_MESSAGES`,
    #: :data:`TAKES_IPV6` and others; 0 where it does not say.
    features: int = 0
    #: How many packets a parity frame of the sender covers, by lane from 0, up to
    #: :data:`ropeway.core.frame.parity.COVERED_MAX`; 0 where a lane has none.
    parities: Tuple[int, ...] = ()


def encode_control(control: Control, size: int = 0) -> bytes:
    """Give the body to be sealed, padded to at least ``size`` bytes."""
    address, port = control.observed or ("::", 0)
    flags = control.state | _ANSWER * control.answer | _CALLS * control.calls
    flags |= _CHALLENGE * control.challenge | _TAKES_PARTIAL * control.takes_partial
    flags |= _SHUTS_OUT * control.shuts_out | _METERED * control.metered
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
        pack_address(address),
        port,
        control.received & 0xFFFFFFFF,
    )
    if control.announced or control.measured:
        places = control.announced[:MAX_ANNOUNCED]
        body += bytes((len(places),)) + b"".join(
            _PLACE.pack(index, pack_address(endpoint[0]), endpoint[1]) for index, endpoint in places
        )
    if control.measured:
        body += bytes((_MEASURED.size,)) + _encode_measured(control.measured)
        holds = control.holds_ms
        if holds is not None:
            body += bytes((1 + _HOLD.size * len(holds),)) + b"".join(map(_HOLD.pack, holds))
        elif control.features:
            body += bytes(HOLDS_SIZE)
        if control.features:
            body += bytes((_FEATURES_SIZE,)) + control.features.to_bytes(_FEATURES_SIZE, "little")
            if control.parities:
                body += bytes((len(control.parities), *control.parities))
    return body + bytes(max(0, size - len(body)))


def decode_control(body: bytes) -> Optional[Control]:
    """Read an opened body; None if it is none.

    Flags and bytes that are not known are left to later versions.
    """
    if len(body) < CONTROL_SIZE:
        return None
    fields = _CONTROL.unpack_from(body)
    flags, way, pause, src_index, dst_index, mark, echo, held_ms = fields[:8]
    probe, probe_heard, address, port, received = fields[8:]
    state = flags & _STATE_MASK
    if state > 2 or not src_index or not way or not mark:
        return None
    announced = _announced(body)
    if announced is None:
        return None
    measured = _decode_measured(body)
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
        observed=(unpack_address(address), port) if port else None,
        received=received,
        takes_partial=flags & _TAKES_PARTIAL != 0,
        shuts_out=flags & _SHUTS_OUT != 0,
        metered=flags & _METERED != 0,
        announced=announced,
        measured=measured,
        holds_ms=None if measured is None else _decode_holds(body),
        features=0 if measured is None else _decode_features(body),
        parities=() if measured is None else _decode_parities(body),
    )


def _encode_measured(measured: Measured) -> bytes:
    return _MEASURED.pack(
        measured.clock,
        measured.sent & 0xFFFFFFFF,
        measured.received & 0xFFFFFFFF,
        _encode_wait(measured.queue_ms),
        _encode_wait(measured.jitter_ms),
        measured.role,
        min(round(measured.ask_pause_s / _ASK_S), 0xFFFF),
    )


def _encode_wait(wait_ms: Optional[float]) -> int:
    return _UNKNOWN if wait_ms is None else min(round(wait_ms / _WAIT_MS), _UNKNOWN - 1)


def _decode_wait(wait: int) -> Optional[float]:
    return None if wait == _UNKNOWN else wait * _WAIT_MS


def _decode_measured(body: bytes) -> Optional[Measured]:
    """Read what follows a list of endpoints that is whole; None if it is not there.

    What follows it is left to later versions, as is another length.
    """
    if len(body) <= CONTROL_SIZE:
        return None
    start = CONTROL_SIZE + 1 + body[CONTROL_SIZE] * _PLACE.size
    layout = _MEASURED if body[start:] and body[start] >= _MEASURED.size else _MEASURED_SHORT
    if len(body) < start + 1 + layout.size or body[start] < layout.size:
        return None
    fields = layout.unpack_from(body, start + 1)
    clock, sent, received, queue, jitter, role = fields[:6]
    ask_pause_s = fields[6] * _ASK_S if len(fields) > 6 else 0.0
    if role > _ROLE_MAX:
        role = 0
    return Measured(
        clock, sent, received, _decode_wait(queue), _decode_wait(jitter), role, ask_pause_s
    )


def _decode_holds(body: bytes) -> Optional[Tuple[int, ...]]:
    """Read what follows a measurement; None if it is not there."""
    start = CONTROL_SIZE + 1 + body[CONTROL_SIZE] * _PLACE.size
    start += 1 + body[start]
    if len(body) <= start or not body[start]:
        return None
    used = body[start + 1 : start + min(body[start], 1 + LANES * _HOLD.size)]
    whole = used[: len(used) // _HOLD.size * _HOLD.size]
    return tuple(min(hold_ms, HOLD_MAX_MS) for (hold_ms,) in _HOLD.iter_unpack(whole))


def _decode_features(body: bytes) -> int:
    """Read what follows the times of lanes; 0 if it is not there."""
    start = _end_of_holds(body)
    if len(body) <= start:
        return 0
    said = body[start + 1 : start + 1 + min(body[start], _FEATURES_SIZE)]
    return int.from_bytes(said, "little")


def _decode_parities(body: bytes) -> Tuple[int, ...]:
    """Read what follows the features; nothing if it is not there."""
    start = _end_of_holds(body)
    if len(body) <= start:
        return ()
    start += 1 + body[start]
    if len(body) <= start:
        return ()
    return tuple(body[start + 1 : start + 1 + min(body[start], LANES)])


def _end_of_holds(body: bytes) -> int:
    """Return where the times of lanes end, after a measurement."""
    start = CONTROL_SIZE + 1 + body[CONTROL_SIZE] * _PLACE.size
    start += 1 + body[start]
    return start + max(1, body[start]) if len(body) > start else start


def _announced(body: bytes) -> Optional[Tuple[Place, ...]]:
    """Read the list that may follow the fields; None if there is less than it counts."""
    count = body[CONTROL_SIZE] if len(body) > CONTROL_SIZE else 0
    start = CONTROL_SIZE + 1
    if len(body) < start + count * _PLACE.size and count:
        return None
    used = body[start : start + min(count, MAX_ANNOUNCED) * _PLACE.size]
    return tuple(
        (index, (unpack_address(packed), port)) for index, packed, port in _PLACE.iter_unpack(used)
    )
