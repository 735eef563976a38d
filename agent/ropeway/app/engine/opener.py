"""Sockets that the steward opens for the engine, asked for and taken over."""

from __future__ import annotations

import functools
from typing import Any, Callable, Container, Dict, FrozenSet, Hashable, List, Tuple, Union

from ropeway.app.config.model import SECURE, Config
from ropeway.app.engine.bindings import Bindings
from ropeway.app.engine.ports import Ports, Receive, Sockets
from ropeway.core.link import Link
from ropeway.kernel.classic_sockets import LinkSockets
from ropeway.kernel.udp import StraySocket, UdpSocket
from ropeway.steward.answers import SocketOpened
from ropeway.steward.client import Steward
from ropeway.steward.orders import OpenSocket
from ropeway.steward.pipe import close_all

#: Takes what was opened, or the `OSError` that says why it could not be, and the time.
Opened = Callable[[Any, float], None]


class Opener:
    """Has sockets of the network's encapsulation opened by the steward, and takes them over.

    `features` are those asked of the kernel.
    """

    def __init__(self, config: Config, features: FrozenSet[str], steward: Steward) -> None:
        #: Whether links have a UDP socket at each address; otherwise each has one raw socket.
        self.secure = config.encapsulation == SECURE
        #: The UDP port of a secure network.
        self.port = config.port
        self._features = features
        self._steward = steward
        self._number = 0
        # By the number of the order: whom to give what was opened, and what it is.
        self._asked: Dict[int, Tuple[Opened, OpenSocket]] = {}
        steward.on(SocketOpened, self._take)

    @property
    def waits(self) -> bool:
        """Whether there are sockets that were asked for and did not come yet."""
        return bool(self._asked)

    def ask(self, link: Link, address: str, stray: bool, opened: Opened) -> int:
        """Have what sends and receives at an address of a link opened, and given to `opened`.

        With `stray` it is what receives there by every interface. Returns a number to forget it by.
        """
        self._number += 1
        order = OpenSocket(
            self._number,
            link.index,
            link.name,
            address,
            stray,
        )
        self._asked[self._number] = opened, order
        self._steward.send(order)
        return self._number

    def forget(self, number: int) -> None:
        """Close what was asked for as soon as it comes."""
        self._asked.pop(number, None)

    def forget_all(self) -> None:
        """Forget what was asked of a steward that has ended."""
        self._asked.clear()

    def _take(self, answer: SocketOpened, descriptors: List[int], now: float) -> None:
        opened, order = self._asked.pop(answer.number, (None, None))
        if opened is None or order is None:
            close_all(descriptors)
        elif not descriptors:
            opened(OSError(answer.errno, answer.reason), now)
        else:
            opened(self._wrap(order, descriptors), now)

    def _wrap(self, order: OpenSocket, descriptors: List[int]) -> Union[Sockets, StraySocket]:
        index, name, address, port = order.index, order.name, order.address, self.port
        if not self.secure:
            send, receive = descriptors
            return LinkSockets(index, name, send, receive)
        if order.stray:
            return StraySocket(index, name, address, port, descriptors[0], self._features)
        return UdpSocket(index, name, address, port, descriptors[0], self._features)


class Strays:
    """Sockets that receive by every interface what comes for an address that only one link has."""

    def __init__(
        self, opener: Opener, ports: Ports, receive: Receive, changed: Callable[[float], None]
    ) -> None:
        self._opener = opener
        self._ports = ports
        self._receive = receive
        self._changed = changed
        self._open: Dict[Hashable, StraySocket] = {}
        self._asked: Dict[Hashable, int] = {}
        #: Why there is none, by the key of the sockets that it would go with.
        self.missing: Dict[Hashable, str] = {}

    def close_unwanted(self, wanted: Container[Hashable]) -> None:
        """Close those that are not wanted any more."""
        for key in [key for key in (*self._open, *self._asked) if key not in wanted]:
            self.close(key)

    def follow(self, wanted: Bindings) -> None:
        """Have opened what is missing of those that are wanted."""
        self.missing = {key: why for key, why in self.missing.items() if key in wanted}
        there = {*self._open, *self._asked, *self.missing}
        for key, (link, address) in wanted.items():
            if key not in there and key in self._ports.senders:
                opened = functools.partial(self._opened, key)
                self._asked[key] = self._opener.ask(link, address, True, opened)

    def try_again(self) -> None:
        """Have what could not be had asked for again."""
        self.missing.clear()

    def forget_asked(self) -> None:
        """Forget what was asked of a steward that has ended."""
        self._asked.clear()

    def close(self, key: Hashable) -> None:
        """Close the one that goes with the sockets of `key`, if there is one."""
        if key in self._asked:
            self._opener.forget(self._asked.pop(key))
        if key in self._open:
            self._ports.close(self._open.pop(key))

    def _opened(self, key: Hashable, stray: Union[StraySocket, OSError], now: float) -> None:
        self._asked.pop(key, None)
        self.missing.pop(key, None)
        self._changed(now)
        if isinstance(stray, OSError):
            self.missing[key] = stray.strerror or str(stray)
            return
        try:
            self._ports.open(stray, self._receive)
        except OSError as error:
            self.missing[key] = error.strerror or str(error)
            return
        self._open[key] = stray
