"""Where other hosts are called: endpoints and addresses of peers."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List, Optional, Set, Union

from ropeway.app.config.lines import Faults, KeyPath
from ropeway.app.config.names import NAMES_MAX, named_endpoint
from ropeway.app.config.schema import shown
from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint
from ropeway.core.packet.ipv4 import is_unicast

LEASE = "lease"
"""What the file has in the place of an address that a router gives."""
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([1-9][0-9]{0,4}))?")


def endpoint(text: str, default_port: int) -> Endpoint:
    """Return the endpoint that `text` stands for; `ValueError` with a sentence where it is none.

    An IPv6 address with a port stands in brackets, which one without may.
    """
    found = _ENDPOINT.fullmatch(text)
    bare = (found.group(1) or found.group(2)) if found else text
    port = int(found.group(3) or default_port) if found else default_port
    address = _ip_address(bare)
    if found is None:
        _check_brackets(text, address, default_port)
    misplaced = found is not None and found.group(1) and ":" not in bare
    if address is None or port > 65535 or "%" in text or misplaced:
        raise ValueError(
            f"{shown(text)!r} is neither an IPv4 or IPv6 address nor a name: write one with or"
            ' without a port, such as 192.168.0.3, "192.168.0.3:51840", "[2001:db8::3]:51840" or'
            ' "router.example.net:51840"'
        )
    if not is_global(address):
        raise ValueError(
            f"{address} is no address of another host: write one of its real addresses, no"
            " link-local one"
        )
    return str(address), port


def is_global(address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address]) -> bool:
    """Say whether an address is one of a host and means the same on every link."""
    if isinstance(address, ipaddress.IPv4Address):
        return is_unicast(address.packed)
    return not (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address.is_link_local
        or address.ipv4_mapped
    )


def _ip_address(text: str) -> Union[ipaddress.IPv4Address, ipaddress.IPv6Address, None]:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _check_brackets(
    text: str,
    address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address, None],
    default_port: int,
) -> None:
    """Raise `ValueError` where `text` ends in what is or may be meant for a port."""
    head, _, tail = text.rpartition(":")
    if not isinstance(_ip_address(head), ipaddress.IPv6Address) or not _PORT.fullmatch(tail):
        return
    if address is None:
        raise ValueError(f'{text}: an IPv6 address with a port is written "[{head}]:{tail}"')
    if int(tail) == default_port:
        raise ValueError(
            f'{text} ends in a port, or seems to: write "[{head}]:{tail}", or "[{text}]" if it is'
            " an address without a port"
        )


def check_endpoints(
    listed: List[Any],
    path: KeyPath,
    default_port: int,
    virtual: Set[str],
    faults: Faults,
) -> None:
    """Report what is wrong with the endpoints of one peer of a secure network."""
    limit = tuning.MAX_REMOTES_PER_PEER
    if len(listed) > limit:
        faults.add(path, f"a host has at most {limit} addresses, not {len(listed)}: remove some")
        return
    lines: Dict[Endpoint, int] = {}
    for place, item in enumerate(listed):
        where: KeyPath = (*path, place)
        if not isinstance(item, str) or faults.spoilt(where):
            continue
        try:
            found = named_endpoint(item, default_port) or endpoint(item, default_port)
        except ValueError as error:
            faults.add(where, str(error))
            continue
        if found in lines:
            faults.add(where, f"{item} stands in line {lines[found]} already: remove one")
        lines.setdefault(found, faults.line_of.get(where, 1))
        if found[0] in virtual:
            faults.add(where, _is_virtual(found[0]))


def check_names(peers: Any, default_port: int, faults: Faults) -> None:
    """Report if the peers of a secure network have too many names together."""
    names: Set[str] = set()
    for peer in peers if isinstance(peers, list) else ():
        listed = peer.get("addresses") if isinstance(peer, dict) else None
        for item in listed if isinstance(listed, list) else ():
            found = named_endpoint(item, default_port) if isinstance(item, str) else None
            if found is not None:
                names.add(found[0])
    if len(names) > NAMES_MAX:
        faults.add(
            ("peers",),
            f"a file has at most {NAMES_MAX} different names in addresses, not {len(names)}: write"
            " the addresses of some hosts instead",
        )


def _is_virtual(address: str) -> str:
    return f"{address} is the virtual address of a host: write one of its real addresses"


def check_addresses(listed: List[Any], path: KeyPath, virtual: Set[str], faults: Faults) -> None:
    """Report what is wrong with the addresses of one peer of a classic network."""
    limit = tuning.MAX_REMOTES_PER_PEER
    if len(listed) > limit:
        faults.add(path, f"a host has at most {limit} addresses, not {len(listed)}: remove some")
        return
    addresses: Dict[ipaddress.IPv4Address, int] = {}
    indices: Dict[int, int] = {}
    for place, item in enumerate(listed):
        where: KeyPath = (*path, place)
        if isinstance(item, dict):
            _check_index(item.get("index"), (*where, "index"), indices, faults)
            where = (*where, "address")
            item = item.get("address")
        address = address_at(item, where, faults)
        if address is None:
            continue
        if address in addresses:
            faults.add(where, f"{address} stands in line {addresses[address]} already: remove one")
        addresses.setdefault(address, faults.line_of.get(where, 1))
        if not is_unicast(address.packed):
            faults.add(
                where, f"{address} is no address of another host: write one of its real addresses"
            )
        elif str(address) in virtual:
            faults.add(where, _is_virtual(str(address)))


def _check_index(index: Any, path: KeyPath, indices: Dict[int, int], faults: Faults) -> None:
    if not isinstance(index, int) or faults.spoilt(path):
        return
    if index in indices:
        faults.add(
            path,
            f"{index} stands in line {indices[index]} already: an index belongs to one interface"
            " of the host",
        )
    indices.setdefault(index, faults.line_of.get(path, 1))


def address_at(value: Any, path: KeyPath, faults: Faults) -> Optional[ipaddress.IPv4Address]:
    """Return the address; None where it is absent, a lease, or has been reported already."""
    if not isinstance(value, str) or value == LEASE or faults.spoilt(path):
        return None
    try:
        return ipaddress.IPv4Address(value)
    except ValueError:
        faults.add(path, f"{value!r} is no IPv4 address")
        return None
