"""Variables of a host that hold one value or a list of plain ones."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Iterator

from ..constants import DEFAULT_ENCAPSULATION, DEVICE_PREFIX, INTERFACE_NAME_MAX_BYTES, MTU_RANGE
from ..values import whole_number
from ..wording import shown

PORT_RANGE = range(1, 65536)
ROLLOVER_RANGE_S = range(2, 3601)
MAX_AGE_MIN_S = 0.1
MAX_AGE_MAX_S = 60.0
CPU_LATENCY_RANGE_US = range(1_000_001)
OFFLOAD_FEATURES = ("vnet_hdr", "tso", "uso", "udp_segment", "udp_gro")
PSK_BYTES = 32


def device_problems(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of ropeway_device_name and ropeway_device_mtu."""
    device = variables.get("ropeway_device_name")
    if device is not None:
        text = str(device)
        if (
            not text.startswith(DEVICE_PREFIX)
            or len(text.encode()) > INTERFACE_NAME_MAX_BYTES
            or any(c.isspace() or c in "/:*?[" for c in text)
        ):
            yield (
                f"{name}: ropeway_device_name {text!r} does not fit: let it begin with "
                f"{DEVICE_PREFIX}, which systemd-networkd leaves alone, and use at most "
                f"{INTERFACE_NAME_MAX_BYTES} bytes without space, slash, colon, *, ? or [."
            )
    mtu = variables.get("ropeway_device_mtu")
    if mtu is None or mtu == "auto":
        return
    if whole_number(mtu) not in MTU_RANGE:
        yield (
            f"{name}: ropeway_device_mtu {shown(mtu)} does not fit: use auto, or "
            f"{MTU_RANGE.start} to {MTU_RANGE.stop - 1}."
        )


def secure_problems(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of the variables that only a secure network uses."""
    for key, allowed in (("ropeway_port", PORT_RANGE), ("ropeway_rollover_s", ROLLOVER_RANGE_S)):
        value = variables.get(key)
        if value is not None and whole_number(value) not in allowed:
            yield (
                f"{name}: {key} {shown(value)} does not fit: use {allowed.start} to "
                f"{allowed.stop - 1}."
            )
    psk = variables.get("ropeway_psk")
    if psk and not _is_key(psk):
        yield (
            f"{name}: ropeway_psk is not the base64 text of {PSK_BYTES} bytes: take what "
            f"`openssl rand -base64 {PSK_BYTES}` prints."
        )
    yield from _offload_problems(name, variables.get("ropeway_offload_disable"))
    raw = variables.get("ropeway_endpoints")
    if raw is None:
        return
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence):
        yield f"{name}: ropeway_endpoints is no list: write items such as 203.0.113.7:51840."
        return
    for item in raw:
        if not _is_endpoint(str(item)):
            yield (
                f"{name}: {shown(item)} in ropeway_endpoints is no address with or without a "
                'port: write it such as 203.0.113.7, 203.0.113.7:51840, or "[2001:db8::7]:51840".'
            )


def _offload_problems(name: str, raw: Any) -> Iterator[str]:
    if raw is None:
        return
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence):
        yield f"{name}: ropeway_offload_disable is no list: write one such as [udp_segment]."
        return
    for item in raw:
        if item not in OFFLOAD_FEATURES:
            yield (
                f"{name}: {shown(item)} in ropeway_offload_disable is no feature: use some of "
                f"{', '.join(OFFLOAD_FEATURES)}."
            )


def max_age_problems(where: str, key: str, raw: Any) -> Iterator[str]:
    """Yield a problem if ``raw`` is no bound for the age of packets."""
    if raw is None:
        return
    try:
        # A truth value is a number to float().
        seconds = float("nan") if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError):
        seconds = float("nan")
    if seconds != 0 and not MAX_AGE_MIN_S <= seconds <= MAX_AGE_MAX_S:
        yield (
            f"{where}: {key} {raw!r} does not fit: use seconds from {MAX_AGE_MIN_S:g} to "
            f"{MAX_AGE_MAX_S:g} without a unit, or 0 for no bound."
        )


def cpu_latency_problems(where: str, key: str, raw: Any) -> Iterator[str]:
    """Yield a problem if ``raw`` is no bound for the wake-up time of processors."""
    allowed = CPU_LATENCY_RANGE_US
    if raw is not None and whole_number(raw) not in allowed:
        yield (
            f"{where}: {key} {raw!r} does not fit: use microseconds from {allowed.start} to "
            f"{allowed.stop - 1} without a unit, or leave it out."
        )


def is_secure(variables: Mapping[str, Any]) -> bool:
    """Return whether the main network of a host is secure."""
    given = variables.get("ropeway_encapsulation")
    return str(DEFAULT_ENCAPSULATION if given is None else given) == "secure"


def _is_key(text: Any) -> bool:
    try:
        return len(base64.b64decode(str(text), validate=True)) == PSK_BYTES
    except (binascii.Error, ValueError):
        return False


def _is_endpoint(text: str) -> bool:
    match = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?|(.+)", text)
    if match is None:
        return False
    bracketed, plain, bare = match[1], match[3], match[5]
    try:
        if plain is not None:
            ipaddress.IPv4Address(plain)
        else:
            ipaddress.IPv6Address(bracketed if bracketed is not None else bare)
    except ValueError:
        return False
    port = match[2] or match[4]
    return port is None or int(port) in PORT_RANGE
