"""Hints that links, addresses, routes or rules of this host have changed.

A hint only says where to look, so messages are not decoded: a host with a full routing table sends
thousands. Only their types are read.
"""

from __future__ import annotations

import errno
import socket

from pyroute2.netlink import NETLINK_ROUTE
from pyroute2.netlink.rtnl import (
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV4_RULE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_LINK,
)

from ropeway.steward.interface import Change
from ropeway.steward.netlink import headers

_BYTES_MAX = 65536
_ROUTING = frozenset((RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWRULE, RTM_DELRULE))


class Hints:
    """A socket that becomes readable when something changes; IPv6 counts only with `ipv6`."""

    def __init__(self, ipv6: bool = False) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE
        )
        groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE
        if ipv6:
            groups |= RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
        self._socket.bind((0, groups))

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def drain(self, limit: int = 4096) -> Change:
        """Throw away what waits, at most `limit` datagrams; return what they were about.

        Messages that the kernel had to drop (`ENOBUFS`) count as changes of everything.
        """
        change = Change.NOTHING
        for _ in range(limit):
            try:
                messages = self._socket.recv(_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                change = Change.INTERFACES
            else:
                change = max(change, _change(messages))
        return change

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _change(messages: bytes) -> Change:
    kinds = {kind for kind, _ in headers.split(messages)}
    return Change.ROUTES if kinds and kinds <= _ROUTING else Change.INTERFACES
