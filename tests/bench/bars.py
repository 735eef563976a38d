"""What ropeway is meant to reach, beside what it did. A benchmark fails for none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.bench.series import Series

#: The contender that the bars are about, and the same with processors kept awake.
WHO, AWAKE = "ropeway-2", "ropeway-2-awake"
#: Two of its clients, with the router between them.
ROUTED = "ropeway-2-routed"
REFERENCE = "wireguard"


@dataclass(frozen=True)
class Bar:
    """A bound, what it bounds, and where the figure is found."""

    what: str
    bound: float
    unit: str
    at_least: bool
    #: "ratio" to the reference, "added" to the bare link, "plain", or "crowd".
    kind: str
    quantity: str
    who: str = WHO


BARS = (
    Bar("TCP over two links, of wireguard-go's over one", 1.5, "x", True, "ratio", "tcp"),
    Bar("UDP 1200 B over two links, of wireguard-go's", 1.2, "x", True, "ratio", "udp_1200"),
    Bar("UDP 200 B over two links", 25000, "packets/s", True, "plain", "udp_200"),
    Bar("round trip p50, idle, of wireguard-go's", 1.0, "x", False, "ratio", "idle_p50"),
    Bar("the same with cpu_latency_us 0", 1.0, "x", False, "ratio", "idle_p50", AWAKE),
    Bar("round trip p99 added to the bare link's, idle", 1.0, "ms", False, "added", "idle_p99"),
    Bar("round trip p99 of a small flow beside TCP", 5.0, "ms", False, "plain", "load_p99"),
    Bar("engine's resident memory, 4 links, 10 peers", 40.0, "MiB", False, "crowd", "memory_idle"),
    Bar("that of all processes of the agent", 80.0, "MiB", False, "crowd", "memory_all"),
    Bar("that of the engine after traffic", 45.0, "MiB", False, "crowd", "memory"),
    Bar("all idle, of one processor", 0.5, "%", False, "crowd", "idle_cpu"),
)


@dataclass(frozen=True)
class Verdict:
    """A bar and what was measured, None where it was not."""

    bar: Bar
    measured: Series | None

    @property
    def met(self) -> bool | None:
        if not self.measured:
            return None
        middle = self.measured.middle
        return middle >= self.bar.bound if self.bar.at_least else middle <= self.bar.bound

    def __str__(self) -> str:
        bar = self.bar
        sign = ">=" if bar.at_least else "<="
        wanted = f"{sign} {bar.bound:g} {bar.unit}"
        if not self.measured:
            return f"{bar.what:48} {wanted:>20}   not measured"
        found = f"{self.measured} {bar.unit}"
        spread = f"({self.measured.spread})" if len(self.measured.values) > 1 else ""
        met = "met" if self.met else "not met"
        return f"{bar.what:48} {wanted:>20}   {met:8} {found:>18} {spread}"

    def report(self) -> dict[str, Any]:
        return {
            "what": self.bar.what,
            "bound": self.bar.bound,
            "unit": self.bar.unit,
            "at_least": self.bar.at_least,
            "measured": self.measured.report() if self.measured else None,
            "met": self.met,
        }
