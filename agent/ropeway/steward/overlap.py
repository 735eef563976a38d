"""Interfaces whose own network and the virtual one have addresses in common."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Iterable, List

from ropeway.steward import selection
from ropeway.steward.interface import Interface


@dataclass(frozen=True)
class Overlap:
    """One address of an interface whose network overlaps the virtual one."""

    index: int
    name: str
    address: str
    """With prefix length, "10.0.0.57/24"."""
    inside: bool
    """Whether the network lies within the virtual one; else it is a larger one that holds it."""

    @property
    def own(self) -> str:
        """The address alone."""
        return self.address.split("/")[0]


def find(interfaces: Iterable[Interface], network: str, device_index: int) -> List[Overlap]:
    """Return the overlaps with `network` ("10.0.0.0/24") of all interfaces but agents' devices."""
    virtual = ipaddress.IPv4Network(network)
    found = []
    for interface in interfaces:
        if interface.index == device_index or interface.loopback or selection.is_device(interface):
            continue
        for text in interface.addresses:
            own = ipaddress.IPv4Interface(text).network
            if own.overlaps(virtual):
                inside = own.prefixlen >= virtual.prefixlen
                found.append(Overlap(interface.index, interface.name, text, inside))
    return found


def sentence(overlap: Overlap, network: str, device_name: str, precedence: bool) -> str:
    """Return what an overlap means for whoever uses this host.

    `precedence` says whether the virtual network goes before the other.
    """
    where = f"{overlap.name}({overlap.index}) has {overlap.address}"
    if not overlap.inside:
        return (
            f"{where}, a network that holds the virtual one, {network}: hosts of that LAN with such"
            " an address cannot be reached from here"
        )
    if precedence:
        return (
            f"{where}, which lies within the virtual network {network}: what is sent there goes to"
            f" {device_name}, so that other hosts of that LAN, such as a name server, cannot be"
            " reached from here; choose another network for one of them"
        )
    return (
        f"{where}, which lies within the virtual network {network}, and device.precedence is false:"
        " what is sent there may go either way; choose another network for one of them"
    )
