"""The configuration file: read, checked whole, and turned into plain dataclasses.

Reading goes in three steps that all run before anything is reported: YAML to values with the line
of each, the JSON Schema, and what a schema cannot say. A file has all its errors told at once.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple, Union

from ropeway.core import tuning
from ropeway.core.ipv4 import is_unicast

# jsonschema and yaml are imported where they are used: they outweigh the agent itself in memory,
# and `read_apart` leaves them behind.

DEFAULT_PATH = "/etc/ropeway/ropeway.yaml"
DEFAULT_DEVICE_NAME = "ropeway0"
DEFAULT_CONTROL_PATH = "/run/ropeway/control.sock"
SCHEMA_PATH = Path(__file__).with_name("config.schema.json")
FILE_BYTES_MAX = 1 << 20
RESERVED_DEVICE_NAMES = ("lo", "all", "default")

KeyPath = Tuple[Union[str, int], ...]


@dataclass(frozen=True)
class Remote:
    """One address of another host that this one greets from the start."""

    host: str
    """Its virtual address."""
    address: str
    """A real address of it."""
    index: int
    """Its interface index there; 0 where the file does not say."""


@dataclass(frozen=True)
class Control:
    """Where the control socket stands and who may use it."""

    path: str = DEFAULT_CONTROL_PATH
    owner: Optional[str] = None
    group: Optional[str] = None
    mode: int = 0o660


@dataclass(frozen=True)
class Config:
    """A whole configuration that passed every check."""

    encapsulation: str
    network: str
    address: str
    router: Optional[str]
    forward: bool
    device_name: str
    device_mtu: Optional[int]
    """In bytes; None lets the agent choose."""
    include: Tuple[str, ...]
    exclude: Tuple[str, ...]
    remotes: Tuple[Remote, ...]
    control: Control

    @property
    def device_address(self) -> str:
        """The virtual address with the network's prefix length, "10.0.0.1/24"."""
        return "{}/{}".format(self.address, self.network.split("/")[1])


class ConfigError(Exception):
    """A configuration that does not hold: `errors` has one line for each fault."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)

    def __reduce__(self) -> Tuple[Any, ...]:
        return (ConfigError, (self.errors,))


def read(path: str) -> Config:
    """Read and check the file at `path`. `ConfigError` tells every fault in it."""
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            [f"{path}: the file cannot be read ({error.strerror}): create it or name another one"]
        ) from None
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}: the file is larger than {FILE_BYTES_MAX} bytes"])
    return parse(text, path)


def read_apart(path: str) -> Config:
    """Do as `read` does, but in a child process that takes the parsers' memory with it."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(receiver)
            answer: Union[Config, ConfigError]
            try:
                answer = read(path)
            except ConfigError as error:
                answer = error
            with os.fdopen(sender, "wb") as pipe:
                pickle.dump(answer, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        pickled = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise ConfigError([f"{path}: reading the file failed: try `ropeway check-config`"])
    answer = pickle.loads(pickled)  # noqa: S301 - written by our own child just now
    if isinstance(answer, ConfigError):
        raise answer
    assert isinstance(answer, Config)
    return answer


def parse(text: bytes, name: str) -> Config:
    """Check `text`, the bytes of a configuration file that errors call `name`."""
    faults = _Faults(name)
    data = _values(text, faults)
    if isinstance(data, dict) or not faults.lines:
        _check_schema(data, faults)
    if isinstance(data, dict):
        _check_sense(data, faults)
    faults.raise_if_any()
    return _config(data)


class _Faults:
    """Collects faults and knows the line of every value."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line_of: Dict[KeyPath, int] = {}
        self.lines: List[Tuple[int, str]] = []
        self.paths: Set[KeyPath] = set()

    def add(self, path: KeyPath, sentence: str, line: Optional[int] = None) -> None:
        """Report `sentence` about the value at `path`, or at `line` where that says better."""
        self.paths.add(path)
        if line is None:
            known = path
            while known and known not in self.line_of:
                known = known[:-1]
            line = self.line_of.get(known, 1)
        key = _dotted(path)
        entry = (line, "{}:{}: {}{}".format(self.name, line, key + ": " if key else "", sentence))
        if entry not in self.lines:
            self.lines.append(entry)

    def spoilt(self, path: KeyPath) -> bool:
        """Tell whether the value at `path`, or something in or around it, has a fault already."""
        return any(path[: len(bad)] == bad or bad[: len(path)] == path for bad in self.paths if bad)

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with everything collected, in the order of the file."""
        if self.lines:
            raise ConfigError([line for _, line in sorted(self.lines, key=lambda entry: entry[0])])


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + part
    return text


# --- step 1: YAML to values, with lines


def _values(text: bytes, faults: _Faults) -> Any:
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                faults.add((), "the file is empty: start from the example configuration")
                return None
            return _value(root, (), loader, faults, [])
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        faults.add((), f"this is not YAML: {problem}", line=mark.line + 1 if mark else 1)
    except RecursionError:
        faults.add((), "this is nested too deeply")
    return None


def _value(node: Any, path: KeyPath, loader: Any, faults: _Faults, above: List[Any]) -> Any:
    import yaml

    line = node.start_mark.line + 1
    # An alias stands where its anchor stands; the key's own line, set by the caller, says better.
    faults.line_of.setdefault(path, line)
    if node in above:
        faults.add(path, "this alias contains itself: write the value out")
        return None
    if isinstance(node, yaml.MappingNode):
        values: Dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                faults.add(path, "a key must be a plain word", line=key_line)
                continue
            key = key_node.value
            inner = (*path, key)
            if key in values:
                faults.add(
                    inner,
                    f"this key stands twice, in line {faults.line_of[inner]} too: remove one",
                    line=key_line,
                )
                continue
            faults.line_of[inner] = key_line
            values[key] = _value(value_node, inner, loader, faults, [*above, node])
        return values
    if isinstance(node, yaml.SequenceNode):
        return [
            _value(item, (*path, number), loader, faults, [*above, node])
            for number, item in enumerate(node.value)
        ]
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        faults.add(path, f"the value {node.value!r} cannot be read: put it in quotes")
        return None


# --- step 2: what the schema says


def _check_schema(data: Any, faults: _Faults) -> None:
    import jsonschema

    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    spoilt = set(faults.paths)
    for error in jsonschema.Draft7Validator(schema).iter_errors(data):
        path: KeyPath = tuple(error.absolute_path)
        if path in spoilt and error.validator not in ("additionalProperties", "required"):
            continue
        if error.validator == "additionalProperties":
            known = list(error.schema["properties"])
            for key in error.instance:
                if key not in known:
                    faults.add((*path, key), _unknown(key, known))
        elif error.validator == "required":
            for key in error.validator_value:
                if key not in error.instance:
                    faults.add((*path, key), "this key is missing: add it")
        else:
            faults.add(path, f"write {error.schema['x-expects']}, not {_shown(error.instance)}")


def _unknown(key: str, known: List[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if nearest:
        return f"unknown key: did you mean {nearest[0]}?"
    return "unknown key: remove it; the keys here are {}".format(", ".join(known))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- step 3: what no schema can say


def _check_sense(data: Dict[str, Any], faults: _Faults) -> None:
    network = _network(data, faults)
    own = _address(data.get("address"), ("address",), faults)
    if network and own:
        _check_inside(own, network, ("address",), faults)
    router = _address(data.get("router"), ("router",), faults)
    if router:
        if network:
            _check_inside(router, network, ("router",), faults)
        if router == own:
            faults.add(
                ("router",),
                f"{router} is this host's own address: leave router out on the router itself",
            )
    device = data.get("device")
    if isinstance(device, dict) and device.get("name") in RESERVED_DEVICE_NAMES:
        faults.add(
            ("device", "name"),
            "{} means something else to Linux: choose another name".format(device["name"]),
        )
    control = data.get("control")
    if isinstance(control, dict) and isinstance(control.get("path"), str):
        size = len(os.fsencode(control["path"]))
        if size > 107:
            faults.add(("control", "path"), f"a socket's path has at most 107 bytes, not {size}")
    _check_remotes(data.get("remotes"), network, own, faults)


def _check_remotes(
    remotes: Any,
    network: Optional[ipaddress.IPv4Network],
    own: Optional[ipaddress.IPv4Address],
    faults: _Faults,
) -> None:
    hosts: Dict[ipaddress.IPv4Address, int] = {}
    for number, remote in enumerate(remotes if isinstance(remotes, list) else ()):
        if not isinstance(remote, dict):
            continue
        path: KeyPath = ("remotes", number, "host")
        host = _address(remote.get("host"), path, faults)
        if host:
            if network:
                _check_inside(host, network, path, faults)
            if host == own:
                faults.add(path, f"{host} is this host's own address: remove the entry")
            if host in hosts:
                faults.add(
                    path,
                    f"{host} stands in line {hosts[host]} already: put all its addresses there",
                )
            hosts.setdefault(host, faults.line_of.get(path, 1))
        listed = remote.get("addresses")
        if isinstance(listed, list):
            _check_addresses(listed, ("remotes", number, "addresses"), network, faults)


def _check_addresses(
    listed: List[Any], path: KeyPath, network: Optional[ipaddress.IPv4Network], faults: _Faults
) -> None:
    limit = tuning.MAX_REMOTES_PER_PEER
    if len(listed) > limit:
        faults.add(path, f"a host has at most {limit} addresses, not {len(listed)}: remove some")
        return
    addresses: Dict[ipaddress.IPv4Address, int] = {}
    indices: Dict[int, int] = {}
    for place, item in enumerate(listed):
        where: KeyPath = (*path, place)
        if isinstance(item, dict):
            _check_index(item.get("index"), (*where, "index"), indices, faults)
            where = (*where, "address")
            item = item.get("address")
        address = _address(item, where, faults)
        if address is None:
            continue
        if address in addresses:
            faults.add(where, f"{address} stands in line {addresses[address]} already: remove one")
        addresses.setdefault(address, faults.line_of.get(where, 1))
        if not is_unicast(address.packed):
            faults.add(
                where, f"{address} is no address of another host: write one of its real addresses"
            )
        elif network and address in network:
            faults.add(
                where,
                f"{address} is inside the virtual network {network}: write one of its real"
                " addresses",
            )


def _check_index(index: Any, path: KeyPath, indices: Dict[int, int], faults: _Faults) -> None:
    if not isinstance(index, int) or faults.spoilt(path):
        return
    if index in indices:
        faults.add(
            path,
            f"{index} stands in line {indices[index]} already: an index belongs to one interface"
            " of the host",
        )
    indices.setdefault(index, faults.line_of.get(path, 1))


def _network(data: Dict[str, Any], faults: _Faults) -> Optional[ipaddress.IPv4Network]:
    text = data.get("network")
    if not isinstance(text, str) or faults.spoilt(("network",)):
        return None
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        pass
    else:
        if not is_unicast(network.network_address.packed):
            faults.add(
                ("network",),
                f"{text} is no network of hosts: choose a private one, such as 10.0.0.0/24",
            )
        return network
    try:
        meant = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        faults.add(("network",), f"{text!r} is no IPv4 network")
        return None
    faults.add(("network",), f"{text} has host bits set: write {meant}")
    return meant


def _address(value: Any, path: KeyPath, faults: _Faults) -> Optional[ipaddress.IPv4Address]:
    """Return the address, or None where it is absent or has been reported already."""
    if not isinstance(value, str) or faults.spoilt(path):
        return None
    try:
        return ipaddress.IPv4Address(value)
    except ValueError:
        faults.add(path, f"{value!r} is no IPv4 address")
        return None


def _check_inside(
    address: ipaddress.IPv4Address,
    network: ipaddress.IPv4Network,
    path: KeyPath,
    faults: _Faults,
) -> None:
    if address not in network:
        faults.add(path, f"{address} is outside the network {network}: choose an address inside it")
    elif address in (network.network_address, network.broadcast_address):
        which = "network" if address == network.network_address else "broadcast"
        faults.add(path, f"{address} is the {which} address of {network}: choose another one")


def _config(data: Dict[str, Any]) -> Config:
    device = data.get("device", {})
    interfaces = data.get("interfaces", {})
    control = data.get("control", {})
    mtu = device.get("mtu", "auto")
    remotes = []
    for remote in data.get("remotes", ()):
        for item in remote["addresses"]:
            if isinstance(item, str):
                item = {"address": item}
            remotes.append(Remote(remote["host"], item["address"], item.get("index", 0)))
    return Config(
        encapsulation=data["encapsulation"],
        network=data["network"],
        address=data["address"],
        router=data.get("router"),
        forward=data.get("forward", False),
        device_name=device.get("name", DEFAULT_DEVICE_NAME),
        device_mtu=None if mtu == "auto" else mtu,
        include=tuple(interfaces.get("include", ("*",))),
        exclude=tuple(interfaces.get("exclude", ())),
        remotes=tuple(remotes),
        control=Control(
            path=control.get("path", DEFAULT_CONTROL_PATH),
            owner=control.get("owner"),
            group=control.get("group"),
            mode=int(control.get("mode", "0660"), 8),
        ),
    )
