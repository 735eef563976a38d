"""Simple settings of a host: ports, times, sizes, offloads, endpoints, the pre-shared key."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Iterator

from ..constants import DEFAULT_ENCAPSULATION, DEVICE_PREFIX, INTERFACE_NAME_MAX_BYTES, MTU_RANGE
from ..values import is_list, is_on, whole_number
from ..wording import shown

# The ranges that the agent accepts (config.schema.json).
PORT_RANGE = range(1, 65536)
ROLLOVER_RANGE_S = range(2, 3601)
MAX_AGE_MIN_S = 0.1
MAX_AGE_MAX_S = 60.0
CPU_LATENCY_RANGE_US = range(1_000_001)
OFFLOAD_FEATURES = ("vnet_hdr", "tso", "uso", "udp_segment", "udp_gro")
PSK_BYTES = 32
IPV6_MTU_MIN = 1280
# What Ansible takes for a boolean, in lower case.
FALSE_WORDS = ("false", "no", "off", "0")
# The names that the agent accepts (app/config/names.py): RFC 1123 labels, the last of which begins
# with a letter.
_LABEL_END = r"(?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
NAME = re.compile(rf"(?:[A-Za-z0-9]{_LABEL_END}\.)*[A-Za-z]{_LABEL_END}")
NAME_MAX_CHARACTERS = 253


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
                f"{name}: ropeway_device_name {text!r} is not valid: use a name that "
                f"begins with {DEVICE_PREFIX}, which systemd-networkd ignores, and has at most "
                f"{INTERFACE_NAME_MAX_BYTES} bytes without space, slash, colon, *, ? or [."
            )
    mtu = variables.get("ropeway_device_mtu")
    if mtu is None or mtu == "auto":
        return
    if whole_number(mtu) not in MTU_RANGE:
        yield (
            f"{name}: ropeway_device_mtu {shown(mtu)} is not valid: use auto, or "
            f"{MTU_RANGE.start} to {MTU_RANGE.stop - 1}."
        )


def secure_problems(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of the variables that only secure networks use."""
    for key, allowed in (("ropeway_port", PORT_RANGE), ("ropeway_rollover_s", ROLLOVER_RANGE_S)):
        value = variables.get(key)
        if value is not None and whole_number(value) not in allowed:
            yield (
                f"{name}: {key} {shown(value)} is not valid: use {allowed.start} to "
                f"{allowed.stop - 1}."
            )
    psk = variables.get("ropeway_psk")
    if psk and not _is_key(psk):
        yield (
            f"{name}: ropeway_psk is not the base64 text of {PSK_BYTES} bytes: use the output "
            f"of `openssl rand -base64 {PSK_BYTES}`."
        )
    yield from _offload_problems(name, variables.get("ropeway_offload_disable"))
    raw = variables.get("ropeway_endpoints")
    if raw is None:
        return
    if not is_list(raw):
        yield f"{name}: ropeway_endpoints is not a list: list addresses such as 203.0.113.7:51840."
        return
    for item in raw:
        if not _is_endpoint(str(item)):
            yield (
                f"{name}: {shown(item)} in ropeway_endpoints is not an address or a name, alone or "
                "with a port: use a value such as 203.0.113.7, 203.0.113.7:51840, "
                '"[2001:db8::7]:51840", or router.example.net:51840.'
            )


def _offload_problems(name: str, raw: Any) -> Iterator[str]:
    if raw is None:
        return
    if not is_list(raw):
        yield f"{name}: ropeway_offload_disable is not a list: use a list such as [udp_segment]."
        return
    for item in raw:
        if item not in OFFLOAD_FEATURES:
            yield (
                f"{name}: {shown(item)} in ropeway_offload_disable is not an offload: use some of "
                f"{', '.join(OFFLOAD_FEATURES)}."
            )


def max_age_problems(where: str, key: str, raw: Any) -> Iterator[str]:
    """Yield a problem if ``raw`` is not a valid limit for the age of packets, in seconds."""
    if raw is None:
        return
    try:
        # float() would accept a bool.
        seconds = float("nan") if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError):
        seconds = float("nan")
    if seconds != 0 and not MAX_AGE_MIN_S <= seconds <= MAX_AGE_MAX_S:
        yield (
            f"{where}: {key} {raw!r} is not valid: use seconds from {MAX_AGE_MIN_S:g} to "
            f"{MAX_AGE_MAX_S:g} without a unit, or 0 for no limit."
        )


def switch_problems(where: str, key: str, raw: Any, secure: bool) -> Iterator[str]:
    """Yield the problems of ``raw``, which turns something on or off that ``secure`` alone has."""
    word = str(raw).lower()
    if raw is None or word in FALSE_WORDS:
        return
    if not is_on(raw):
        yield f"{where}: {key} {shown(raw)} is not valid: use true or false."
    elif not secure:
        yield f"{where}: {key} is only for secure networks: remove it."


def network6_problems(where: str, key: str, settings: Sequence[Any], secure: bool) -> Iterator[str]:
    """Yield what of ``settings``, an IPv6 network and the device's MTU, does not go together.

    Only ``secure`` networks carry IPv6, which needs an MTU of 1280.
    """
    network6, mtu = settings
    if not network6:
        return
    if not secure:
        yield f"{where}: {key} is only for secure networks: remove it."
    number = whole_number(mtu)
    if 0 <= number < IPV6_MTU_MIN:
        yield (
            f"{where}: {key} needs an MTU of {IPV6_MTU_MIN} bytes or more: use auto, not {number}."
        )


def cpu_latency_problems(where: str, key: str, raw: Any) -> Iterator[str]:
    """Yield a problem if ``raw`` is not a valid wake-up latency of processors, in microseconds."""
    allowed = CPU_LATENCY_RANGE_US
    if raw is not None and whole_number(raw) not in allowed:
        yield (
            f"{where}: {key} {raw!r} is not valid: use microseconds from {allowed.start} to "
            f"{allowed.stop - 1} without a unit, or remove it."
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


def _is_name(text: str) -> bool:
    return len(text) <= NAME_MAX_CHARACTERS and NAME.fullmatch(text) is not None


def _is_endpoint(text: str) -> bool:
    match = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?|(.+)", text)
    if match is None:
        return False
    bracketed, plain, bare = match[1], match[3], match[5]
    try:
        if plain is not None:
            if not _is_name(plain):
                ipaddress.IPv4Address(plain)
        else:
            ipaddress.IPv6Address(bracketed if bracketed is not None else bare)
    except ValueError:
        return False
    port = match[2] or match[4]
    return port is None or int(port) in PORT_RANGE
