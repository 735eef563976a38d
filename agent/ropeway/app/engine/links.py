"""The links' sockets: opened, watched and closed as the interfaces come and go."""

from __future__ import annotations

import dataclasses
import errno
import functools
import logging
from collections import Counter
from typing import (
    Any,
    Callable,
    Container,
    Dict,
    Hashable,
    Iterable,
    List,
    Optional,
    Set,
    Tuple,
    Union,
)

from ropeway.app.engine.bindings import Bindings, bindings, sockets_max, unshared
from ropeway.app.engine.loop import RETRY_S, Loop
from ropeway.app.engine.opener import Opener, Strays
from ropeway.app.engine.ports import Ports, Receive, Receivers, Sockets
from ropeway.app.rate_limited_log import RateLimitedLog
from ropeway.core.facade import Node
from ropeway.core.link import Link, Purpose
from ropeway.core.redundancy import LinkHealth
from ropeway.steward.answers import Snapshot

log = logging.getLogger("ropeway")

_INF = float("inf")


class Links:
    """Has the sockets that the links need and no others, and tells the node of the links.

    `receive` is called when a socket is ready. `look_soon` asks for a look at the interfaces,
    because a socket failed. `changed` is called when it changes whether any link can be used.
    `purpose` says by an interface's name what the link is for, and what it costs.
    """

    def __init__(
        self,
        loop: Loop,
        opener: Opener,
        node: Node,
        ports: Ports,
        receive: Receive,
        look_soon: Callable[[float], None],
        changed: Callable[[float], None],
        purpose: Callable[[str], Purpose],
    ) -> None:
        self._loop = loop
        self._opener = opener
        self._node = node
        self._ports = ports
        self._receive = receive
        self._look_soon = look_soon
        self._changed = changed
        self._purpose = purpose
        self._repeated = RateLimitedLog()
        self._sockets_max = sockets_max()
        self._strays = Strays(opener, ports, receive, self._settle_soon)
        self._snapshot = Snapshot()
        self._wanted: Bindings = {}
        # Sockets that were asked for, by key, with the number to forget them by.
        self._asked: Dict[Hashable, int] = {}
        self._retry_at = _INF
        # When what came lately is made use of.
        self._settle_at = _INF
        # Why sockets cannot be had, by key, and why links get fewer than they have addresses.
        self._unusable: Dict[Hashable, str] = {}
        self._left_out: Dict[int, str] = {}
        #: Why no link can be used although there are links, as a sentence; empty if one can.
        self.none_usable = ""

    @property
    def sockets_wait(self) -> bool:
        """Whether sockets that were asked for did not come yet."""
        return self._opener.waits

    def deadline(self) -> float:
        """Return when sockets that could not be had are tried again, or came."""
        return min(self._retry_at, self._settle_at)

    def tick(self, now: float) -> None:
        """Make use of sockets that came, and ask again for those that could not be had."""
        if now >= self._retry_at:
            self.follow(self._snapshot, now)
        elif now >= self._settle_at:
            self._settle(now)

    def follow(self, snapshot: Snapshot, now: float) -> None:
        """Bring the sockets and the node in line with the links."""
        self._snapshot = snapshot
        self._retry_at = _INF
        self._wanted = bindings(snapshot.links, self._opener.secure, self._sockets_max)
        self._note_left_out(self._wanted)
        self._close_unwanted()
        for key, (link, address) in self._wanted.items():
            self._open(key, link, address)
        self._strays.try_again()
        self._settle(now)

    def start_again(self, now: float) -> None:
        """Ask another steward for what the one that has ended did not give."""
        self._opener.forget_all()
        self._asked.clear()
        self._strays.forget_asked()
        self.follow(self._snapshot, now)

    def _settle(self, now: float) -> None:
        """Have the node use what there is by now."""
        self._settle_at = _INF
        self._strays.follow({key: self._wanted[key] for key in self._unshared()})
        self._note_none_usable(now)
        self._node.set_links(self._usable(), now)
        self._node.expect([*self._faults(), *self._snapshot.missing])

    def purposes_changed(self, now: float) -> None:
        """Tell the node at once what links are for, and what they cost."""
        self._settle(now)

    def _settle_soon(self, now: float) -> None:
        self._settle_at = min(self._settle_at, now)
        self._loop.sooner(now)

    def _unshared(self) -> Set[Hashable]:
        return unshared(self._wanted) if self._opener.secure else set()

    def receive_failed(self, receiver: Receivers, error: OSError, now: float) -> None:
        """Deal with a socket that cannot be read."""
        if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
            # Unforeseen, so begin anew with fresh sockets rather than turn in circles.
            log.warning("receiving on %s failed: %s", receiver.name, error.strerror or error)
            self._close_sockets(receiver.key)
        self._look_soon(now)

    def close(self) -> None:
        """Close all sockets."""
        for key in [*self._ports.senders, *self._asked]:
            self._close_sockets(key)

    # --- what others need to know

    def receiving(self) -> Optional[Tuple[int, ...]]:
        """Return the interfaces that sockets receive by; None if they receive by any interface."""
        if self._opener.secure:
            return None
        return tuple(sockets.index for sockets in self._ports.senders.values())

    def unheard(self) -> Tuple[Tuple[int, str, str], ...]:
        """Return for which links and addresses nothing receives by other interfaces, and why."""
        return tuple(
            (self._wanted[key][0].index, self._wanted[key][1], why)
            for key, why in self._strays.missing.items()
            if key in self._wanted
        )

    def unknown(self, known: Container[int]) -> List[Tuple[Link, str]]:
        """Return the links that are not `known` to the node, and why they cannot be used."""
        return [
            (link, self._fault(link.index))
            for link in self._snapshot.links
            if link.index not in known
        ]

    def status(self, index: int) -> Dict[str, Any]:
        """Return what the status says of a link's sockets."""
        here = [s for s in self._ports.senders.items() if s[1].index == index]
        dropped: Counter[str] = Counter()
        for key, _ in here:
            dropped.update(self._ports.incoming.dropped.get(key, {}))
        found = [sockets.buffers() for _, sockets in here]
        return {
            "dropped": dict(dropped),
            # The smallest of a link's sockets, in bytes as the kernel counts them.
            "buffers": {n: min(each[n] for each in found) for n in (found or ({},))[0]},
            "unusable": self._why_unusable(index),
        }

    # --- opening and closing

    def _close_unwanted(self) -> None:
        wanted = self._wanted
        for key in [key for key in (*self._ports.senders, *self._asked) if key not in wanted]:
            self._close_sockets(key)
        self._strays.close_unwanted(self._unshared())
        for key in [key for key in self._unusable if key not in wanted]:
            del self._unusable[key]

    def _open(self, key: Hashable, link: Link, address: str) -> None:
        """Have sockets at an address of a link, new ones if those before are bound no more."""
        if key in self._asked:
            return
        sockets = self._ports.senders.get(key)
        if sockets is not None:
            if sockets.is_bound():
                return
            # The interface went away and came back under its index while nobody looked.
            self._close_sockets(key)
        opened = functools.partial(self._opened, key, link, address)
        self._asked[key] = self._opener.ask(link, address, False, opened)

    def _opened(
        self,
        key: Hashable,
        link: Link,
        address: str,
        sockets: Union[Sockets, OSError],
        now: float,
    ) -> None:
        """Take over the sockets that came, or note why they did not."""
        self._asked.pop(key, None)
        self._settle_soon(now)
        if not isinstance(sockets, OSError):
            try:
                self._ports.open_sender(sockets, self._receive)
            except OSError as error:
                sockets = error
        if isinstance(sockets, OSError):
            self._note_unusable(key, link, address, sockets, now)
            self._retry_at = now + RETRY_S
        else:
            self._unusable.pop(key, None)

    def _close_sockets(self, key: Hashable) -> None:
        self._strays.close(key)
        if key in self._asked:
            self._opener.forget(self._asked.pop(key))
        if key in self._ports.senders:
            self._ports.close_sender(key)

    def _usable(self) -> List[Link]:
        """Return the links as far as there are sockets to use them."""
        senders, links = self._ports.senders, self._snapshot.links
        if not self._opener.secure:
            return [link for link in links if link.index in senders]
        return [
            dataclasses.replace(
                link,
                addresses=_bound(link.addresses, link.index, senders),
                addresses6=_bound(link.addresses6, link.index, senders),
                **self._purpose(link.name)._asdict(),
            )
            for link in links
        ]

    # --- faults

    def _note_left_out(self, wanted: Bindings) -> None:
        """Log, once each, which links have more addresses than there may be sockets."""
        before, self._left_out = self._left_out, {}
        for link in self._snapshot.links:
            here = sum(of is link for of, _ in wanted.values())
            there = len(link.addresses) + len(link.addresses6) if self._opener.secure else 1
            if here == there:
                continue
            sentence = "there are too many links"
            if self._opener.secure:
                sentence = (
                    f"{there - here} of its {there} addresses stay unused, because they are too"
                    " many"
                )
            self._left_out[link.index] = sentence
            if link.index not in before:
                log.warning("%s(%s): %s", link.name, link.index, sentence)

    def _note_unusable(
        self, key: Hashable, link: Link, address: str, error: OSError, now: float
    ) -> None:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = (
                f"another program, perhaps a second agent, has UDP port {self._opener.port} there:"
                " stop it, or choose another port"
            )
        place = f" at {address}" if address else ""
        self._repeated.warn(f"{link.name}({link.index}){place} cannot be used: {reason}", now)
        self._unusable[key] = reason

    def _note_none_usable(self, now: float) -> None:
        """Log, when that begins and ends, that there are links but none can be used."""
        before, self.none_usable = self.none_usable, ""
        if self._unusable and not self._ports.senders:
            reasons = set(self._unusable.values())
            why = reasons.pop() if len(reasons) == 1 else "`ropeway status` says why of each"
            self.none_usable = f"no link can be used, so no packet gets through: {why}"
        if self.none_usable == before:
            return
        self._changed(now)
        if self.none_usable:
            log.error("%s; trying again every %.0f s", self.none_usable, RETRY_S)
        else:
            log.info("a link can be used again")

    def _faults(self) -> List[LinkHealth]:
        """Return the links that should carry and cannot, as only this side knows."""
        faults = [(link, self._fault(link.index)) for link in self._snapshot.links]
        return [LinkHealth(link.index, link.name, fault) for link, fault in faults if fault]

    def _fault(self, index: int) -> str:
        """Return why a link cannot be used, as the end of a sentence; empty where it can."""
        reason = self._why_unusable(index)
        return f"it cannot be used: {reason}" if reason else ""

    def _why_unusable(self, index: int) -> Optional[str]:
        """Return why not all of a link can be used, or None where it can."""
        reasons = []
        senders = self._ports.senders.values()
        if index in self._left_out and not any(s.index == index for s in senders):
            reasons.append(self._left_out[index])
        for key, reason in self._unusable.items():
            if key == index:
                reasons.append(reason)
            elif isinstance(key, tuple) and key[0] == index:
                reasons.append(f"{key[1]}: {reason}")
        return "; ".join(reasons) or None


def _bound(addresses: Iterable[str], index: int, senders: Container[Hashable]) -> Tuple[str, ...]:
    return tuple(text for text in addresses if (index, text.split("/")[0]) in senders)
