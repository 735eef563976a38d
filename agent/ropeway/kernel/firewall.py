"""The one nftables table of an agent, by the name of its device.

The kernel would parse the bytes after the IPv4 header as options, find them invalid and answer
each datagram with an ICMP parameter problem. A prerouting rule drops the datagrams before that;
the agent has its own copy from the packet socket by then.

Not so on a bridge: with br_netfilter its prerouting hook comes before the packet socket, and other
machines' datagrams that merely pass over the bridge come by there too. So what enters by a bridge
goes on, and it is the ICMP errors that are dropped where this host would send them. A datagram that
happens to parse goes no further than the input hook.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess

from ropeway.kernel import nlmsg

TIMEOUT_S = 10.0
LOST_MESSAGES_MAX = 64
SBIN = ":/usr/sbin:/sbin"  # not on everybody's path

# include/uapi/linux/netfilter/nfnetlink.h
NETLINK_NETFILTER = 12  # include/uapi/linux/netlink.h
NFNLGRP_NFTABLES = 7
NFNL_SUBSYS_NFTABLES = 10
# include/uapi/linux/netfilter/nf_tables.h, enum nf_tables_msg_types
NFT_MSG_NEWRULE = 6
NFT_MSG_DELETIONS = (2, 5, 8)  # a table, a chain, a rule
# NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and NFTA_RULE_TABLE alike
NFTA_TABLE = 1
NFPROTO_IPV4 = 2
#   struct nfgenmsg { __u8 nfgen_family; __u8 version; __be16 res_id; };
NFGENMSG_BYTES = 4
MESSAGES_BYTES_MAX = 65536


def table_of(device_name: str) -> str:
    """Return the name of the table of the agent whose device is `device_name`."""
    return "ropeway-" + device_name


def rules(table: str) -> str:
    """Return the table as nft reads it."""
    # The error quotes the datagram from bit 64 on: its first byte (version 4, 8 words), its
    # protocol.
    return f"""\
table ip {table} {{
    chain prerouting {{
        type filter hook prerouting priority -300; policy accept;
        meta iifkind "bridge" accept
        ip protocol 4 ip hdrlength 8 drop
    }}
    chain input {{
        type filter hook input priority -300; policy accept;
        ip protocol 4 ip hdrlength 8 drop
    }}
    chain output {{
        type filter hook output priority -300; policy accept;
        icmp type parameter-problem @th,64,8 0x48 @th,136,8 4 drop
    }}
}}
"""


def replace(table: str, timeout_s: float = TIMEOUT_S) -> None:
    """Put the table in place, whole, whatever an earlier agent left under its name.

    `OSError` with a sentence where nft is missing, refuses, or takes longer than `timeout_s`.
    """
    _nft(table, _deletion(table) + rules(table), timeout_s)


def delete(table: str) -> bool:
    """Remove the table; False if there is none. `OSError` as for `replace`."""
    if _run(f"list table ip {table}\n").returncode:
        return False
    _nft(table, _deletion(table))
    return True


def _deletion(table: str) -> str:
    # `add` makes `delete` succeed whether or not the table is there; all is one transaction.
    return f"add table ip {table}\ndelete table ip {table}\n"


class Watch:
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
        for _ in range(LOST_MESSAGES_MAX):
            try:
                messages = self._socket.recv(MESSAGES_BYTES_MAX)
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
    own = table.encode() + b"\0"
    for kind, body in nlmsg.messages(messages):
        if kind >> 8 != NFNL_SUBSYS_NFTABLES or body[:1] != bytes([NFPROTO_IPV4]):
            continue
        if dict(nlmsg.attributes(body, NFGENMSG_BYTES)).get(NFTA_TABLE) == own:
            if kind & 0xFF == NFT_MSG_NEWRULE:
                gone = False
            elif kind & 0xFF in NFT_MSG_DELETIONS:
                gone = True
    return gone


def _nft(table: str, script: str, timeout_s: float = TIMEOUT_S) -> None:
    done = _run(script, timeout_s)
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError("nft refused the table {}: {}".format(table, " ".join(complaint[:2])))


def _run(script: str, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[bytes]:
    path = os.environ.get("PATH", os.defpath) + SBIN
    try:
        return subprocess.run(
            ["nft", "-f", "-"],
            input=script.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": path},
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise OSError("there is no program nft: install the package nftables") from None
    except subprocess.TimeoutExpired:
        raise OSError(f"nft did not answer within {timeout_s:g} s") from None
