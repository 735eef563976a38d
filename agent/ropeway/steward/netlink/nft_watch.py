"""Hears of changes of nftables.

pyroute2's socket for nftables makes and lists tables and takes no part in the multicast group of
their changes, so the messages are read from a plain socket here; pyroute2 decodes them.
Source: `include/uapi/linux/netfilter/nfnetlink.h`, `include/uapi/linux/netfilter/nf_tables.h`.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Iterator

from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.nfnetlink import nfgen_msg

from ropeway.steward.netlink import headers

NFNLGRP_NFTABLES = 7
NFNL_SUBSYS_NFTABLES = 10
# enum nf_tables_msg_types
NFT_MSG_NEWRULE = 6
NFT_MSG_DELETIONS = (2, 5, 8)  # a table, a chain, a rule
NFPROTO_IPV4 = 2
_MESSAGES_MAX = 64
_BYTES_MAX = 65536


class _Change(nfgen_msg):  # type: ignore[misc]
    """What all these messages have: the table, as their first attribute."""

    nla_map = (("NFTA_UNSPEC", "none"), ("NFTA_TABLE", "asciiz"))


class NftWatch:
    """Hears when somebody takes the table away, as every restart of nftables.service does.

    `OSError` with `EPERM` says that CAP_NET_ADMIN is missing.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
        try:
            self._socket.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def lost(self) -> bool:
        """Read what waits, up to a limit; True if of the table something is deleted by now."""
        gone = False
        for _ in range(_MESSAGES_MAX):
            try:
                messages = self._socket.recv(_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # The kernel had to drop messages, and one of them may have been the deletion.
                gone = True
                continue
            gone = table_gone(self._table, messages, gone)
        return gone

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def table_gone(table: str, messages: bytes, gone: bool) -> bool:
    """Tell whether `table` is gone after nfnetlink `messages`, if it was `gone` before."""
    for message in _changes(messages):
        kind = message["header"]["type"]
        if kind >> 8 != NFNL_SUBSYS_NFTABLES or message["nfgen_family"] != NFPROTO_IPV4:
            continue
        if message.get_attr("NFTA_TABLE") == table:
            if kind & 0xFF == NFT_MSG_NEWRULE:
                gone = False
            elif kind & 0xFF in NFT_MSG_DELETIONS:
                gone = True
    return gone


def _changes(messages: bytes) -> Iterator[Any]:
    for _, whole in headers.split(messages):
        message = _Change(whole)
        message.decode()
        yield message
