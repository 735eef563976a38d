"""The one nftables table of the agent.

The kernel would parse the bytes after the IPv4 header as options, find them invalid and answer
each datagram with an ICMP parameter problem. A prerouting rule drops the datagrams before that;
the agent has its own copy from the packet socket by then.
"""

from __future__ import annotations

import os
import shutil
import subprocess

TABLE = "ropeway"
TIMEOUT_S = 10.0

RULES = f"""\
table ip {TABLE} {{
    chain prerouting {{
        type filter hook prerouting priority -300; policy accept;
        ip protocol 4 ip hdrlength 8 drop
    }}
}}
"""

# `add` makes `delete` succeed whether or not the table is there; all of it is one transaction.
DELETION = f"add table ip {TABLE}\ndelete table ip {TABLE}\n"


def replace() -> None:
    """Put the table in place, whole, whatever an earlier agent left under its name.

    `OSError` with a sentence where nft is missing or refuses.
    """
    _nft(DELETION + RULES)


def delete() -> bool:
    """Remove the table; False if there is none. `OSError` as for `replace`."""
    if _run(f"list table ip {TABLE}\n").returncode:
        return False
    _nft(DELETION)
    return True


def _nft(script: str) -> None:
    done = _run(script)
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError("nft refused the table {}: {}".format(TABLE, " ".join(complaint[:2])))


def _run(script: str) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise OSError("there is no program nft: install the package nftables")
    try:
        return subprocess.run(
            [program, "-f", "-"],
            input=script.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"nft did not answer within {TIMEOUT_S} s") from None
