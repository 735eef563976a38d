"""The upkeep of the device: it is made, configured, repaired, and packets are led to it."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
from typing import Callable, List, Optional, Sequence

from ropeway.app.rate_limited_log import RateLimitedLog
from ropeway.kernel.tun import OpenedDevice
from ropeway.steward.device import DEVICE_ALIAS, open_device
from ropeway.steward.interface import Interface
from ropeway.steward.loop import RETRY_S
from ropeway.steward.netlink import device as kernel_device
from ropeway.steward.netlink import routes, steering
from ropeway.steward.overlap import Overlap
from ropeway.steward.settings import Settings

log = logging.getLogger("ropeway")

# Tuning
#: If something changes the device again and again, the pause between repairs doubles up to this.
REPAIR_MAX_S = 60.0

#: Gives the engine a device that was made, and its index.
Give = Callable[[int, OpenedDevice], None]


def remove_left() -> None:
    """Remove rules of killed agents that lead nowhere."""
    with contextlib.suppress(OSError):
        steering.remove_left()


class Upkeep:
    """Keeps the device as the configuration wants it.

    `give` takes a device that had to be made again; `configured` is called with the MTU when the
    device was configured; `look_by` asks for another look at it by some time.
    """

    def __init__(
        self,
        settings: Settings,
        give: Give,
        configured: Callable[[int], None],
        look_by: Callable[[float], None],
    ) -> None:
        self._settings = settings
        self._give = give
        self._configured = configured
        self._look_by = look_by
        self._repeated = RateLimitedLog()
        #: The MTU that was set last, in bytes; 0 before that.
        self.mtu = 0
        # Whether the device has yet to get another address than it had.
        self._readdressed = False
        self._repair_at = float("-inf")
        self._repair_pause_s = RETRY_S
        # What leads packets to the device. None until that was looked at, because a steward before
        # this one may have made rules.
        self._steering: Optional[steering.Steering] = None
        #: Why packets do not reach the device, as a sentence; empty if they do.
        self.steering_fault = ""
        #: What is wrong with the device, as a sentence; empty if nothing is.
        self.device_fault = ""
        #: Why the device has no IPv6, as a sentence; empty if it has it or is not to.
        self.ipv6_fault = ""
        self._had_ipv6 = False

    def set_settings(self, settings: Settings) -> None:
        """Go over to other settings; they name the same device."""
        if settings.device_address != self._settings.device_address:
            self._readdressed = True
        self._settings = settings

    @property
    def is_steered(self) -> bool:
        """Whether it was seen once that packets are led to the device."""
        return self._steering is not None

    def tend(
        self,
        device: Optional[Interface],
        mtu: int,
        overlaps: Sequence[Overlap],
        precedence: bool,
        now: float,
        starting: bool = False,
    ) -> None:
        """Put back whatever of the device is not as it has to be.

        `device` is the interface as the kernel has it, `mtu` in bytes what it has to have;
        `precedence` says whether the virtual network goes before the `overlaps` within it.
        `OSError` only at the start, where the kernel refuses.
        """
        settings = self._settings
        faults = self._faults(device, mtu)
        self.device_fault = ""
        readdressed, self._readdressed = self._readdressed, False
        if not faults:
            assert device is not None
            if self.mtu != mtu:
                # It was so already: another steward, or a persistent device.
                self.mtu = mtu
                self._configured(mtu)
            aside = [one.own for one in overlaps if one.inside and precedence]
            self._steer(device, aside, now)
            self._keep_ipv6(device, now)
            return
        expected = starting or readdressed or (mtu != self.mtu and len(faults) == 1)
        if not expected and not self._may_repair(", ".join(faults), now):
            return
        try:
            if device is None or faults[0] == "it is gone":
                features = frozenset(settings.device_features)
                index, opened = open_device(settings.device_name, features)
                self._give(index, opened)
            else:
                index = device.index
            kernel_device.configure(
                index, settings.device_address if settings.has_address else "", mtu, DEVICE_ALIAS
            )
            for address in _former_addresses(device, settings):
                kernel_device.remove_address(index, address)
        except OSError as error:
            if starting:
                raise
            self.device_fault = (
                f"device {settings.device_name} cannot be repaired"
                f" ({error.strerror or error}): trying again"
            )
            log.warning("%s", self.device_fault)
            self._look_by(now + RETRY_S)
            return
        self._give_ipv6(index, now)
        self.mtu = mtu
        self._configured(mtu)
        # Its route is looked at once the device is seen as it is now.
        self._look_by(now)

    def steer(
        self,
        device: Optional[Interface],
        overlaps: Sequence[Overlap],
        precedence: bool,
        now: float,
    ) -> None:
        """See that packets for the virtual network are led to the device, if it is usable."""
        if self.mtu and device is not None and not self._faults(device, device.mtu):
            aside = [one.own for one in overlaps if one.inside and precedence]
            self._steer(device, aside, now)

    def close(self) -> None:
        """Remove the rules on the way out; routes go with the device."""
        if self._steering is not None and not self._steering.rules:
            return
        try:
            steering.remove_rules(self._settings.network)
        except OSError as error:
            log.warning(
                "the rules for %s stay behind (%s): `ropeway cleanup` removes them",
                self._settings.network,
                error.strerror or error,
            )

    def _faults(self, device: Optional[Interface], mtu: int) -> List[str]:
        settings = self._settings
        if device is None or (device.name, device.kind) != (settings.device_name, "tun"):
            return ["it is gone"]
        faults = []
        if not device.admin_up:
            faults.append("it is down")
        if settings.has_address and settings.device_address not in device.addresses:
            faults.append("it lacks its address")
        if _former_addresses(device, settings):
            faults.append("it has an address of a lease that is over")
        if device.mtu != mtu:
            faults.append(f"its MTU is {device.mtu}, not {mtu}")
        return faults

    def _may_repair(self, faults: str, now: float) -> bool:
        """Say whether it is time to repair the device, and log that; else look again in time."""
        name = self._settings.device_name
        if now < self._repair_at:
            self._look_by(self._repair_at)
            self.device_fault = (
                f"device {name} is repaired within {self._repair_pause_s:.0f} s, because it was"
                f" changed again and again: {faults}"
            )
            self._repeated.warn(self.device_fault, now)
            return False
        calm = now - self._repair_at >= REPAIR_MAX_S
        self._repair_pause_s = RETRY_S if calm else min(2 * self._repair_pause_s, REPAIR_MAX_S)
        self._repair_at = now + self._repair_pause_s
        log.warning("repairing device %s: %s", name, faults)
        return True

    def _steer(self, device: Interface, aside: List[str], now: float) -> None:
        settings, index = self._settings, device.index
        if not settings.has_address:
            self.device_fault = ""
            return
        if device.master:
            # In a routing domain its route is in the table of that.
            return
        self.device_fault = ""
        wanted = steering.wanted(settings.device_address, aside)
        try:
            plain = not aside and self._steering == wanted
            if plain and routes.leads_to(_another_host(settings)) == index:
                return
            found = steering.look(index, settings.network)
            if found != wanted:
                changed = self._steering == wanted
                if changed and not self._may_repair(_what_lacks(found, wanted), now):
                    return
                steering.change(index, settings.device_address, found, wanted)
        except OSError as error:
            self._note_not_steered(error, now)
            return
        self._steering, self.steering_fault = wanted, ""

    def _keep_ipv6(self, device: Interface, now: float) -> None:
        """Put back the IPv6 address of a device and what leads to it."""
        wanted = self._settings.device_address6
        if wanted is None or device.master:
            return
        try:
            there = wanted in device.addresses6
            if there and routes.leads_to(_another_host6(wanted)) == device.index:
                self.ipv6_fault, self._had_ipv6 = "", True
                return
        except OSError as error:
            self._note_no_ipv6(error, now)
            return
        lacking = "it lacks its IPv6 route" if there else "it lacks its IPv6 address"
        if not self._had_ipv6 or self._may_repair(lacking, now):
            self._give_ipv6(device.index, now)

    def _give_ipv6(self, index: int, now: float) -> None:
        """Give the device its IPv6 address and route; without them IPv4 goes on."""
        wanted = self._settings.device_address6
        if wanted is None:
            return
        try:
            kernel_device.add_ipv6(index, wanted)
        except OSError as error:
            self._note_no_ipv6(error, now)

    def _note_no_ipv6(self, error: OSError, now: float) -> None:
        sentence = (
            f"device {self._settings.device_name} cannot have {self._settings.device_address6}"
            f" ({error.strerror or error}): enable IPv6 on this host, or remove network6"
        )
        if sentence != self.ipv6_fault:
            log.warning("%s", sentence)
        self.ipv6_fault = sentence
        self._look_by(now + REPAIR_MAX_S)

    def _note_not_steered(self, error: OSError, now: float) -> None:
        sentence = (
            f"packets for {self._settings.network} cannot be led to {self._settings.device_name}"
            f" ({error.strerror or error})"
        )
        if sentence != self.steering_fault:
            log.warning("%s: trying again", sentence)
        self.steering_fault = sentence
        self._look_by(now + REPAIR_MAX_S)


def _former_addresses(device: Optional[Interface], settings: Settings) -> List[str]:
    """Return the addresses that the device has by leases that are over."""
    if device is None or not settings.lease_network:
        return []
    network = ipaddress.IPv4Network(settings.lease_network)
    return [
        text
        for text in device.addresses
        if text != settings.device_address and ipaddress.ip_interface(text).ip in network
    ]


def _another_host(settings: Settings) -> str:
    """Return an address of the virtual network that is not this host's."""
    hosts = ipaddress.IPv4Network(settings.network).hosts()
    return next(str(host) for host in hosts if str(host) != settings.address)


def _another_host6(device_address6: str) -> str:
    """Return an address of the IPv6 network that is not this host's."""
    own = ipaddress.IPv6Interface(device_address6)
    return str(next(host for host in own.network.hosts() if host != own.ip))


def _what_lacks(found: steering.Steering, wanted: steering.Steering) -> str:
    if (wanted.main and not found.main) or (wanted.first and not found.first):
        return "it lacks its route"
    if wanted.rules - found.rules:
        return "a rule that leads to it is gone"
    return "another way leads to it"
