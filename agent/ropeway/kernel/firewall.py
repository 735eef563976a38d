"""The one nftables table of the agent.

The kernel would parse the bytes after the IPv4 header as options, find them invalid and answer
each datagram with an ICMP parameter problem. A prerouting rule drops the datagrams before that;
the agent has its own copy from the packet socket by then.
"""

from __future__ import annotations

import os
import shutil
import subprocess  # noqa: S404 - nft has no other interface in the standard library

TABLE = "ropeway"
TIMEOUT_S = 10.0

RULES = """\
table ip %(table)s {
    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
        ip protocol 4 ip hdrlength 8 drop
    }
}
""" % {"table": TABLE}

# `add` makes `delete` succeed whether or not the table is there; all of it is one transaction.
DELETION = "add table ip %(table)s\ndelete table ip %(table)s\n" % {"table": TABLE}


def replace() -> None:
    """Put the table in place, whole, whatever an earlier agent left under its name.

    `OSError` with a sentence where nft is missing or refuses.
    """
    _nft(DELETION + RULES)


def delete() -> None:
    """Remove the table; one that is not there is no error. `OSError` as for `replace`."""
    _nft(DELETION)


def _nft(script: str) -> None:
    program = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise OSError("there is no program nft: install the package nftables")
    try:
        done = subprocess.run(
            [program, "-f", "-"],
            input=script.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError("nft did not answer within %d s" % TIMEOUT_S) from None
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError("nft refused the table %s: %s" % (TABLE, " ".join(complaint[:2])))
