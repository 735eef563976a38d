"""The kernel's routes to networks behind other hosts, kept as the engine wishes."""

from __future__ import annotations

import ipaddress
import logging
from typing import Iterable, List, Optional, Sequence, Tuple

from ropeway.steward.interface import Interface
from ropeway.steward.netlink import learnt

log = logging.getLogger("ropeway")


class LearntRoutes:
    """Makes and removes routes by the device; each time all of them are compared."""

    def __init__(self) -> None:
        self._index = 0
        #: Which networks have no route, and why, as sentences.
        self.faults: Tuple[str, ...] = ()

    def follow(
        self,
        device: Optional[Interface],
        address: str,
        wanted: Sequence[str],
        far: Iterable[str],
        others: Iterable[Interface],
    ) -> None:
        """Have routes by `device` to the `wanted` networks and to no others.

        `address` is the device's; `far` are the real addresses of other hosts, and `others` the
        host's other interfaces: what is sent to those must not go into the device.
        """
        if device is None or not device.admin_up or device.master:
            # Without it there are none; in a routing domain they would be in the table of that.
            return
        self._index = index = device.index
        faults: List[str] = []
        usable = set(_usable(wanted, far, others, faults))
        try:
            found = learnt.look(index)
            for network in found - usable:
                learnt.remove(index, network)
            for network in sorted(usable - found):
                learnt.add(index, network, address)
        except OSError as error:
            faults.append(
                f"routes to networks behind other hosts cannot be made"
                f" ({error.strerror or error}): trying again"
            )
        self.faults = tuple(faults)

    def close(self) -> None:
        """Remove all of them, if the device outlives the agent."""
        if not self._index:
            return
        try:
            for network in learnt.look(self._index):
                learnt.remove(self._index, network)
        except OSError as error:
            log.debug("routes went with the device (%s)", error.strerror or error)


def _usable(
    wanted: Sequence[str], far: Iterable[str], others: Iterable[Interface], faults: List[str]
) -> Iterable[str]:
    """Give the networks that a route may lead to; the rest is a fault."""
    if not wanted:
        return
    lans = [
        (ipaddress.IPv4Interface(text).network, one)
        for one in others
        if one.up and not one.loopback
        for text in one.addresses
    ]
    called = [
        address
        for address in map(ipaddress.ip_address, far)
        if address.version == 4 and not any(address in lan for lan, _ in lans)
    ]
    for text in wanted:
        network = ipaddress.IPv4Network(text)
        lan = next((one for lan, one in lans if network.subnet_of(lan)), None)
        inside = next((address for address in called if address in network), None)
        if lan is not None:
            faults.append(
                f"{text} is announced by another host and is a network of {lan.name} too: packets"
                " for it stay there; choose another network at one of the two sites"
            )
        elif inside is not None:
            faults.append(
                f"{text} is announced by another host, and {inside} in it is a host's real address:"
                " no route to it is made; announce a smaller network"
            )
        else:
            yield text
