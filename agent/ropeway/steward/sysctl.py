"""The settings of IPv4 for one interface, as sysctl shows them.

Source: `Documentation/networking/ip-sysctl.rst`, `/proc/sys/net/ipv4/conf/interface/*`.
"""

from __future__ import annotations

import os

SYSCTLS = "/proc/sys/net/ipv4/conf"


def of_interface(name: str, key: str) -> int:
    """Return what counts for the interface `name` of "rp_filter" or "arp_ignore"; 0 if unknown.

    That is the larger one of its own and that of all interfaces, for either of the two.
    """
    return max(_value("all", key), _value(name, key))


def forwards() -> bool:
    """Say whether the kernel passes packets on between interfaces (`ip_forward`)."""
    return _value("all", "forwarding") > 0


def _value(name: str, key: str) -> int:
    try:
        with open(os.path.join(SYSCTLS, name, key), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
