"""The groups of the inventory, and how messages name hosts by their group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Dict, Iterator, List, Tuple

from ..constants import ALL_GROUP, CLIENT_GROUP, ROUTER_GROUP, ROUTERS_MAX
from ..wording import listing

# Messages name up to this many hosts; for more they name the group.
NAMES_MAX = 5


def group_problems(groups: Mapping[str, Sequence[str]], names: List[str]) -> Iterator[str]:
    """Yield the problems of the three groups; ``names`` are the hosts of group ropeway."""
    routers, clients = hosts_in(groups, ROUTER_GROUP), hosts_in(groups, CLIENT_GROUP)
    if not routers:
        yield (
            f"Group {ROUTER_GROUP} has no host, so {by_group(clients or names, groups)} would "
            "have no router: add the router to it."
        )
    elif len(routers) > ROUTERS_MAX:
        yield (
            f"Group {ROUTER_GROUP} has {len(routers)} hosts, but a network has at most "
            f"{ROUTERS_MAX} routers: keep so many in it."
        )
    if not clients:
        yield f"Group {CLIENT_GROUP} has no host: add the router's clients to it."
    for name in names:
        if name in routers and name in clients:
            yield f"{name}: is in {ROUTER_GROUP} and in {CLIENT_GROUP}: keep it in one of them."
    neither = [name for name in names if name not in routers and name not in clients]
    if neither:
        verb = "is" if len(neither) == 1 else "are"
        yield (
            f"{by_group(neither, groups)} {verb} neither in {ROUTER_GROUP} nor in {CLIENT_GROUP}: "
            "add each to one of them."
        )
    outside = [name for name in routers + clients if name not in names]
    if outside:
        verb = "is" if len(outside) == 1 else "are"
        yield (
            f"{by_group(outside, groups)} {verb} not in group {ALL_GROUP}: make the group a child "
            f"of {ALL_GROUP}."
        )


def several_routers_problems(groups: Mapping[str, Sequence[str]], secure: bool) -> Iterator[str]:
    """Yield the problem of several routers on a network that is not ``secure``."""
    routers = hosts_in(groups, ROUTER_GROUP)
    if len(routers) > 1 and not secure:
        yield (
            f"Group {ROUTER_GROUP} has the hosts {listing(routers)}, but a network with the "
            "encapsulation classic has one router: keep one host in it."
        )


def shared_problems(problems: Sequence[str], groups: Mapping[str, Sequence[str]]) -> List[str]:
    """Return the sentences, merged where they differ only in the host before ": "."""
    names = hosts_in(groups, ALL_GROUP)
    owners: Dict[Tuple[str, str], List[str]] = {}
    for sentence in problems:
        subject, colon, rest = sentence.partition(": ")
        name, comma, network = subject.partition(", network ")
        if name in names:
            sharing = owners.setdefault((comma + network + colon + rest, ""), [])
            if name not in sharing:
                sharing.append(name)
        else:
            owners[sentence, "alone"] = []
    return [
        f"{by_group(sharing, groups)}{rest}" if sharing else rest
        for (rest, _), sharing in owners.items()
    ]


def by_group(owners: Sequence[str], groups: Mapping[str, Sequence[str]]) -> str:
    """Return a text for ``owners``.

    It is the name of a group if one has exactly these hosts, or few others; otherwise their names.
    """
    if len(owners) == 1:
        return owners[0]
    first = [name for name in (ALL_GROUP, ROUTER_GROUP, CLIENT_GROUP) if name in groups]
    others = [name for name in groups if name not in (*first, "all", "ungrouped")]
    few = len(owners) <= NAMES_MAX
    for group in (*first, *others):
        if set(hosts_in(groups, group)) == set(owners):
            return f"group {group} ({listing(owners) if few else f'{len(owners)} hosts'})"
    if few:
        return listing(owners)
    for group in (*others, *reversed(first)):
        rest = [name for name in hosts_in(groups, group) if name not in owners]
        if len(rest) <= NAMES_MAX and set(owners) <= set(hosts_in(groups, group)):
            return f"group {group} without {listing(rest)} ({len(owners)} hosts)"
    return listing(owners)


def hosts_in(groups: Mapping[str, Sequence[str]], group: str) -> List[str]:
    """Return the names of a group's hosts; none if there is no such group."""
    return [str(name) for name in groups.get(group, [])]
