"""From which address each link reaches a far one, as the kernel's look-ups say."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from ropeway.core.link import Link
from ropeway.steward.orders import FAR_MAX

#: Own addresses of a link that are tried for each far one: as many as get sockets.
SOURCES_MAX = 8

#: Takes link index, far address and source; returns the source of what leaves there, or None.
SourceBy = Callable[[int, str, str], Optional[str]]


class RouteLookup:
    """The answers of the kernel since its routes changed last.

    `source_by` asks for the route; `preferred(name, far)` returns the address that the kernel
    itself would choose at an interface, or None.
    """

    def __init__(self, source_by: SourceBy, preferred: Callable[[str, str], Optional[str]]) -> None:
        self._source_by = source_by
        self._preferred = preferred
        self._found: Dict[Tuple[Link, str], Optional[str]] = {}

    def forget(self) -> None:
        """Forget all answers: routes have changed."""
        self._found.clear()

    def complete(self, links: Sequence[Link], far: Sequence[str]) -> List[Link]:
        """Return `links` with their sources for each of the addresses `far`, as many as allowed.

        The links are without sources, as `selection` makes them.
        """
        far = far[:FAR_MAX]
        if len(self._found) > len(links) * FAR_MAX:
            self._found.clear()
        looked_up = frozenset(far)
        return [
            dataclasses.replace(link, sources=self._sources(link, far), looked_up=looked_up)
            for link in links
        ]

    def _sources(self, link: Link, far: Iterable[str]) -> Dict[str, str]:
        sources = {}
        bare = dataclasses.replace(link, sources={}, looked_up=frozenset())
        for address in far:
            key = (bare, address)
            if key not in self._found:
                self._found[key] = self._look_up(bare, address)
            source = self._found[key]
            if source is not None:
                sources[address] = source
        return sources

    def _look_up(self, link: Link, far: str) -> Optional[str]:
        texts = (link.addresses6 if ":" in far else link.addresses)[:SOURCES_MAX]
        own = [ipaddress.ip_interface(text) for text in texts]
        address = ipaddress.ip_address(far)
        neighbours = [str(one.ip) for one in own if address in one.network]
        there = [str(one.ip) for one in own]
        tried = neighbours or self._with_routes(link, far, there)
        if len(own) <= 1 or not tried:
            return tried[0] if tried else None
        preferred = self._preferred(link.name, far)
        return preferred if preferred in (there if neighbours else tried) else tried[0]

    def _with_routes(self, link: Link, far: str, own: Sequence[str]) -> List[str]:
        """Return which of the `own` addresses have a route, those first that routes prefer."""
        found: List[str] = []
        for source in own:
            by_route = self._source_by(link.index, far, source)
            if by_route is None:
                continue
            if by_route in own and by_route not in found:
                found.append(by_route)
            elif source not in found:
                found.append(source)
        return found
