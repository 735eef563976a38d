"""Whether an interface answers ARP for the addresses of other interfaces.

Source: `Documentation/networking/ip-sysctl.rst` (arp_ignore), arp_ignore() of net/ipv4/arp.c.
"""

from __future__ import annotations

from ropeway.steward import sysctl

# 1 and 2 keep to the interface's own addresses, 8 answers for none. 3 leaves out only what is of no
# use beyond the host, and 4 to 7 are reserved.
_OWN_ONLY = (1, 2, 8)


def answers_for_others(name: str) -> bool:
    """Say whether the interface `name` answers for any address of this host, as by default."""
    return sysctl.of_interface(name, "arp_ignore") not in _OWN_ONLY
