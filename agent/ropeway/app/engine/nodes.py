"""The one place that makes nodes, of either encapsulation."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, FrozenSet, Optional, Set

from ropeway.app.config.model import SECURE, Config, Remote
from ropeway.app.engine.intake import Intake
from ropeway.app.engine.starts import Starts
from ropeway.app.errors import ConfigError
from ropeway.core.classic.node import ClassicNode
from ropeway.core.facade import Node
from ropeway.core.settings import Settings as NodeSettings
from ropeway.kernel.udp import UDP_FEATURES

if TYPE_CHECKING:
    from ropeway.core.node import SecureNode
    from ropeway.core.settings import SecureSettings

log = logging.getLogger("ropeway")

_SOCKET_FEATURES = frozenset(UDP_FEATURES)


@dataclass(frozen=True)
class Made:
    """A node, and what belongs to its encapsulation."""

    node: Node
    #: Returns what the node wants sent, by socket key and destination.
    take_frames: Callable[[], Dict[Any, Any]]
    #: The node again if its network is classic.
    classic: Optional[ClassicNode] = None
    #: The node again if its network is secure.
    secure: Optional[SecureNode] = None
    #: The epoch and reset keys of a secure node.
    starts: Optional[Starts] = None

    def incoming(self) -> Intake:
        """Return the intake of what links receive."""
        node = self.node
        return Intake(node.inbound, node.flow, node.packets_in, node.without_packets)


def socket_features(config: Config) -> FrozenSet[str]:
    """Return which offloads sockets are asked for; classic frames have no use for them."""
    secure = config.encapsulation == SECURE
    return _SOCKET_FEATURES - config.offload_disable if secure else frozenset()


def make_classic(config: Config, now: float) -> Made:
    """Return the node of a classic network; `ConfigError` where it refuses a peer."""
    log.warning(
        "encapsulation classic: packets are neither authenticated nor encrypted; who can send on a"
        " link can read, forge and redirect the traffic of %s: use it on trusted LANs only",
        config.network,
    )
    node = ClassicNode(
        NodeSettings(
            address=config.address,
            network=config.network,
            routers=config.routers,
            forward=config.forward,
            device_mtu=config.device_mtu,
        ),
        now,
        random.Random(),  # noqa: S311 - spreads greetings in time, keeps no secret
    )
    for remote in config.remotes:
        try:
            node.add_remote(remote.host, remote.address, remote.index, now)
        except ValueError as error:
            raise ConfigError([f"peers: {error}"]) from error
    return Made(node, node.take_datagrams, classic=node)


def make_secure(config: Config, now: float, starts: Starts) -> Made:
    """Return the node of a secure network; `ConfigError` where it refuses a peer."""
    # The other encapsulation does without the library of the ciphers.
    from ropeway.core.node import SecureNode

    try:
        node = SecureNode(
            secure_settings(config, starts),
            now,
            random.Random(),  # noqa: S311 - spreads greetings in time, keeps no secret
            os.urandom,
        )
    except ValueError as error:
        raise ConfigError([f"peers: {error}"]) from error
    return Made(node, node.take_trains, secure=node, starts=starts)


def secure_settings(config: Config, starts: Starts) -> SecureSettings:
    """Return what a node of a secure network takes from the configuration and this start."""
    from ropeway.core.settings import PeerSettings, SecureSettings, Tenant

    return SecureSettings(
        address=config.address,
        network=config.network,
        routers=config.routers,
        forward=config.forward,
        device_mtu=config.device_mtu,
        network6=config.network6,
        private_key=config.private_key,
        port=config.port,
        peers=tuple(
            PeerSettings(
                host=peer.host,
                public_keys=peer.public_keys,
                psk=peer.psk,
                endpoints=peer.endpoints,
                names=peer.names,
                allowed=peer.allowed,
                direct=peer.direct,
            )
            for peer in config.peers
        ),
        tenants=tuple(Tenant(peer.public_keys[0], peer.psk) for peer in config.tenants),
        leases=config.leases,
        epoch=starts.epoch,
        reset_keys=starts.reset_keys,
        rollover_s=config.rollover_s,
        classes=config.classes,
        direct=config.direct,
        copy_dscp=config.copy_dscp,
        announce=config.announce,
    )


def change_peers(made: Made, before: Config, after: Config, now: float) -> None:
    """Have a node go over from one configuration's peers to another's.

    `ValueError` where only a new node could; then nothing is changed.
    """
    if made.secure is not None and made.starts is not None:
        made.secure.reload(secure_settings(after, made.starts), now)
    elif made.classic is not None:
        made.classic.set_routers(after.routers)
        _change_remotes(made.classic, set(before.remotes), set(after.remotes), now)


def _change_remotes(node: ClassicNode, before: Set[Remote], after: Set[Remote], now: float) -> None:
    kept = {remote.host for remote in after}
    for host in {remote.host for remote in before} - kept:
        with contextlib.suppress(ValueError):  # removed over the control socket already
            node.remove_remote(host, None, now)
    for remote in before - after:
        if remote.host in kept:
            with contextlib.suppress(ValueError):
                node.remove_remote(remote.host, remote.address, now)
    for remote in after - before:
        node.add_remote(remote.host, remote.address, remote.index, now)
