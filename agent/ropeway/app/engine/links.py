"""The links' sockets: opened, watched and closed as the interfaces come and go."""

from __future__ import annotations

import dataclasses
import errno
import logging
import resource
from collections import Counter
from typing import (
    Any,
    Callable,
    Container,
    Dict,
    FrozenSet,
    Hashable,
    Iterable,
    List,
    Optional,
    Set,
    Tuple,
)

from ropeway.app.config.model import SECURE, Config
from ropeway.app.engine.interfaces import Snapshot
from ropeway.app.engine.loop import RETRY_S
from ropeway.app.engine.ports import Ports, Receive, Receivers, Sockets
from ropeway.app.engine.rate_limited_log import RateLimitedLog
from ropeway.core.facade import Node
from ropeway.core.link import Link
from ropeway.core.redundancy import LinkHealth
from ropeway.kernel import classic_sockets, udp
from ropeway.kernel.classic_sockets import LinkSockets
from ropeway.kernel.udp import StraySocket, UdpSocket

log = logging.getLogger("ropeway")

# Tuning
#: A link has a socket at each of its addresses, and a few are as good as thousands.
ADDRESSES_PER_LINK_MAX = 8
#: So many sockets send, at most, over all links.
SOCKETS_MAX = 256
#: Descriptors left for what is no link's socket: netlink, the device, control clients.
DESCRIPTORS_RESERVED = 128

_INF = float("inf")

#: By the node's key for each socket, its link and address.
Bindings = Dict[Hashable, Tuple[Link, str]]


def bindings(links: Iterable[Link], secure: bool, limit: int = SOCKETS_MAX) -> Bindings:
    """Return which sockets the links need: by the node's key for each, its link and address.

    A link of a classic network has one, whatever its addresses. A link of a secure one has
    `ADDRESSES_PER_LINK_MAX` at most, and all together have `limit`.
    """
    wanted: Bindings = {}
    for link in links:
        for address in _addresses_used(link) if secure else ("",):
            if len(wanted) < limit:
                wanted[(link.index, address) if secure else link.index] = link, address
    return wanted


def _addresses_used(link: Link) -> List[str]:
    """Return the addresses that get sockets: the first of each family, half of each if need be."""
    half = ADDRESSES_PER_LINK_MAX // 2
    room6 = min(len(link.addresses6), max(half, ADDRESSES_PER_LINK_MAX - len(link.addresses)))
    chosen = (
        *link.addresses[: ADDRESSES_PER_LINK_MAX - room6],
        *link.addresses6[:room6],
    )
    return [text.split("/")[0] for text in chosen]


def _unshared(wanted: Bindings) -> Set[Hashable]:
    """Return which bindings of a secure network are the only one of their address."""
    times = Counter(address for _, address in wanted.values())
    return {key for key, (_, address) in wanted.items() if times[address] == 1}


def _sockets_max() -> int:
    """Return how many bindings leave this process descriptors enough for the rest."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return SOCKETS_MAX
    # Two of each: one that sends, and one for what comes by another interface or as raw packets.
    return max(1, min(SOCKETS_MAX, (limit - DESCRIPTORS_RESERVED) // 2))


class Opener:
    """Opens sockets of the network's encapsulation. `features` are those asked of the kernel."""

    def __init__(self, config: Config, features: FrozenSet[str]) -> None:
        #: Whether links have a UDP socket at each address; otherwise each has one raw socket.
        self.secure = config.encapsulation == SECURE
        #: The UDP port of a secure network.
        self.port = config.port
        self._features = features

    def open(self, link: Link, address: str) -> Sockets:
        """Return what sends and receives at an address of a link; `OSError` if it cannot be had."""
        if self.secure:
            here = link.index, link.name, address, self.port
            return UdpSocket(*here, udp.open_socket(*here), self._features)
        pair = classic_sockets.open_pair(link.index, link.name)
        return LinkSockets(link.index, link.name, *pair)

    def open_stray(self, link: Link, address: str) -> StraySocket:
        """Return what receives at an address by every interface; `OSError` if it cannot be had."""
        opened = udp.open_stray(address, self.port)
        return StraySocket(link.index, link.name, address, self.port, opened, self._features)


class Strays:
    """Sockets that receive by every interface what comes for an address that only one link has."""

    def __init__(self, opener: Opener, ports: Ports, receive: Receive) -> None:
        self._opener = opener
        self._ports = ports
        self._receive = receive
        self._open: Dict[Hashable, StraySocket] = {}
        #: Why there is none, by the key of the sockets that it would go with.
        self.missing: Dict[Hashable, str] = {}

    def close_unwanted(self, wanted: Container[Hashable]) -> None:
        """Close those that are not wanted any more."""
        for key in [key for key in self._open if key not in wanted]:
            self.close(key)

    def follow(self, wanted: Bindings) -> None:
        """Open what is missing of those that are wanted."""
        self.missing = {}
        for key, (link, address) in wanted.items():
            if key in self._open or key not in self._ports.senders:
                continue
            try:
                stray = self._opener.open_stray(link, address)
                self._ports.open(stray, self._receive)
            except OSError as error:
                self.missing[key] = error.strerror or str(error)
                continue
            self._open[key] = stray

    def close(self, key: Hashable) -> None:
        """Close the one that goes with the sockets of `key`, if there is one."""
        if key in self._open:
            self._ports.close(self._open.pop(key))


class Links:
    """Has the sockets that the links need and no others, and tells the node of the links.

    `receive` is called when a socket is ready. `look_soon` asks for a look at the interfaces,
    because a socket failed. `changed` is called when it changes whether any link can be used.
    """

    def __init__(
        self,
        opener: Opener,
        node: Node,
        ports: Ports,
        receive: Receive,
        look_soon: Callable[[float], None],
        changed: Callable[[float], None],
    ) -> None:
        self._opener = opener
        self._node = node
        self._ports = ports
        self._receive = receive
        self._look_soon = look_soon
        self._changed = changed
        self._repeated = RateLimitedLog()
        self._sockets_max = _sockets_max()
        self._strays = Strays(opener, ports, receive)
        self._snapshot = Snapshot()
        self._retry_at = _INF
        # Why sockets cannot be had, by key, and why links get fewer than they have addresses.
        self._unusable: Dict[Hashable, str] = {}
        self._left_out: Dict[int, str] = {}
        #: Why no link can be used although there are links, as a sentence; empty if one can.
        self.none_usable = ""

    def deadline(self) -> float:
        """Return when sockets that could not be had are tried again."""
        return self._retry_at

    def tick(self, now: float) -> None:
        """Try again to open what could not be had."""
        if now >= self._retry_at:
            self.follow(self._snapshot, now)

    def follow(self, snapshot: Snapshot, now: float) -> None:
        """Bring the sockets and the node in line with the links."""
        self._snapshot = snapshot
        self._retry_at = _INF
        wanted = bindings(snapshot.links, self._opener.secure, self._sockets_max)
        self._note_left_out(wanted)
        unshared = _unshared(wanted) if self._opener.secure else set()
        self._close_unwanted(wanted, unshared)
        for key, (link, address) in wanted.items():
            self._open(key, link, address, now)
        self._strays.follow({key: wanted[key] for key in unshared})
        self._note_none_usable(now)
        self._node.set_links(self._usable(), now)
        self._node.expect([*self._faults(), *snapshot.missing])

    def receive_failed(self, receiver: Receivers, error: OSError, now: float) -> None:
        """Deal with a socket that cannot be read."""
        if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
            # Unforeseen, so begin anew with fresh sockets rather than turn in circles.
            log.warning("receiving on %s failed: %s", receiver.name, error.strerror or error)
            self._close_sockets(receiver.key)
        self._look_soon(now)

    def close(self) -> None:
        """Close all sockets."""
        for key in list(self._ports.senders):
            self._close_sockets(key)

    # --- what others need to know

    def receiving(self) -> Optional[List[int]]:
        """Return the interfaces that sockets receive by; None if they receive by any interface."""
        if self._opener.secure:
            return None
        return [sockets.index for sockets in self._ports.senders.values()]

    def unheard(self) -> Dict[Hashable, str]:
        """Return for which links and addresses nothing receives by other interfaces, and why."""
        return dict(self._strays.missing)

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

    def _close_unwanted(self, wanted: Bindings, unshared: Container[Hashable]) -> None:
        for key in [key for key in self._ports.senders if key not in wanted]:
            self._close_sockets(key)
        self._strays.close_unwanted(unshared)
        for key in [key for key in self._unusable if key not in wanted]:
            del self._unusable[key]

    def _open(self, key: Hashable, link: Link, address: str, now: float) -> None:
        """Have sockets at an address of a link, new ones if those before are bound no more."""
        sockets = self._ports.senders.get(key)
        if sockets is not None:
            if sockets.is_bound():
                return
            # The interface went away and came back under its index while nobody looked.
            self._close_sockets(key)
        try:
            self._ports.open_sender(self._opener.open(link, address), self._receive)
        except OSError as error:
            self._note_unusable(key, link, address, error, now)
            self._retry_at = now + RETRY_S
            return
        self._unusable.pop(key, None)

    def _close_sockets(self, key: Hashable) -> None:
        self._strays.close(key)
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
