"""Which counters of a session have been received."""

from __future__ import annotations

from typing import Optional

#: Bits of a replay window: 2.6 s of 50 000 packets a second. A power of two, at least 16.
REPLAY_BITS = 131_072
#: How far below the highest counter the next one may be: all bits but those of the byte in use.
REPLAY_REACH = REPLAY_BITS - 8
#: A counter this far above the highest is no loss, which would be hours of frames: its sender has
#: skipped what a copy of it may use.
REPLAY_SKIP = 2**32

_RING_BYTES = REPLAY_BITS // 8
_RING_MASK = _RING_BYTES - 1
# The ring begins so small, and doubles as counters grow: most sessions carry little.
_RING_BYTES_FIRST = 128
_BIT = (1, 2, 4, 8, 16, 32, 64, 128)


class ReplayWindow:
    """Which counters of a session have been received (RFC 6479, with bytes for blocks).

    A ring of bits in which nothing is shifted: when the highest counter enters another byte of the
    ring, the bytes from there on are cleared, at most the whole ring once. ``check`` comes before
    a frame is opened, ``mark`` only once it has proven authentic. While no counter has been as high
    as the ring has bits, it has only the bytes below the highest one: nothing would be in others.

    Where the sender skips counters, what it sent before may still be under way: the window as it
    was stays beside the new one, until the next skip.
    """

    __slots__ = ("_former", "_former_end", "_ring", "top")

    NEW = 0
    DUPLICATE = 1
    TOO_OLD = 2

    def __init__(self) -> None:
        self._ring = bytearray(_RING_BYTES_FIRST)
        #: The highest counter marked; -1 before the first.
        self.top = -1
        #: The window before the last skip, which judges counters up to an end: from there on they
        #: have been this one's since.
        self._former: Optional[ReplayWindow] = None
        self._former_end = -1

    def check(self, counter: int) -> int:
        """Return whether ``counter``, 0 or more, is NEW (0), a DUPLICATE (1) or TOO_OLD (2)."""
        below = self.top - counter
        if below < 0:
            return 0
        if below >= REPLAY_REACH:
            former = self._former_for(counter)
            return 2 if former is None else former.check(counter)
        return self._ring[counter >> 3 & _RING_MASK] >> (counter & 7) & 1

    def mark(self, counter: int) -> None:
        """Note that ``counter`` has been received; one that is too old is left out."""
        top = self.top
        block = counter >> 3
        if counter > top:
            if counter - top >= REPLAY_SKIP and top >= 0:
                self._keep_former(counter)
            ring = self._ring
            self.top = counter
            ahead = block - (top >> 3)
            if ahead == 0:
                ring[block & _RING_MASK] |= _BIT[counter & 7]
                return
            while block >= len(ring) < _RING_BYTES:
                ring += bytes(len(ring))
            if ahead >= _RING_BYTES:
                ring[:] = bytes(_RING_BYTES)
            elif ahead > 1:
                start = (top >> 3) + 1 & _RING_MASK
                end = start + ahead - 1
                if end <= _RING_BYTES:
                    ring[start:end] = bytes(end - start)
                else:
                    ring[start:] = bytes(_RING_BYTES - start)
                    ring[: end - _RING_BYTES] = bytes(end - _RING_BYTES)
            ring[block & _RING_MASK] = _BIT[counter & 7]
        elif top - counter < REPLAY_REACH:
            self._ring[block & _RING_MASK] |= _BIT[counter & 7]
        else:
            former = self._former_for(counter)
            if former is not None:
                former.mark(counter)

    def _former_for(self, counter: int) -> Optional[ReplayWindow]:
        """Return the window that judges a counter which is too old for this one; None for none."""
        former = self._former
        # It keeps none itself: there are two at most.
        if former is None or counter > self._former_end or counter - former.top >= REPLAY_SKIP:
            return None
        return former

    def _keep_former(self, counter: int) -> None:
        """Keep the window as it is; the ring in its place is cleared by ``counter``, far above."""
        former = self._former or ReplayWindow()
        former._ring, self._ring = self._ring, former._ring
        former.top = self.top
        self._former = former
        self._former_end = counter - REPLAY_REACH
