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

import os
import subprocess

TIMEOUT_S = 10.0
SBIN = ":/usr/sbin:/sbin"  # not on everybody's path


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


def delete(table: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Remove the table; False if there is none. `OSError` as for `replace`."""
    if _run(f"list table ip {table}\n", timeout_s).returncode:
        return False
    _nft(table, _deletion(table), timeout_s)
    return True


def _deletion(table: str) -> str:
    # `add` makes `delete` succeed whether or not the table is there; all is one transaction.
    return f"add table ip {table}\ndelete table ip {table}\n"


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
