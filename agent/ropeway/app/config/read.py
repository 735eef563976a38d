"""The configuration file: read, checked whole, and turned into plain dataclasses.

Reading goes in three steps that all run before anything is reported: YAML to values with the line
of each, the JSON Schema, and what a schema cannot say. A file has all its errors told at once.
"""

from __future__ import annotations

import ipaddress
import pwd
from typing import Any, Dict, Iterator, List, Optional

from ropeway.app.config.budgets import bytes_of
from ropeway.app.config.checks import check_sense, port_of
from ropeway.app.config.classes import classes_of
from ropeway.app.config.endpoints import LEASE, endpoint
from ropeway.app.config.leases import leases_of
from ropeway.app.config.lines import Faults, values
from ropeway.app.config.model import (
    DEFAULT_CONTROL_PATH,
    DEFAULT_DEVICE_NAME,
    DEFAULT_EXCLUDE,
    DEFAULT_MAX_AGE_S,
    DEFAULT_PRIVATE_KEY_PATH,
    DEFAULT_ROLLOVER_S,
    LAST,
    NO_PSK,
    SECURE,
    Budget,
    Config,
    Control,
    Peer,
    Remote,
)
from ropeway.app.config.names import named_endpoint
from ropeway.app.config.on_host import check_host
from ropeway.app.config.schema import check_schema
from ropeway.app.config.secrets import Secrets, read_secrets
from ropeway.app.errors import ConfigError
from ropeway.app.store import keys
from ropeway.core.settings import UNASSIGNED

FILE_BYTES_MAX = 1 << 20


def read(path: str, with_keys: bool = True, reader: Optional[pwd.struct_passwd] = None) -> Config:
    """Read and check the file at `path`, and what it names on this host unless told not to.

    That is files of keys, users, groups, the socket and the device. Where `reader` is given, that
    user has to be able to read the keys. `ConfigError` tells every fault.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            [f"{path}: the file cannot be read ({error.strerror}): create it or name another one"]
        ) from None
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}: the file is larger than {FILE_BYTES_MAX} bytes"])
    return parse(text, path, with_keys, reader)


def private_key_path(path: str) -> str:
    """Return where the configuration at `path` says that the private key stands.

    Nothing else in the file is looked at. `ConfigError` where it cannot be told.
    """
    from ropeway.app.config import bounded_yaml

    try:
        with open(path, "rb") as file:
            data = bounded_yaml.load(file.read(FILE_BYTES_MAX))
        found = data.get("private_key_file", DEFAULT_PRIVATE_KEY_PATH)
    except (OSError, *bounded_yaml.UNREADABLE):
        found = None
    if not isinstance(found, str) or not found.startswith("/"):
        raise ConfigError([f"{path} does not say where the private key stands: use --file"])
    return found


def parse(
    text: bytes,
    name: str,
    with_keys: bool = False,
    reader: Optional[pwd.struct_passwd] = None,
) -> Config:
    """Check `text`, the bytes of a configuration file that errors call `name`.

    The files of keys that it names are read, and what else it names on this host is looked at,
    only `with_keys`; `reader` is as for `read`.
    """
    faults = Faults(name)
    data = values(text, faults)
    if isinstance(data, dict) or not faults.found:
        check_schema(data, faults)
    secrets = Secrets()
    if isinstance(data, dict):
        check_sense(data, faults)
        if with_keys:
            check_host(data, faults)
        if with_keys and data.get("encapsulation", SECURE) == SECURE:
            secrets = read_secrets(data, faults, reader)
    faults.raise_if_any()
    return _config(data, secrets)


def _config(data: Dict[str, Any], secrets: Secrets) -> Config:
    device = data.get("device", {})
    interfaces = data.get("interfaces", {})
    control = data.get("control", {})
    mtu = device.get("mtu", "auto")
    latency_us = data.get("cpu_latency_us")
    encapsulation = data.get("encapsulation", SECURE)
    secure = encapsulation == SECURE
    listed = data.get("peers", ())
    tenants = [peer for peer in listed if peer["host"] == LEASE]
    listed = [peer for peer in listed if peer["host"] != LEASE]
    links = data.get("links", {})
    return Config(
        encapsulation=encapsulation,
        network=data["network"],
        network6=_network6(data.get("network6")),
        address=UNASSIGNED if data["address"] == LEASE else data["address"],
        routers=tuple(data.get("routers", [data["router"]] if "router" in data else [])),
        forward=data.get("forward", False),
        device_name=device.get("name", DEFAULT_DEVICE_NAME),
        # To the schema 1400.0 is a whole number too.
        device_mtu=None if mtu == "auto" else int(mtu),
        precedence=device.get("precedence", True),
        include=tuple(interfaces.get("include", ("*",))),
        exclude=tuple(interfaces.get("exclude", DEFAULT_EXCLUDE)),
        named_addresses=tuple(
            str(ipaddress.ip_address(text)) for text in interfaces.get("addresses", ())
        ),
        max_age_s=float(data.get("max_age_s", DEFAULT_MAX_AGE_S)),
        cpu_latency_us=None if latency_us is None else int(latency_us),
        remotes=() if secure else tuple(_remotes(listed)),
        peers=tuple(_peer(peer, port_of(data), secrets) for peer in listed) if secure else (),
        tenants=tuple(_peer(peer, port_of(data), secrets) for peer in tenants),
        leases=leases_of(data),
        announce=tuple(data.get("announce", ())),
        budgets=tuple(
            (name, _budget(link["budget"])) for name, link in links.items() if "budget" in link
        ),
        costs=tuple((name, int(link["cost"])) for name, link in links.items() if "cost" in link),
        metered=tuple((name, link["metered"]) for name, link in links.items() if "metered" in link),
        classes=classes_of(data.get("classes", [])),
        copy_dscp=data.get("copy_dscp", False),
        direct=data.get("direct", False),
        port=port_of(data),
        rollover_s=float(data.get("rollover_s", DEFAULT_ROLLOVER_S)),
        private_key_file=data.get("private_key_file", DEFAULT_PRIVATE_KEY_PATH),
        private_key=secrets.private,
        offload_disable=frozenset(data.get("offload", {}).get("disable", ())),
        control=Control(
            path=control.get("path", DEFAULT_CONTROL_PATH),
            owner=control.get("owner"),
            group=control.get("group"),
            mode=int(control.get("mode", "0660"), 8),
        ),
    )


def _network6(text: Optional[str]) -> Optional[str]:
    return None if text is None else str(ipaddress.IPv6Network(text))


def _budget(budget: Dict[str, Any]) -> Budget:
    return Budget(
        bytes=bytes_of(budget["bytes"]),
        per=budget["per"],
        reset_day=int(budget.get("reset_day", 1)),
        then=budget.get("then", LAST),
    )


def _remotes(listed: List[Dict[str, Any]]) -> Iterator[Remote]:
    for peer in listed:
        for item in peer["addresses"]:
            if isinstance(item, str):
                item = {"address": item}
            yield Remote(peer["host"], item["address"], int(item.get("index", 0)))


def _peer(peer: Dict[str, Any], default_port: int, secrets: Secrets) -> Peer:
    named = [peer[key] for key in ("public_key", "next_public_key") if key in peer]
    psk_file = peer.get("psk_file")
    listed = peer.get("addresses", ())
    names = [named_endpoint(text, default_port) for text in listed]
    return Peer(
        host=peer["host"],
        public_keys=tuple(keys.decode(text) for text in named),
        endpoints=tuple(
            endpoint(text, default_port) for text, name in zip(listed, names) if name is None
        ),
        names=tuple(name for name in names if name is not None),
        allowed=tuple(peer.get("allowed", ())),
        psk_file=psk_file,
        direct=peer.get("direct", True),
        psk=NO_PSK if psk_file is None else secrets.psks.get(psk_file, NO_PSK),
    )
