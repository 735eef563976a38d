"""Which initiations are worth computing a handshake: budgets, and cookies for a busy host."""

from __future__ import annotations

import enum
import hmac
from typing import Callable, Dict, Tuple, TypeVar

from ropeway.core.endpoint import IPV4_MAPPED
from ropeway.core.frame.data import COOKIE
from ropeway.core.session.messages import (
    MAC1_START_SIZE,
    MAC_SIZE,
    NO_MAC,
    cookie_cipher,
    mac,
    mac1_of,
)
from ropeway.core.token_bucket import TokenBucket

#: A cookie is accepted for this time at least and twice as long at most, in seconds.
COOKIE_S = 120.0
#: Handshakes that strangers begin and that are computed: a second, and at once. One takes 0.07 ms
#: on a fast processor, and half a millisecond on a small board.
HANDSHAKE_RATE = 500.0
HANDSHAKE_BURST = 500.0
#: The same for sources that have begun a genuine handshake lately: strangers cannot use it up.
KNOWN_RATE = 100.0
KNOWN_BURST = 200.0
#: Handshakes of one source address that has shown a cookie: a second, and at once ...
SOURCE_RATE = 5.0
SOURCE_BURST = 20.0
#: ... and of all strangers of one network, an IPv4 /24 or an IPv6 /48, so that those of a few
#: networks do not take what the others need.
NETWORK_RATE = 5.0
NETWORK_BURST = 40.0
#: Source addresses and networks whose rate is kept, and known sources.
MAX_SOURCES = 1024

_SECRET_SIZE = 32
_SALT_SIZE = 16
_IPV6_PREFIX_BYTES = 8
#: Of an address in 16 bytes, what names its network: 96 and 24 bits, or 48.
_IPV4_NETWORK_BYTES = 15
_IPV6_NETWORK_BYTES = 6

_Value = TypeVar("_Value")


class Verdict(enum.Enum):
    """What happens to an initiation."""

    COMPUTED = enum.auto()
    COOKIE_DEMANDED = enum.auto()
    FLOOD = enum.auto()


class Admission:
    """The budgets for handshakes of strangers and of known sources, and the cookies' secrets.

    A source is the address and port that a datagram came from, as
    :func:`ropeway.core.endpoint.pack_endpoint` gives it.
    """

    def __init__(self, entropy: Callable[[int], bytes], now: float) -> None:
        self._entropy = entropy
        self._budget = TokenBucket(HANDSHAKE_RATE, HANDSHAKE_BURST, now)
        self._known_budget = TokenBucket(KNOWN_RATE, KNOWN_BURST, now)
        #: Where genuine handshakes came from lately, the newest at the end.
        self._known: Dict[bytes, None] = {}
        self._sources: Dict[bytes, TokenBucket] = {}
        self._networks: Dict[bytes, TokenBucket] = {}
        self._secrets = (entropy(_SECRET_SIZE), entropy(_SECRET_SIZE))
        self._secret_at = now

    def know(self, source: bytes) -> None:
        """Note that a genuine handshake came from there, or would: a share is kept for it."""
        address = _address(source)
        self._known.pop(address, None)
        bound(self._known, MAX_SOURCES)
        self._known[address] = None

    def is_known(self, source: bytes) -> bool:
        """Return whether a genuine handshake came from there lately."""
        return _address(source) in self._known

    def judge(self, datagram: bytes, source: bytes, now: float) -> Verdict:
        """Return what happens to an initiation, and take its share of the budgets."""
        known = self.is_known(source)
        budget = self._known_budget if known else self._budget
        if budget.left(now) < budget.burst / 2:
            # Nor can anybody take what is kept for a known source without being there.
            if not self.shows_cookie(datagram, source, now):
                return Verdict.COOKIE_DEMANDED
            rates = [self._source_rate(source, now)]
            if not known:
                rates.append(self._network_rate(source, now))
            if not all(rate.left(now) >= 1.0 for rate in rates):
                return Verdict.FLOOD
            for rate in rates:
                rate.take(now)
        return Verdict.COMPUTED if budget.take(now) else Verdict.FLOOD

    # Cookies.

    def renew_secrets(self) -> None:
        """Accept no cookie any more that was given out before."""
        self._secrets = (self._entropy(_SECRET_SIZE), self._entropy(_SECRET_SIZE))

    def cookie_for(self, datagram: bytes, source: bytes, key: bytes, now: float) -> bytes:
        """Return what has the sender of an initiation show that it is where that came from.

        ``key`` is the host's own :func:`ropeway.core.session.messages.cookie_key`.
        """
        mac1 = mac1_of(datagram)
        salt = self._entropy(_SALT_SIZE)
        cookie = mac(self._current_secrets(now)[0], source)
        sealed = cookie_cipher(key, salt).encrypt(bytes(12), cookie, mac1)
        return bytes((COOKIE, 0, 0, 0)) + salt + sealed + mac1[:MAC1_START_SIZE]

    def shows_cookie(self, datagram: bytes, source: bytes, now: float) -> bool:
        """Return whether an initiation has a cookie that was given to its source."""
        mac2 = datagram[-MAC_SIZE:]
        if mac2 == NO_MAC:
            return False
        body = datagram[:-MAC_SIZE]
        return any(
            hmac.compare_digest(mac(mac(secret, source), body), mac2)
            for secret in self._current_secrets(now)
        )

    def _current_secrets(self, now: float) -> Tuple[bytes, bytes]:
        age_s = now - self._secret_at
        if age_s >= COOKIE_S:
            former = self._secrets[0] if age_s < 2 * COOKIE_S else self._entropy(_SECRET_SIZE)
            self._secrets = (self._entropy(_SECRET_SIZE), former)
            self._secret_at = now
        return self._secrets

    def _source_rate(self, source: bytes, now: float) -> TokenBucket:
        return _rate_of(self._sources, _address(source), SOURCE_RATE, SOURCE_BURST, now)

    def _network_rate(self, source: bytes, now: float) -> TokenBucket:
        is_ipv4 = source.startswith(IPV4_MAPPED)
        network = source[: _IPV4_NETWORK_BYTES if is_ipv4 else _IPV6_NETWORK_BYTES]
        return _rate_of(self._networks, network, NETWORK_RATE, NETWORK_BURST, now)


def _address(source: bytes) -> bytes:
    """Return what stands for the sender in a packed endpoint.

    A port costs nothing, and an IPv6 network usually has 64 bits of addresses to spare.
    """
    return source[:-2] if source.startswith(IPV4_MAPPED) else source[:_IPV6_PREFIX_BYTES]


def _rate_of(
    table: Dict[bytes, TokenBucket], whose: bytes, rate: float, burst: float, now: float
) -> TokenBucket:
    """Return somebody's rate out of a bounded table, a new one if there is none."""
    found = table.get(whose)
    if found is None:
        bound(table, MAX_SOURCES)
        found = table[whose] = TokenBucket(rate, burst, now)
    return found


def bound(table: Dict[bytes, _Value], limit: int) -> None:
    """Make room for one more entry; the oldest one goes."""
    while len(table) >= limit:
        del table[next(iter(table))]
