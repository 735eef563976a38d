"""Addresses that the configuration gives to other hosts, and that this host has itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, List, Mapping, Sequence

from ropeway.steward.interface import Interface


@dataclass(frozen=True)
class OwnAddress:
    """One address that is this host's, though it stands for another one."""

    host: str
    """The other one's virtual address."""
    address: str
    interface: str
    """Where this host has it, "eth0(2)"."""
    only: bool
    """Whether all addresses of that host are this one's."""

    def __str__(self) -> str:
        where = f"{self.address} of host {self.host} is an address of this host, at"
        if self.only:
            return (
                f"{where} {self.interface}, and no other address is named, so that host is never"
                " called: write one of its own"
            )
        return f"{where} {self.interface}, and is left out: write one of that host's own"


def find(others: Mapping[str, Sequence[str]], interfaces: Iterable[Interface]) -> List[OwnAddress]:
    """Return the addresses of `others`, by host, that `interfaces` have, in the same order."""
    places = {
        text.split("/")[0]: f"{interface.name}({interface.index})"
        for interface in interfaces
        for text in (*interface.addresses, *interface.addresses6)
    }
    return [
        OwnAddress(host, address, places[address], all(one in places for one in addresses))
        for host, addresses in others.items()
        for address in dict.fromkeys(addresses)
        if address in places
    ]
