"""What the steward tells the engine: whole snapshots, and answers to orders.

They travel pickled: the engine is made of less than the steward may do, and has nothing to fear
from it.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

from ropeway.app.config.model import Config
from ropeway.core.endpoint import Endpoint
from ropeway.core.link import Link
from ropeway.core.redundancy import LinkHealth

#: An answer in bytes, at most.
BYTES_MAX = 64 << 20


@dataclass(frozen=True)
class ConfigurationRead:
    """The configuration as its file says, or all that is wrong with it."""

    number: int
    config: Union[Config, None]
    #: Sentences that name file, line and fault.
    errors: Tuple[str, ...] = ()


@dataclass(frozen=True)
class KeptLease:
    """The address that this host had by a lease."""

    address: str
    #: For how much longer it may have it.
    left_s: float
    #: The MTU in bytes that came with it; 0 for none.
    mtu: int


@dataclass(frozen=True)
class StateBegun:
    """What must outlive a restart."""

    epoch: int
    #: The secret bytes of this start, and those of former starts behind them.
    reset_keys: Tuple[bytes, ...] = field(repr=False)
    #: The endpoints that hosts called from.
    callers: Dict[str, List[Endpoint]]
    lease: Union[KeptLease, None] = None


@dataclass(frozen=True)
class LeasesRead:
    """The leases that this host has given: addresses, and the key that has each."""

    kept: Tuple[Tuple[str, bytes], ...]
    #: Why they cannot be read, as a sentence; empty if they were.
    fault: str = ""


@dataclass(frozen=True)
class LeasesWritten:
    """Leases are on disk, unless `fault` says why not."""

    number: int
    fault: str = ""


@dataclass(frozen=True)
class KeptUse:
    """What a link has used of its budget in the present period."""

    #: Bytes that it has carried in this run of the agent, as the engine had said ...
    total: int
    #: ... and bytes of the budget that were used then.
    used: int
    #: When the period ends, as ISO 8601.
    resets_at: str


@dataclass(frozen=True)
class BudgetsKept:
    """What is kept of the use of links that have a budget, by interface name."""

    links: Mapping[str, KeptUse]


@dataclass(frozen=True)
class DeviceOpened:
    """The device was made; the descriptors of its queues come with this."""

    index: int
    #: For each offload feature "on", or why it is not.
    features: Dict[str, str]


@dataclass(frozen=True)
class Failed:
    """The start failed."""

    sentence: str
    #: Whether another configuration would help.
    is_mistake: bool


@dataclass(frozen=True)
class Refused:
    """An order was not carried out, because it does not agree with what the steward has read."""

    sentence: str


@dataclass(frozen=True)
class DeviceConfigured:
    """The device has its address, and this MTU in bytes."""

    mtu: int


@dataclass(frozen=True)
class SocketOpened:
    """Sockets were opened, and their descriptors come with this; else `reason` says why not."""

    number: int
    errno: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Shown:
    """What only the status shows, whenever it has changed."""

    #: The interfaces that take no part, each with the reason.
    left_out: Sequence[Mapping[str, Any]] = ()
    #: What is wrong with the device, and why packets do not reach it, as sentences; "" is nothing.
    device_faults: Sequence[str] = ()
    #: What else keeps this host from being as it should be, as sentences.
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Snapshot:
    """The host's interfaces at one moment."""

    #: Counts the snapshots of one steward; 0 before the first.
    number: int = 0
    #: The interfaces that take part.
    links: Tuple[Link, ...] = ()
    #: The interfaces that the configuration names and that take no part.
    missing: Tuple[LinkHealth, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """What names lead to."""

    #: Addresses by name, for the names that ever had a good answer.
    addresses: Mapping[str, Tuple[str, ...]]
    #: What is wrong with names, as sentences.
    faults: Tuple[str, ...]


@dataclass(frozen=True)
class MachineCopied:
    """The kernel has announced that this virtual machine was cloned or set back to a snapshot."""


@dataclass(frozen=True)
class Pong:
    """The steward turns."""


Answer = Union[
    ConfigurationRead,
    StateBegun,
    LeasesRead,
    LeasesWritten,
    BudgetsKept,
    DeviceOpened,
    Failed,
    Refused,
    DeviceConfigured,
    SocketOpened,
    Snapshot,
    Shown,
    Resolved,
    MachineCopied,
    Pong,
]


def encode(answer: Answer) -> bytes:
    """Return an answer as bytes."""
    return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)


def decode(message: bytes) -> Answer:
    """Return the answer that the steward has put into these bytes."""
    return pickle.loads(message)  # type: ignore[no-any-return]  # noqa: S301 - our own steward's
