"""Whether the kernel drops what arrives at an interface because it would answer by another one.

Source: `Documentation/networking/ip-sysctl.rst` (rp_filter), RFC 3704; fib_validate_source() of
net/ipv4/fib_frontend.c, which asks for the route that leads back.
"""

from __future__ import annotations

from ropeway.steward import sysctl
from ropeway.steward.netlink import routes

STRICT = 1
"""2 is loose: a route back by any interface will do; 0 is off."""


def is_strict(name: str) -> bool:
    """Say whether the interface `name` takes only what it would send the answer to by itself."""
    return sysctl.of_interface(name, "rp_filter") == STRICT


def way_back(source: str, far: str) -> int:
    """Return the index of the interface that answers `far` from the own address `source`; 0: none.

    `OSError` where the kernel refuses to tell.
    """
    return routes.leads_to(far, source)
