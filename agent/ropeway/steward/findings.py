"""Settings of the kernel that keep links from receiving, found for the log and the status."""

from __future__ import annotations

import contextlib
from typing import Dict, Iterable, List, Sequence

from ropeway.steward import arp, reverse_path, shared_lan, sysctl
from ropeway.steward.orders import Silent


def shared_lan_sentences(pairs: Iterable[shared_lan.SharedLan], lost: Sequence[str]) -> List[str]:
    """Return what to do where frames that come by the other interface of a LAN are lost.

    `lost` says for each pair why the engine's sockets lose them there; empty if they do not.
    """
    found = [(pair, why or _why_filtered(pair)) for pair, why in zip(pairs, lost)]
    return [
        shared_lan.sentence(pair, why)
        for pair, why in found
        if why and arp.answers_for_others(pair.other.name)
    ]


def _why_filtered(pair: shared_lan.SharedLan) -> str:
    name, index = pair.other.name, pair.other.index
    if reverse_path.is_strict(name):
        with contextlib.suppress(OSError):
            if reverse_path.way_back(pair.address, pair.neighbour) != index:
                return f"rp_filter is strict at {name} and answers leave by another interface"
    return ""


def reverse_path_sentences(silent: Sequence[Silent], names: Dict[int, str]) -> List[str]:
    """Return which links hear nothing because the kernel drops it for the way back.

    `names` has the names of links by interface index.
    """
    strict = {name for name in {one.name for one in silent} if reverse_path.is_strict(name)}
    sentences: Dict[int, str] = {}
    for one in [one for one in silent if one.name in strict]:
        if one.index in sentences or ":" in one.address:
            continue
        try:
            back = reverse_path.way_back(one.source, one.address)
        except OSError:
            continue
        if back != one.index:
            way = f"leaves by {names.get(back, 'another interface')}" if back else "is missing"
            # sysctl(8) writes a dot in a name as a slash.
            sysctl = "net.ipv4.conf.{}.rp_filter".format(one.name.replace(".", "/"))
            sentences[one.index] = (
                f"{one.name}({one.index}): the kernel drops what comes from {one.address}, because"
                f" its route there {way} and rp_filter is strict: set {sysctl} to 2"
            )
    return list(sentences.values())


def forwarding_sentences(announced: Sequence[str]) -> List[str]:
    """Return what to do where this host announces networks behind it, and passes nothing on."""
    if not announced or sysctl.forwards():
        return []
    return [
        "announce: net.ipv4.ip_forward is 0, so nothing gets from the virtual network to {} and"
        " back: set it to 1".format(", ".join(announced))
    ]
