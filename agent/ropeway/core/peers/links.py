"""The local links of a secure node, and whether routes to far addresses are known on them."""

from __future__ import annotations

from typing import Dict, Iterator, Optional, Sequence, Tuple

from ropeway.core.endpoint import Endpoint, Place
from ropeway.core.link import Link
from ropeway.core.strand import announcement


class Links:
    """The interfaces that take part, by index, and what has to be looked up for them."""

    def __init__(self, port: int) -> None:
        #: By the kernel's interface index.
        self.by_index: Dict[int, Link] = {}
        #: Where this host announces that its links can be called.
        self.places: Tuple[Place, ...] = ()
        #: Whether an address was met since :meth:`replace` whose route was not looked up.
        self.wants_lookup = False
        self._port = port

    def __contains__(self, index: int) -> bool:
        """Return whether an interface takes part."""
        return index in self.by_index

    def __getitem__(self, index: int) -> Link:
        """Return the link with that index; KeyError for none."""
        return self.by_index[index]

    def __iter__(self) -> Iterator[Link]:
        """Yield every link."""
        return iter(self.by_index.values())

    def __len__(self) -> int:
        """Return how many links there are."""
        return len(self.by_index)

    def get(self, index: int) -> Optional[Link]:
        """Return the link with that index, or None."""
        return self.by_index.get(index)

    def replace(self, links: Sequence[Link]) -> bool:
        """Take all links that there are now; return whether any differs from before."""
        after = {link.index: link for link in links}
        self.wants_lookup = False
        if after == self.by_index:
            return False
        self.by_index = after
        self.places = announcement.of_links(links, self._port) if self._port else ()
        return True

    def holds(self, address: str) -> bool:
        """Return whether ``address`` belongs to this host."""
        return any(link.holds(address) for link in self)

    def source_for(self, link: Link, endpoint: Endpoint) -> Optional[str]:
        """Return the link's address to call an endpoint from; None without a known route."""
        self._note_unknown(link, endpoint)
        return link.source_for(endpoint[0])

    def has_no_route(self, link: Link, endpoint: Endpoint) -> bool:
        """Return whether it is known that the link has no route to an endpoint."""
        self._note_unknown(link, endpoint)
        return link.has_no_route(endpoint[0])

    def _note_unknown(self, link: Link, endpoint: Endpoint) -> None:
        if endpoint[0] not in link.looked_up:
            self.wants_lookup = True
