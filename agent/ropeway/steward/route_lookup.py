"""From which address each link reaches a far one, as the kernel's look-ups say."""

from __future__ import annotations

import dataclasses
import ipaddress
import time
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from ropeway.core.link import Link
from ropeway.steward.orders import FAR_MAX

#: Own addresses of a link that are tried for each far one: as many as get sockets.
SOURCES_MAX = 8

# Tuning
#: Look-ups take no longer at a time: sockets and changes of interfaces wait meanwhile. One takes
#: about 0.2 ms.
SLICE_S = 0.25

#: Takes link index, far address and source; returns the source of what leaves there, or None.
SourceBy = Callable[[int, str, str], Optional[str]]


class RouteLookup:
    """The answers of the kernel since its routes changed last.

    `source_by` asks for the route; `preferred(name, far)` returns the address that the kernel
    itself would choose at an interface, or None.
    """

    def __init__(
        self,
        source_by: SourceBy,
        preferred: Callable[[str, str], Optional[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source_by = source_by
        self._preferred = preferred
        self._clock = clock
        # Counts changes of the routes; each answer has the number of the one before it.
        self._change = 0
        self._found: Dict[Tuple[Link, str], Tuple[int, Optional[str]]] = {}
        #: Whether answers are outdated or missing, because there was no time for them.
        self.lacks = False

    def forget(self) -> None:
        """Take note that routes have changed. Answers hold until there are others."""
        self._change += 1

    def complete(self, links: Sequence[Link], far: Sequence[str]) -> List[Link]:
        """Return `links` with their sources for each of the addresses `far`, as many as allowed.

        Takes about `SLICE_S` at most; what is missing then comes with the next call.
        """
        far = far[:FAR_MAX]
        bare = [dataclasses.replace(link, sources={}, looked_up=frozenset()) for link in links]
        if len(self._found) > len(links) * FAR_MAX:
            self._found.clear()
        end = self._clock() + SLICE_S
        self.lacks = False
        for address in far:
            if self._clock() >= end:
                self.lacks = True
                break
            for link in bare:
                if self._found.get((link, address), (-1, None))[0] != self._change:
                    self._found[link, address] = self._change, self._look_up(link, address)
        return [self._with_sources(link, far) for link in bare]

    def _with_sources(self, link: Link, far: Iterable[str]) -> Link:
        known = {
            address: self._found[link, address][1]
            for address in far
            if (link, address) in self._found
        }
        sources = {address: source for address, source in known.items() if source is not None}
        return dataclasses.replace(link, sources=sources, looked_up=frozenset(known))

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
