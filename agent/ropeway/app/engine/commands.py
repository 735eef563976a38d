"""The commands of the control socket, each answered from the parts that know."""

from __future__ import annotations

import ipaddress
import logging
import os
from typing import Any, Callable, Dict, Optional, Protocol

from ropeway.app.config.model import BYTES_MAX
from ropeway.app.control.answer import Later
from ropeway.app.control.server import Client
from ropeway.app.engine.budgets import Budgets
from ropeway.app.engine.nodes import Made
from ropeway.app.engine.reload import Reload
from ropeway.core.explain import SIZE_MIN, Question

log = logging.getLogger("ropeway")

_TEXT_CHARACTERS_MAX = 64
#: What else a packet can have that is asked about: the key, the lowest and the highest value.
_ASKED = (
    ("dscp", 0, 63),
    ("protocol", 0, 255),
    ("port", 0, 65535),
    ("size", SIZE_MIN, 65535),
)


class Remotes(Protocol):
    """The remotes of a classic network."""

    def add_remote(self, host: str, address: str, number: int, now: float) -> None:
        """Make another way to a host known; ValueError, with a sentence, if it cannot be one."""

    def remove_remote(self, host: str, address: Optional[str], now: float) -> None:
        """Forget a way to a host; ValueError, with a sentence, if there is no such thing."""


class Commands:
    """Answers requests. `path` is the configuration's file.

    `status` returns the whole status; `wish_changed` is called when the node calls other addresses.
    """

    def __init__(
        self,
        made: Made,
        path: Optional[str],
        status: Callable[[float], Dict[str, Any]],
        reload: Reload,
        budgets: Budgets,
        wish_changed: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._made = made
        self._path = path
        self._reload = reload
        self._budgets = budgets
        self._wish_changed = wish_changed
        self._clock = clock
        self._commands: Dict[str, Callable[[Dict[str, Any], Client, float], Any]] = {
            "status": lambda _, _client, now: status(now),
            "remote-add": self._add_remote,
            "remote-remove": self._remove_remote,
            "reload": self._ask_for_reload,
            "keylog": self._session_keys,
            "budget-set": self._set_budget,
            "explain": self._explain,
            "leases": self._leases,
            "lease-release": self._release_lease,
        }

    def answer(self, request: Dict[str, Any], client: Client) -> Any:
        """Answer one request of `client`; `ValueError` with a sentence if it cannot be."""
        command = self._commands.get(request["command"])
        if command is None:
            *others, last = self._commands
            raise ValueError(f"unknown command: the commands are {', '.join(others)} and {last}")
        return command(request, client, self._clock())

    def _add_remote(self, request: Dict[str, Any], _: Client, now: float) -> None:
        node = self._classic()
        host, address = _text(request, "host"), _text(request, "address")
        index = _number({"index": 0, **request}, "index", 0, (1 << 31) - 1)
        node.add_remote(host, address, index, now)
        self._wish_changed(now)
        log.info("remote %s of %s added over the control socket", address, host)

    def _remove_remote(self, request: Dict[str, Any], _: Client, now: float) -> None:
        node = self._classic()
        host = _text(request, "host")
        address = None if request.get("address") is None else _text(request, "address")
        node.remove_remote(host, address, now)
        log.info("remote %s of %s removed over the control socket", address or "*", host)

    def _classic(self) -> Remotes:
        if self._made.classic is None:
            raise ValueError(
                "only the encapsulation classic has this command: change addresses of the host in"
                " the configuration, and run `ropeway reload`"
            )
        return self._made.classic

    def _ask_for_reload(self, request: Dict[str, Any], _: Client, now: float) -> Later:
        self._check_own(request.get("config"))
        answer = Later()
        self._reload.ask(now, answer)
        return answer

    def _session_keys(self, _: Dict[str, Any], client: Client, _now: float) -> Any:
        if self._made.secure is None:
            raise ValueError("only the encapsulation secure has session keys")
        if client.uid != 0:
            raise ValueError("the keys of sessions are for root alone: run this as root")
        if not client.knows_keys:
            client.knows_keys = True
            log.warning("the keys of the sessions are given out over the control socket")
        return self._made.secure.session_keys()

    def _set_budget(self, request: Dict[str, Any], _: Client, now: float) -> None:
        name, used = _text(request, "link"), _number(request, "used_bytes", 0, BYTES_MAX)
        self._budgets.correct(name, used, now)
        log.info("%s bytes count as used of the budget of %s, by the control socket", used, name)

    def _leases(self, _: Dict[str, Any], _client: Client, now: float) -> Any:
        if self._made.secure is None:
            raise ValueError("only the encapsulation secure has leases")
        node = self._made.secure
        client = node.lease_client
        return {
            "own": None if client is None else client.status(now),
            "pool": node.lease_server.status(),
            "leases": node.leases(now),
        }

    def _release_lease(self, request: Dict[str, Any], _: Client, now: float) -> None:
        if self._made.secure is None:
            raise ValueError("only the encapsulation secure has leases")
        address = _text(request, "address")
        self._made.secure.release_lease(address, now)
        log.info("the lease of %s was released over the control socket", address)

    def _explain(self, request: Dict[str, Any], _: Client, now: float) -> Any:
        if self._made.secure is None:
            raise ValueError("only the encapsulation secure has classes of traffic to explain")
        destination = _text(request, "destination")
        try:
            ipaddress.ip_address(destination)
        except ValueError:
            raise ValueError("destination is neither an IPv4 nor an IPv6 address") from None
        numbers = {key: _number(request, key, low, high) for key, low, high in _ASKED}
        return self._made.secure.explain(Question(destination, **numbers), now)

    def _check_own(self, named: Any) -> None:
        """Refuse to read another file than the agent's own for whoever has `named` one."""
        if named is None or self._path is None:
            return
        if not isinstance(named, str) or os.path.realpath(named) != os.path.realpath(self._path):
            raise ValueError(
                f"this agent reads {os.path.abspath(self._path)} and no other file: name the"
                " control socket of the one that you mean with --control"
            )


def _text(request: Dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or len(value) > _TEXT_CHARACTERS_MAX:
        raise ValueError(f"{key} is missing or is not a short text")
    return value


def _number(request: Dict[str, Any], key: str, low: int, high: int) -> int:
    value = request.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{key} is a number from {low} to {high}")
    return value
