"""What keeps this host from being as it should be, as sentences."""

from __future__ import annotations

from typing import List, Sequence

from ropeway.core.link import Link
from ropeway.steward import overlap, own_address, selection, shared_lan
from ropeway.steward.findings import (
    forwarding_sentences,
    reverse_path_sentences,
    shared_lan_sentences,
)
from ropeway.steward.interface import Interface
from ropeway.steward.orders import Silent, Wish
from ropeway.steward.settings import Settings


class Report:
    """Has what was found last, by `settings`."""

    def __init__(self, settings: Settings) -> None:
        #: What the steward knows of the configuration.
        self.settings = settings
        self._dumped: Sequence[Interface] = ()
        self._shared_lans: Sequence[shared_lan.SharedLan] = ()
        #: Which connections hear nothing because of the kernel's filter.
        self.filtered: Sequence[str] = ()

    def note(self, dumped: Sequence[Interface], links: Sequence[Link]) -> None:
        """Take note of the interfaces that there are, and of those that take part."""
        self._dumped = dumped
        self._shared_lans = shared_lan.find(dumped, links)

    def filter(self, silent: Sequence[Silent], links: Sequence[Link]) -> None:
        """Find out which of the `silent` connections the kernel's filter keeps from hearing."""
        names = {link.index: link.name for link in links if link.up}
        self.filtered = reverse_path_sentences(silent, names)

    def lasting(self, overlaps: Sequence[overlap.Overlap], wish: Wish) -> List[str]:
        """Return what is amiss whatever the links hear."""
        settings = self.settings
        return [
            *(
                overlap.sentence(one, settings.network, settings.device_name, settings.precedence)
                for one in overlaps
            ),
            *(str(one) for one in own_address.find(settings.others, self._dumped)),
            *self._of_shared_lans(wish),
            *self._of_absent_addresses(),
            *forwarding_sentences(settings.announce),
        ]

    def _of_absent_addresses(self) -> List[str]:
        """Return which addresses the configuration names and no interface has."""
        named = self.settings.named_addresses
        there = selection.present(self._dumped, named)
        return [
            f"interfaces.addresses: no interface has {address}, so nothing comes to it: add it, or"
            " remove it from the configuration"
            for address in named
            if address not in there
        ]

    def _of_shared_lans(self, wish: Wish) -> List[str]:
        """Return where frames for a link may come by another interface and are lost there."""
        lost = [_why_unheard(pair, wish) for pair in self._shared_lans]
        return shared_lan_sentences(self._shared_lans, lost)


def _why_unheard(pair: shared_lan.SharedLan, wish: Wish) -> str:
    """Return why sockets lose what comes for a link by the other interface of its LAN."""
    if wish.receiving is not None:
        return "" if pair.other.index in wish.receiving else f"{pair.other.name} takes no part"
    for index, address, why in wish.unheard:
        if (index, address) == (pair.link.index, pair.address):
            return f"no socket can take them there ({why})"
    return ""
