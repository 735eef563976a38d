"""The status of the agent: the result of the control command of that name, and systemd's line."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, FrozenSet, List, Optional, Union

from ropeway import __version__
from ropeway.app.control.tree import summary
from ropeway.app.engine.budgets import Budgets
from ropeway.app.engine.interfaces import Interfaces
from ropeway.app.engine.leases import GivenLeases
from ropeway.app.engine.links import Links
from ropeway.app.engine.names import Names
from ropeway.app.engine.pump import Pump
from ropeway.core.facade import Node
from ropeway.core.link import Link
from ropeway.core.strand.state import State
from ropeway.kernel import capabilities
from ropeway.kernel.features import ON
from ropeway.steward.client import Steward

#: Why a link of a classic network carries nothing before it has sockets.
NO_SOCKETS = "it has just appeared"

#: What the kernel has granted, or why not, by name.
Granted = Dict[str, Union[int, str]]


@dataclasses.dataclass(frozen=True)
class Status:
    """Puts the status together from what each part knows."""

    node: Node
    pump: Pump
    links: Links
    interfaces: Interfaces
    steward: Steward
    #: The names of peers; None if the encapsulation has none.
    names: Optional[Names]
    budgets: Budgets
    #: What the kernel has granted the process.
    granted: Granted
    #: The offload features that the configuration disables; None if the encapsulation has none.
    disabled: Optional[FrozenSet[str]]
    started_at: float
    #: The leases that this host gives; None if the encapsulation has none.
    given_leases: Optional[GivenLeases] = None

    def whole(self, now: float) -> Dict[str, Any]:
        """Return the result of the control command `status`."""
        status: Dict[str, Any] = {
            "version": __version__,
            "uptime_s": round(now - self.started_at, 3),
        }
        status.update(self.node.status(now))
        status["process"] = {
            **self.granted,
            # Everything that needs one is done by the steward.
            "capabilities": list(capabilities.held().permitted),
            "cpu_latency_us": self.pump.wakefulness.granted,
            "cpu_latency_held": self.pump.wakefulness.held,
        }
        status["device"] = self.pump.device.status()
        if self.disabled is not None:
            status["offload"] = self._offload(self.disabled)
        status["steward"] = self.steward.status()
        shown = self.interfaces.shown
        status["not_taking_part"] = list(shown.left_out)
        drops = self.pump.ports.receive_drops()
        for link in self._with_links(status)["links"]:
            link["receive_drops"] = drops.get(link["index"], 0)
            link.update(self.links.status(link["index"]))
            purpose = self.budgets.purpose(link["name"])
            link["cost"], link["metered"] = purpose.cost, purpose.metered
            budget = self.budgets.status(link["name"])
            if budget is not None:
                link["budget"] = budget
        warnings = [self.steward.warning, self.links.none_usable, *shown.device_faults]
        if not status["links"]:
            warnings.append(
                "no interface takes part, so no packet gets through: look at interfaces.include and"
                " interfaces.exclude"
            )
        warnings += self.budgets.warnings
        if self.given_leases is not None:
            warnings.append(self.given_leases.fault)
        warnings.append(_lacks_address(status.get("lease")))
        warnings += unserved_classes(status)
        warnings += shown.warnings
        if self.names is not None:
            warnings += self.names.faults
            for peer in status["peers"]:
                peer["names"] = self.names.status(peer["host"])
        status["warnings"] = [sentence for sentence in warnings if sentence]
        return status

    def line(self, now: float) -> str:
        """Return the line that `systemctl status` shows."""
        return self.links.none_usable or summary(self._with_links(self.node.status(now)))

    def _with_links(self, status: Dict[str, Any]) -> Dict[str, Any]:
        """Add to the node's `status` the links that it does not know, and those not there."""
        known = {link["index"] for link in status["links"]}
        status["links"] += [
            _without_sockets(link, fault or NO_SOCKETS) for link, fault in self.links.unknown(known)
        ]
        status["links"].sort(key=lambda link: link["index"])
        status["missing_links"] = [
            dataclasses.asdict(one) for one in self.interfaces.snapshot.missing
        ]
        return status

    def _offload(self, disabled: FrozenSet[str]) -> Dict[str, str]:
        """Return for each feature of the kernel "on", or why packets go without it."""
        features: Dict[str, str] = {}
        tun = self.pump.device.tun
        places = [] if tun is None else [("", tun.features)]
        places += [
            (f"{sockets.name}: ", sockets.features)  # type: ignore[union-attr]
            for sockets in self.pump.ports.senders.values()
        ]
        for place, there in places:
            for name, reason in there.items():
                if features.get(name, ON) == ON:
                    features[name] = ON if reason == ON else place + reason
        for name in disabled:
            features[name] = "off by configuration"
        return features


def _lacks_address(lease: Optional[Dict[str, Any]]) -> str:
    """Return why this host has no address yet, as a sentence; empty if it has one."""
    if lease is None or lease["address"] is not None:
        return ""
    sentence = (
        "this host has no virtual address, because {} has not given it one yet: see that it is"
        " reached, and that it has this host's public key with host: lease"
    )
    return sentence.format(lease["router"])


def unserved_classes(status: Dict[str, Any]) -> List[str]:
    """Return a sentence for each class of traffic that is off on every link that carries packets.

    ``status`` is that of a node.
    """
    hosts: Dict[str, List[str]] = {}
    for peer in status["peers"]:
        for one in peer.get("classes", ()):
            if (
                one["name"] is not None
                and not one["links"]
                and peer["best_state"] == State.ESTABLISHED
            ):
                hosts.setdefault(one["name"], []).append(peer["host"])
    return [
        f"class {name}: its packets to {_with_count(those)} are dropped, because it is off on every"
        " link that carries packets there: look at off in classes"
        for name, those in hosts.items()
    ]


def _with_count(hosts: List[str]) -> str:
    others = len(hosts) - 1
    if not others:
        return hosts[0]
    return f"{hosts[0]} and {others} other host" + ("s" if others > 1 else "")


def _without_sockets(link: Link, fault: str) -> Dict[str, Any]:
    return {
        "index": link.index,
        "name": link.name,
        "addresses": list(link.addresses),
        "mtu": link.mtu,
        "up": False,
        "carries": False,
        "fault": fault,
        "send_errors": {},
    }
