"""The path MTU of one connection, found by probes of its own and without ICMP.

The model is RFC 8899 (DPLPMTUD): control frames are padded to a size, the other end says which
size it heard, and silence after some tries means that the size does not pass. What differs:

- It starts with the link's MTU instead of ending there, because most paths carry it, and lets data
  use it until the first probes of that size have failed (RFC 8899 starts at the base).
- The other end answers a probe at once, so the timer follows the round-trip time.
- While it is settled, and data flows, the size in use is probed all the time, since data is never
  acknowledged here: that finds black holes (section 4.3 there).
- An end repeats the size that it heard last in every frame, so a probe never has the size that was
  reported last: where it would, it is a byte smaller.

::

    STARTING --heard--> SEARCHING <--> SETTLED <--> VERIFYING, RAISING
        |                ^                              |
        `----failed----> BASE <--------failed-----------'  (a black hole)

Sizes are those of outer IP packets in bytes, times monotonic seconds.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Dict, List, Set

#: What can be probed at all: an IP packet's total length has 16 bits (RFC 791, section 3.1).
MTU_MAX = 65535
#: What data may use while nothing larger is proven; IPv6 promises it (RFC 8200, section 5), and
#: next to all IPv4 paths carry it.
BASE_MTU = 1280
#: A size that is heard of none of so many probes does not pass (RFC 8899, section 5.1.2).
TRIES = 3
#: So many more for the size that decides where the search ends; and where probes were lost before.
CONFIRM_TRIES = 3
CONFIRM_TRIES_LOSSY = 9
#: A probe is waited for so many round-trip times, within these bounds in seconds.
TIMEOUT_RTTS = 3.0
TIMEOUT_MIN_S = 0.25
TIMEOUT_MAX_S = 3.0
#: Assumed until a round-trip time was measured, in milliseconds.
RTT_MS = 100.0
#: The search ends when what passes and what does not are this close, in bytes ...
RESOLUTION = 8
#: ... or this close if what passes is a likely size.
LIKELY_RESOLUTION = 24
#: Sizes that real paths have: Ethernet and jumbo frames, PPPoE, tunnels (GRE, IPsec, WireGuard,
#: L2TP), mobile networks, and the plateaus of RFC 1191, section 7.
LIKELY = (
    *(576, 1006, 1280, 1300, 1340, 1358, 1380, 1400, 1420, 1428, 1440, 1450, 1460, 1472, 1480),
    *(1492, 1500, 2002, 4352, 8166, 9000, 9216, 17914, 32000, 65535),
)
#: The size in use is probed this often while data flows, and without data at most this often.
VERIFY_S = 1.0
VERIFY_IDLE_S = 180.0
#: Probes of the size in use fail by chance this rarely, at the loss that was seen, before a black
#: hole is believed in; at least :data:`TRIES` and at most so many.
VERIFY_CHANCE = 1e-5
VERIFY_TRIES_MAX = 20
#: Share of probes that are assumed lost at first, and how fast that follows what is seen.
LOSS = 0.1
LOSS_SHARE = 1 / 16
#: A larger size is tried so long after a search, which chance may have ended, and after each such
#: try, with data and without (RFC 8899, section 5.1.1, PMTU_RAISE_TIMER).
RAISE_SOON_S = 10.0
RAISE_S = 60.0
RAISE_IDLE_S = 600.0
#: When nothing at all was heard for this long while data flows, probes say nothing about sizes.
COMEBACK_S = 1.0

_INF = float("inf")


class Phase(Enum):
    """What the present probes are for."""

    #: Whether the size that data uses already passes.
    STARTING = 0
    #: Whether the base passes.
    BASE = 1
    #: How much more passes.
    SEARCHING = 2
    #: None under way.
    SETTLED = 3
    #: Whether the size in use still passes.
    VERIFYING = 4
    #: Whether more passes by now.
    RAISING = 5


_AT_REST = frozenset({Phase.SETTLED, Phase.VERIFYING, Phase.RAISING})


class PathMtu:
    """Finds and watches the largest outer IP packet that one connection's path carries.

    ``floor`` is what every path carries: 576 for IPv4 (RFC 1122, section 3.3.2), 1280 for IPv6.
    ``link_mtu`` is the sending link's; both in bytes.
    """

    __slots__ = (
        "_active",
        "_alive_at",
        "_began_at",
        "_confirmed",
        "_due",
        "_failed",
        "_floor",
        "_limit",
        "_link_mtu",
        "_loss",
        "_lossy",
        "_lower",
        "_phase",
        "_raise_at",
        "_raise_sizes",
        "_reported",
        "_rest_mtu",
        "_sent",
        "_size",
        "_timeout_s",
        "_tries",
        "_verify_at",
        "mtu",
        "verify_s",
    )

    def __init__(self, link_mtu: int, floor: int, now: float) -> None:
        self._link_mtu = min(link_mtu, MTU_MAX)
        self._floor = floor
        #: What data may use now.
        self.mtu = self._link_mtu
        #: How often the size in use is probed while data flows, in seconds.
        self.verify_s = VERIFY_S
        self._active = True
        self._timeout_s = 0.0
        self.set_rtt(RTT_MS)
        self._loss = LOSS
        self._reported = 0
        self._alive_at = now
        self._began_at = now
        # The MTU when probing last came to rest; 0 while it never did.
        self._rest_mtu = 0
        # Sizes that were sent on this path: as sent -> as meant.
        self._sent: Dict[int, int] = {}
        # Sizes that seem not to pass, and those of them that were tried again.
        self._failed: Set[int] = set()
        self._confirmed: Set[int] = set()
        # What passes, as far as is known or assumed.
        self._lower = self.mtu
        self._lossy = False
        self._raise_sizes: List[int] = []
        self._verify_at = self._raise_at = _INF
        # What is being tried, 0 for nothing; how often at most and by now; when that is judged.
        self._size = self._limit = self._tries = 0
        self._due = _INF
        self._phase = Phase.STARTING
        self.restart(now)

    @property
    def settled(self) -> bool:
        """Whether the search has come to an end."""
        return self._phase in _AT_REST

    @property
    def assumed(self) -> bool:
        """Whether nothing has shown yet that packets of this size pass."""
        return self._phase == Phase.STARTING and not self._rest_mtu

    @property
    def _base(self) -> int:
        return min(max(self._floor, BASE_MTU), self._link_mtu)

    @property
    def _bottom(self) -> int:
        return min(self._floor, self._link_mtu)

    # What the control side says.

    def restart(self, now: float) -> None:
        """Begin anew: the path is another one. Data goes on with what the former one carried."""
        self.mtu = min(self._rest_mtu or self._link_mtu, self._link_mtu)
        self._begin()
        if self.mtu <= self._bottom:
            self._search(now)
        else:
            self._phase = Phase.STARTING
            self._try(self.mtu, TRIES, now)

    def set_link_mtu(self, link_mtu: int, now: float) -> None:
        """Follow the link's own MTU."""
        link_mtu = min(link_mtu, MTU_MAX)
        if link_mtu == self._link_mtu:
            return
        grown = link_mtu > self._link_mtu
        was_optimistic = self._phase == Phase.STARTING and self.mtu == self._link_mtu
        self._link_mtu = link_mtu
        if was_optimistic or not (grown or self.settled) or self.mtu < self._bottom:
            self._rest_mtu = max(self._rest_mtu, self._bottom) if self._rest_mtu else 0
            self.restart(now)
        elif grown:
            self._raise_at = now
        else:
            self.mtu = self._lower = min(self.mtu, link_mtu)
            self._settle(now)

    def set_rtt(self, rtt_ms: float) -> None:
        """Take the connection's round-trip time in milliseconds."""
        timeout_s = TIMEOUT_RTTS * rtt_ms / 1000
        self._timeout_s = min(max(timeout_s, TIMEOUT_MIN_S), TIMEOUT_MAX_S)

    def alive(self, now: float) -> None:
        """Take note that any frame was heard on the connection."""
        if self._active and now - self._alive_at > COMEBACK_S and self._tries:
            # What was lost in the silence had another cause than its size.
            self._tries = 0
            self._due = min(self._due, now)
        self._alive_at = now

    def heard(self, size: int, now: float) -> None:
        """Take note that the other end says that ``size`` is the last probe that it heard."""
        self.alive(now)
        if size == self._reported:
            return
        self._reported = size
        proven = self._sent.get(size, 0)
        if not proven:
            return
        if proven == self._size:
            self._count(self._tries - 1)
        if proven > self._lower:
            self._lower = proven
            self._failed = {failed for failed in self._failed if failed > proven}
            if proven > self.mtu or self._phase in (Phase.BASE, Phase.SEARCHING):
                self.mtu = proven
                if self.settled:
                    self._phase = Phase.SEARCHING
        if proven >= self._size:
            self._succeed(now)

    # What it wants of the control side.

    def probe(self, now: float, active: bool = True) -> int:
        """Return the size that a control frame is to be padded to now, 0 if none is due.

        ``active`` says whether data flows. Without, the size in use is probed only when this is
        called, so with the keepalives.
        """
        if active and not self._active:
            if self._verify_at != _INF:
                self._verify_at = min(self._verify_at, now + self.verify_s)
            if self._raise_at != _INF:
                self._raise_at = min(self._raise_at, now + RAISE_S)
        self._active = active
        if self._size and self._tries and now >= self._due:
            judged = not active or self._alive_at > self._began_at
            if self._tries >= self._limit and judged:
                self._fail(now)
        if self._phase == Phase.SETTLED:
            self._watch(now)
        if not self._size or now < self._due:
            return 0
        if not self._tries:
            self._began_at = now
        self._tries += 1
        self._due = now + self._timeout_s
        size = self._size if self._size != self._reported else self._size - 1
        self._sent[size] = self._size
        return size

    def deadline(self) -> float:
        """Return the time of the next :meth:`probe`; infinity if the keepalives are enough."""
        if self.settled and not self._active:
            return _INF
        if self._size:
            return self._due
        return min(self._verify_at, self._raise_at)

    # The search.

    def _begin(self) -> None:
        """Forget what is known of the path."""
        self._sent.clear()
        self._failed.clear()
        self._confirmed.clear()
        self._lower = min(self._base, self.mtu)
        self._lossy = False
        self._verify_at = self._raise_at = _INF

    def _try(self, size: int, tries: int, now: float) -> None:
        self._size, self._limit, self._tries, self._due = size, tries, 0, now

    def _rest(self) -> None:
        self._size, self._limit, self._tries, self._due = 0, 0, 0, _INF

    def _succeed(self, now: float) -> None:
        if self._phase == Phase.VERIFYING:
            self._phase = Phase.SETTLED
            self._rest()
            self._verify_at = now + (self.verify_s if self._active else VERIFY_IDLE_S)
        elif self._phase != Phase.SETTLED:
            self._search(now)

    def _fail(self, now: float) -> None:
        size = self._size
        if self._phase == Phase.VERIFYING:
            self._fall(now)
            return
        self._confirmed |= {size} & self._failed
        self._failed.add(size)
        if self._phase == Phase.STARTING:
            self._to_base(now)
        elif self._phase == Phase.BASE:
            self._to_bottom(now)
        elif self._phase == Phase.RAISING:
            self._raise(now)
        else:
            self._next(now)

    def _fall(self, now: float) -> None:
        """Give up the size in use: it is not heard any more, while smaller frames are."""
        former = self.mtu
        self._begin()
        if former > self._base:
            self._to_base(now)
        else:
            self._to_bottom(now)
        self._rest_mtu = self.mtu

    def _to_base(self, now: float) -> None:
        self.mtu = self._lower = self._base
        if min(self._failed, default=MTU_MAX) <= self._base or self._base <= self._bottom:
            self._to_bottom(now)
        else:
            self._phase = Phase.BASE
            self._try(self._base, TRIES, now)

    def _to_bottom(self, now: float) -> None:
        self.mtu = self._lower = self._bottom
        self._search(now)

    def _search(self, now: float) -> None:
        self._phase = Phase.SEARCHING
        self._next(now)

    def _next(self, now: float) -> None:
        """Choose the next size, or settle."""
        lower, link = self._lower, self._link_mtu
        if lower >= link:
            self._settle(now)
            return
        upper = min((size for size in self._failed if size <= link), default=0)
        if not upper:
            self._try(link, TRIES, now)
            return
        likely = [size for size in LIKELY if lower < size < upper]
        close = LIKELY_RESOLUTION if lower in LIKELY else RESOLUTION
        if likely:
            self._try(likely[len(likely) // 2], TRIES, now)
        elif upper - lower > close:
            self._try((lower + upper) // 2, TRIES, now)
        elif upper not in self._confirmed:
            self._try(upper, CONFIRM_TRIES_LOSSY if self._lossy else CONFIRM_TRIES, now)
        else:
            self._settle(now)

    def _settle(self, now: float) -> None:
        searched = self._phase != Phase.RAISING
        self._phase = Phase.SETTLED
        self._rest()
        self._rest_mtu = self.mtu
        self._verify_at = now + (self.verify_s if self._active else VERIFY_IDLE_S)
        raise_s = RAISE_SOON_S if searched else RAISE_S if self._active else RAISE_IDLE_S
        self._raise_at = now + raise_s if self.mtu < self._link_mtu else _INF
        if self.mtu <= self._bottom:
            # Nothing is below it that could be used instead.
            self._verify_at = _INF

    # What happens while it is settled.

    def _watch(self, now: float) -> None:
        if now >= self._raise_at:
            self._phase = Phase.RAISING
            self._failed.clear()
            self._confirmed.clear()
            self._lower = self.mtu
            larger = [size for size in LIKELY if self.mtu < size < self._link_mtu]
            self._raise_sizes = [self._link_mtu, *larger[:1]]
            self._raise(now)
        elif now >= self._verify_at:
            self._phase = Phase.VERIFYING
            self._try(self.mtu, self._verify_tries(), now)

    def _raise(self, now: float) -> None:
        if self._raise_sizes:
            self._try(self._raise_sizes.pop(0), TRIES, now)
        else:
            self._settle(now)

    def _verify_tries(self) -> int:
        tries = math.ceil(math.log(VERIFY_CHANCE) / math.log(min(max(self._loss, 1e-3), 0.9)))
        return min(max(tries, TRIES), VERIFY_TRIES_MAX)

    def _count(self, lost: int) -> None:
        """Take note of lost probes before one that was heard."""
        if lost > 0:
            self._lossy = True
        for share in (1.0,) * max(0, lost) + (0.0,):
            self._loss += LOSS_SHARE * (share - self._loss)
