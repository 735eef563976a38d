"""The configuration file: read, checked whole, and turned into plain dataclasses.

Reading goes in three steps that all run before anything is reported: YAML to values with the line
of each, the JSON Schema, and what a schema cannot say. A file has all its errors told at once.
"""

from __future__ import annotations

import contextlib
import difflib
import grp
import ipaddress
import json
import os
import pickle
import pwd
import re
import signal
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Set, Tuple, Union

from ropeway.app.errors import ConfigError
from ropeway.app.store import keys
from ropeway.core import tuning
from ropeway.core.endpoint import Endpoint
from ropeway.core.packet.ipv4 import is_unicast

# jsonschema and yaml are imported where they are used: they outweigh the agent itself in memory,
# and `read_apart` leaves them behind.

DEFAULT_PATH = "/etc/ropeway/ropeway.yaml"
DEFAULT_DEVICE_NAME = "ropeway0"
DEFAULT_CONTROL_PATH = "/run/ropeway/control.sock"
SCHEMA_PATH = Path(__file__).with_name("config.schema.json")
INTERFACES_DIRECTORY = "/sys/class/net"
FILE_BYTES_MAX = 1 << 20
FAULTS_MAX = 100
"""More are not looked for: each is compared with the others."""
RESERVED_DEVICE_NAMES = ("lo", "all", "default")
SECURE = "secure"
CLASSIC = "classic"
DEFAULT_EXCLUDE = (
    *("docker*", "br-*", "veth*", "virbr*", "lxc*", "cni*", "flannel*", "cali*"),
    *("tailscale*", "zt*", "wg*", "tun*"),
)
"""What containers and virtual machines are plugged into leads to no other host, and a VPN may lead
through the virtual network."""
DEFAULT_PORT = 51840
DEFAULT_PRIVATE_KEY_PATH = "/etc/ropeway/private.key"
DEFAULT_ROLLOVER_S = 120.0
DEFAULT_MAX_AGE_S = 1.0
MAX_AGE_MIN_S = 0.1
"""A turn of a busy loop on a small board takes some hundredths of a second."""
SECURE_KEYS = ("port", "private_key_file", "rollover_s", "offload")
SECURE_PEER_KEYS = ("public_key", "next_public_key", "psk_file")
NO_PSK = bytes(keys.KEY_BYTES)
"""What stands for a pre-shared key where there is none."""

READING_MAX_S = 30
"""A child that reads the file ends after that, whatever becomes of its parent."""

_PIPE_BYTES = 65536
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)

KeyPath = Tuple[Union[str, int], ...]


@dataclass(frozen=True)
class Peer:
    """Another host of a secure network."""

    host: str
    """Its virtual address."""
    public_keys: Tuple[bytes, ...]
    """Its public key and, while that is being changed, the next one."""
    endpoints: Tuple[Endpoint, ...] = ()
    """Where to greet it from the start."""
    psk_file: Optional[str] = None
    psk: bytes = field(default=NO_PSK, repr=False)


@dataclass(frozen=True)
class Remote:
    """One address of another host that this one greets from the start, on a classic network."""

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
    control: Control
    named_addresses: Tuple[str, ...] = ()
    """Addresses that every link sends from and receives at, wherever they live; secure only."""
    max_age_s: float = DEFAULT_MAX_AGE_S
    """How long a packet may wait on this host; 0 for no bound."""
    cpu_latency_us: Optional[int] = None
    """How soon processors have to wake while packets pass; None leaves them alone."""
    precedence: bool = True
    """Whether the virtual network goes before an interface's own where they overlap."""
    remotes: Tuple[Remote, ...] = ()
    """classic only."""
    peers: Tuple[Peer, ...] = ()
    """secure only, as all that follows."""
    port: int = DEFAULT_PORT
    rollover_s: float = DEFAULT_ROLLOVER_S
    private_key_file: str = DEFAULT_PRIVATE_KEY_PATH
    private_key: bytes = field(default=b"", repr=False)
    """Empty where the files of keys were not to be read."""
    offload_disable: FrozenSet[str] = frozenset()
    """Features of the kernel that are not to be used: vnet_hdr, tso, uso, udp_segment, udp_gro."""

    @property
    def device_address(self) -> str:
        """The virtual address with the network's prefix length, "10.0.0.1/24"."""
        return "{}/{}".format(self.address, self.network.split("/")[1])


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


class Reading:
    """Reads and checks a file as `read` does, in a child that takes the parsers' memory with it.

    The descriptor becomes readable, in epoll's sense, when there is something to `take`. The child
    holds no other descriptor of its parent, ends on the signals that end a program, and by itself
    after `READING_MAX_S`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._pickled = b""
        receiver, sender = os.pipe()
        # What reaches the child before it has its own handlers must not run those of the parent.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING_SIGNALS)
        try:
            self._child = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(receiver)
            os.close(sender)
            raise
        if self._child == 0:
            status = 1
            try:
                _stand_alone(sender)
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
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(sender)
        self._pipe = receiver

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._pipe

    def take(self) -> bool:
        """Take what the child has written by now; True if that was the last of it."""
        more = os.read(self._pipe, _PIPE_BYTES)
        self._pickled += more
        return not more

    def result(self) -> Config:
        """Return what `read` would have, after `take` gave True; `ConfigError` as it would."""
        os.close(self._pipe)
        _, status = os.waitpid(self._child, 0)
        if status != 0:
            raise ConfigError([f"{self.path}: reading the file failed: try `ropeway check-config`"])
        answer = pickle.loads(self._pickled)  # noqa: S301 - written by our own child just now
        if isinstance(answer, ConfigError):
            raise answer
        assert isinstance(answer, Config)
        return answer

    def give_up(self) -> None:
        """End the child, whatever it does."""
        os.close(self._pipe)
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)


def _stand_alone(kept: int) -> None:
    """Leave this process, a child just forked, nothing of its parent but `kept` and 0 to 2."""
    signal.set_wakeup_fd(-1)
    for number in _ENDING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING_SIGNALS)
    # Its parent may die without giving it up.
    signal.alarm(READING_MAX_S)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):  # the one that listed them is closed already
                os.close(int(name))


def read_apart(path: str) -> Config:
    """Do as `read` does, but in a child process that takes the parsers' memory with it."""
    reading = Reading(path)
    while not reading.take():
        pass
    return reading.result()


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
    faults = _Faults(name)
    data = _values(text, faults)
    if isinstance(data, dict) or not faults.lines:
        _check_schema(data, faults)
    secrets = _Secrets()
    if isinstance(data, dict):
        _check_sense(data, faults)
        if with_keys:
            _check_host(data, faults)
        if with_keys and data.get("encapsulation", SECURE) == SECURE:
            secrets = _read_secrets(data, faults, reader)
    faults.raise_if_any()
    return _config(data, secrets)


def what_differs(before: Config, after: Config) -> List[str]:
    """Return the keys of the file in which the two differ, those of hosts and keys left out."""
    names = {
        "encapsulation": "encapsulation",
        "network": "network",
        "address": "address",
        "router": "router",
        "forward": "forward",
        "device_name": "device.name",
        "device_mtu": "device.mtu",
        "precedence": "device.precedence",
        "include": "interfaces.include",
        "exclude": "interfaces.exclude",
        "named_addresses": "interfaces.addresses",
        "control": "control",
        "max_age_s": "max_age_s",
        "cpu_latency_us": "cpu_latency_us",
        "port": "port",
        "rollover_s": "rollover_s",
        "offload_disable": "offload.disable",
    }
    return [key for name, key in names.items() if getattr(before, name) != getattr(after, name)]


class _Faults:
    """Collects faults and knows the line of every value."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line_of: Dict[KeyPath, int] = {}
        self.lines: List[Tuple[int, str]] = []
        self.paths: Set[KeyPath] = set()

    def add(self, path: KeyPath, sentence: str, line: Optional[int] = None) -> None:
        """Report `sentence` about the value at `path`, or at `line` where that says better.

        `ConfigError` once there are `FAULTS_MAX`.
        """
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
        if len(self.lines) >= FAULTS_MAX:
            self.raise_if_any()

    def spoilt(self, path: KeyPath) -> bool:
        """Tell whether the value at `path`, or something in or around it, has a fault already."""
        return any(path[: len(bad)] == bad or bad[: len(path)] == path for bad in self.paths if bad)

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with everything collected, in the order of the file."""
        told = [line for _, line in sorted(self.lines, key=lambda entry: entry[0])]
        if len(told) >= FAULTS_MAX:
            told.append(f"{self.name}: there may be more: mend these first")
        if told:
            raise ConfigError(told)


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + part
    return text


# --- step 1: YAML to values, with lines


_BARE_BRACKETS = re.compile(rb"""(?<!["'])\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]:[0-9]""")


def _values(text: bytes, faults: _Faults) -> Any:
    from ropeway.app.config import bounded_yaml

    try:
        loader = bounded_yaml.Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                faults.add((), "the file is empty: start from the example configuration")
                return None
            return _value(root, (), loader, faults, [])
        finally:
            loader.dispose()
    except bounded_yaml.UNREADABLE as error:
        line, sentence = bounded_yaml.fault(error)
        line = line or 1
        if _BARE_BRACKETS.search(b"".join(text.splitlines()[line - 1 : line])):
            sentence += ": put an address in brackets into quotes"
        faults.add((), sentence, line=line)
    return None


def _value(node: Any, path: KeyPath, loader: Any, faults: _Faults, above: List[Any]) -> Any:
    import yaml

    from ropeway.app.config import bounded_yaml

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
                # [2001:db8::3]:51840 without quotes is a mapping whose key is a list.
                sentence = (
                    "put an address in brackets into quotes"
                    if isinstance(key_node, yaml.SequenceNode)
                    else "the name of a setting must be a plain word"
                )
                faults.add(path, sentence, line=key_line)
                continue
            key = key_node.value
            inner = (*path, key)
            if key in values:
                faults.add(
                    inner,
                    f"this setting stands twice, in line {faults.line_of[inner]} too: remove one",
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
        value = loader.construct_object(node)
        if isinstance(value, (int, float)) and ":" in node.value and "addresses" in path:
            # To YAML 1.1, 2001:2:3:4:5:6:7:8 is a number to the base of 60.
            faults.add(path, f"{node.value} is a number to YAML: put the address into quotes")
        return value
    except bounded_yaml.UNREADABLE:
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
                    faults.add((*path, key), _unknown(path, key, known))
        elif error.validator == "required":
            for key in error.validator_value:
                if key not in error.instance:
                    faults.add((*path, key), "this setting is missing: add it")
        else:
            sentence = "write {}".format(error.schema["x-expects"])
            if not error.schema.get("x-secret"):
                # Where a key belongs or its file, the wrong key may stand.
                sentence += ", not " + _shown(error.instance)
            faults.add(path, sentence)


def _unknown(path: KeyPath, key: str, known: List[str]) -> str:
    if not path and key == "remotes":
        return "this setting is called peers now: rename it"
    if path[:1] == ("peers",) and len(path) == 2 and key in SECURE_PEER_KEYS:
        return "only the encapsulation secure has keys: remove it"
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if nearest:
        return f"unknown setting: did you mean {nearest[0]}?"
    return "unknown setting: remove it; the settings here are {}".format(", ".join(known))


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
    if not text.isprintable():
        text = repr(text)
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
        size = len(control["path"].encode("utf-8", "replace"))
        if size > 107:
            faults.add(("control", "path"), f"a socket's path has at most 107 bytes, not {size}")
    rollover_s = data.get("rollover_s")
    if isinstance(rollover_s, float) and rollover_s != rollover_s:
        faults.add(("rollover_s",), "write a number of seconds from 2 to 3600, not nan")
    max_age_s = data.get("max_age_s")
    if isinstance(max_age_s, float) and not (max_age_s <= 0 or max_age_s >= MAX_AGE_MIN_S):
        faults.add(
            ("max_age_s",),
            f"write a number of seconds from 0.1 to 60, or 0 for no bound, not {max_age_s:g}",
        )
    _check_peers(data, network, own, router, faults)
    _check_named_addresses(data, network, faults)


def _check_named_addresses(
    data: Dict[str, Any], network: Optional[ipaddress.IPv4Network], faults: _Faults
) -> None:
    interfaces = data.get("interfaces")
    where: KeyPath = ("interfaces", "addresses")
    named = interfaces.get("addresses") if isinstance(interfaces, dict) else None
    if not isinstance(named, list):
        return
    if data.get("encapsulation") == CLASSIC:
        faults.add(where, "only the encapsulation secure has this setting: remove it")
        return
    called = _called(data.get("peers"), _port(data))
    lines: Dict[str, int] = {}
    for place, item in enumerate(named):
        path: KeyPath = (*where, place)
        if not isinstance(item, str) or faults.spoilt(path):
            continue
        address = _ip_address(item)
        if address is None or "%" in item:
            faults.add(
                path,
                f"{_shown(item)!r} is no IPv4 or IPv6 address: write one without port or prefix"
                " length, such as 203.0.113.7",
            )
            continue
        text = str(address)
        if not _is_global(address):
            faults.add(path, f"{text} reaches no other host: write an address that others send to")
        elif network and address in network:
            faults.add(
                path, f"{text} is an address of the virtual network {network}: write a real one"
            )
        elif text in lines:
            faults.add(path, f"{text} stands in line {lines[text]} already: remove one")
        elif text in called:
            faults.add(
                path, f"{text} is an address of {called[text]} too: write it for one host only"
            )
        lines.setdefault(text, faults.line_of.get(path, 1))


def _called(peers: Any, default_port: int) -> Dict[str, Any]:
    """Return the real addresses of other hosts, as far as they are good, with the host of each."""
    found: Dict[str, Any] = {}
    for peer in peers if isinstance(peers, list) else ():
        listed = peer.get("addresses") if isinstance(peer, dict) else None
        for item in listed if isinstance(listed, list) else ():
            with contextlib.suppress(ValueError):
                if isinstance(item, str):
                    found[endpoint(item, default_port)[0]] = peer.get("host")
    return found


def _check_peers(
    data: Dict[str, Any],
    network: Optional[ipaddress.IPv4Network],
    own: Optional[ipaddress.IPv4Address],
    router: Optional[ipaddress.IPv4Address],
    faults: _Faults,
) -> None:
    secure = data.get("encapsulation", SECURE) == SECURE
    if data.get("encapsulation") == CLASSIC:
        for key in SECURE_KEYS:
            if key in data:
                faults.add((key,), "only the encapsulation secure has this setting: remove it")
    peers = data.get("peers", [])
    hosts: Dict[ipaddress.IPv4Address, int] = {}
    virtual = _virtual_addresses(peers, own)
    public_keys: Dict[bytes, Tuple[int, Any]] = {}
    for number, peer in enumerate(peers if isinstance(peers, list) else ()):
        if not isinstance(peer, dict):
            continue
        path: KeyPath = ("peers", number, "host")
        host = _address(peer.get("host"), path, faults)
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
        listed = peer.get("addresses")
        where: KeyPath = ("peers", number, "addresses")
        if secure:
            _check_public_keys(peer, number, public_keys, faults)
            if isinstance(listed, list):
                _check_endpoints(listed, where, _port(data), virtual, faults)
        elif isinstance(listed, list):
            _check_addresses(listed, where, virtual, faults)
    if secure and router and router not in hosts and not faults.spoilt(("peers",)):
        faults.add(
            ("router",),
            f"{router} is not among the peers: add it there with its public key, because without"
            " it nothing can be sent to the router",
        )


def _virtual_addresses(peers: Any, own: Optional[ipaddress.IPv4Address]) -> Set[str]:
    """Return the virtual addresses of all hosts: none of them is a real one."""
    listed = [peer for peer in peers if isinstance(peer, dict)] if isinstance(peers, list) else []
    hosts = {host for host in (peer.get("host") for peer in listed) if isinstance(host, str)}
    return hosts | {str(own)}


def _check_public_keys(
    peer: Dict[str, Any], number: int, known: Dict[bytes, Tuple[int, Any]], faults: _Faults
) -> None:
    for key in ("public_key", "next_public_key"):
        path: KeyPath = ("peers", number, key)
        text = peer.get(key)
        if not isinstance(text, str) or faults.spoilt(path):
            continue
        try:
            public = _significant(keys.decode(text))
        except ValueError:
            faults.add(path, "this is no public key: write it as `ropeway pubkey` prints it")
            continue
        line, host = known.get(public, (0, None))
        if line and key == "next_public_key" and host == peer.get("host"):
            faults.add(
                path,
                "this is the public_key of the same host: write its next one, or leave"
                " next_public_key out",
            )
        elif line:
            faults.add(
                path,
                f"this public key belongs to {host} already, in line {line}: every host has a key"
                " of its own",
            )
        known.setdefault(public, (faults.line_of.get(path, 1), peer.get("host")))


def _significant(public: bytes) -> bytes:
    """Return a public key without the bit that X25519 ignores; RFC 7748, section 5."""
    return public[:-1] + bytes([public[-1] & 0x7F])


def _port(data: Dict[str, Any]) -> int:
    port = data.get("port", DEFAULT_PORT)
    # To the schema 51840.0 is a whole number too.
    good = isinstance(port, (int, float)) and 1 <= port <= 65535
    return int(port) if good else DEFAULT_PORT


_PORT = re.compile(r"[1-9][0-9]{0,4}")
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([1-9][0-9]{0,4}))?")


def endpoint(text: str, default_port: int) -> Endpoint:
    """Return the endpoint that `text` stands for; `ValueError` with a sentence where it is none.

    An IPv6 address with a port stands in brackets, which one without may.
    """
    found = _ENDPOINT.fullmatch(text)
    bare = (found.group(1) or found.group(2)) if found else text
    port = int(found.group(3) or default_port) if found else default_port
    address = _ip_address(bare)
    if found is None:
        _check_brackets(text, address, default_port)
    misplaced = found is not None and found.group(1) and ":" not in bare
    if address is None or port > 65535 or "%" in text or misplaced:
        raise ValueError(
            f"{_shown(text)!r} is no IPv4 or IPv6 address: write one with or without a port, such"
            ' as 192.168.0.3, "192.168.0.3:51840" or "[2001:db8::3]:51840"'
        )
    if not _is_global(address):
        raise ValueError(
            f"{address} is no address of another host: write one of its real addresses, no"
            " link-local one"
        )
    return str(address), port


def _is_global(address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address]) -> bool:
    """Say whether an address is one of a host and means the same on every link."""
    if isinstance(address, ipaddress.IPv4Address):
        return is_unicast(address.packed)
    return not (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address.is_link_local
        or address.ipv4_mapped
    )


def _ip_address(text: str) -> Union[ipaddress.IPv4Address, ipaddress.IPv6Address, None]:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _check_brackets(
    text: str,
    address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address, None],
    default_port: int,
) -> None:
    """Raise `ValueError` where `text` ends in what is or may be meant for a port."""
    head, _, tail = text.rpartition(":")
    if not isinstance(_ip_address(head), ipaddress.IPv6Address) or not _PORT.fullmatch(tail):
        return
    if address is None:
        raise ValueError(f'{text}: an IPv6 address with a port is written "[{head}]:{tail}"')
    if int(tail) == default_port:
        raise ValueError(
            f'{text} ends in a port, or seems to: write "[{head}]:{tail}", or "[{text}]" if it is'
            " an address without a port"
        )


def _check_endpoints(
    listed: List[Any],
    path: KeyPath,
    default_port: int,
    virtual: Set[str],
    faults: _Faults,
) -> None:
    limit = tuning.MAX_REMOTES_PER_PEER
    if len(listed) > limit:
        faults.add(path, f"a host has at most {limit} addresses, not {len(listed)}: remove some")
        return
    lines: Dict[Endpoint, int] = {}
    for place, item in enumerate(listed):
        where: KeyPath = (*path, place)
        if not isinstance(item, str) or faults.spoilt(where):
            continue
        try:
            found = endpoint(item, default_port)
        except ValueError as error:
            faults.add(where, str(error))
            continue
        if found in lines:
            faults.add(where, f"{item} stands in line {lines[found]} already: remove one")
        lines.setdefault(found, faults.line_of.get(where, 1))
        if found[0] in virtual:
            faults.add(where, _is_virtual(found[0]))


def _is_virtual(address: str) -> str:
    return f"{address} is the virtual address of a host: write one of its real addresses"


def _check_addresses(listed: List[Any], path: KeyPath, virtual: Set[str], faults: _Faults) -> None:
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
        elif str(address) in virtual:
            faults.add(where, _is_virtual(str(address)))


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
                f"{text} is no network of hosts: choose a private one, such as 10.213.77.0/24",
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


# --- what is on this host


def _check_host(data: Dict[str, Any], faults: _Faults) -> None:
    """See whether the users, the group, the socket and the device can be as the file says."""
    control = data.get("control", {})
    device = data.get("device", {})
    names = control if isinstance(control, dict) else {}
    for key, what, look_up in (
        ("owner", "user", pwd.getpwnam),
        ("group", "group", grp.getgrnam),
    ):
        name = names.get(key)
        if not isinstance(name, str) or faults.spoilt(("control", key)):
            continue
        try:
            look_up(name)
        except (KeyError, ValueError):
            faults.add(("control", key), f"there is no {what} {_shown(name)}: create it first")
    path = names.get("path", DEFAULT_CONTROL_PATH)
    if isinstance(path, str) and not faults.spoilt(("control", "path")):
        with contextlib.suppress(OSError, ValueError):
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                faults.add(
                    ("control", "path"), f"{path} is not a socket: remove it or choose another path"
                )
    name = device.get("name", DEFAULT_DEVICE_NAME) if isinstance(device, dict) else None
    if isinstance(name, str) and not faults.spoilt(("device", "name")):
        place = os.path.join(INTERFACES_DIRECTORY, name)
        # drivers/net/tun.c gives its devices this file.
        if os.path.isdir(place) and not os.path.exists(os.path.join(place, "tun_flags")):
            faults.add(
                ("device", "name"),
                f"an interface {name} stands already and is of another kind: choose another name",
            )


# --- the files of keys


@dataclass
class _Secrets:
    private: bytes = field(default=b"", repr=False)
    psks: Dict[str, bytes] = field(default_factory=dict, repr=False)


def _read_secrets(
    data: Dict[str, Any], faults: _Faults, reader: Optional[pwd.struct_passwd]
) -> _Secrets:
    """Read the keys that the file names, and see whether they go with the others."""
    from ropeway.core.session.noise import KeyPair, NoiseError

    secrets = _Secrets()
    own: Optional[KeyPair] = None
    path = data.get("private_key_file", DEFAULT_PRIVATE_KEY_PATH)
    if not faults.spoilt(("private_key_file",)):
        try:
            secrets.private = keys.read_private(path, reader)
            own = KeyPair.of(secrets.private)
        except keys.KeyFileError as error:
            faults.add(("private_key_file",), str(error))
    peers = data.get("peers", [])
    for number, peer in enumerate(peers if isinstance(peers, list) else ()):
        if not isinstance(peer, dict):
            continue
        psk_file = peer.get("psk_file")
        where: KeyPath = ("peers", number, "psk_file")
        if isinstance(psk_file, str) and not faults.spoilt(where):
            try:
                psk = keys.read_psk(psk_file, reader)
            except keys.KeyFileError as error:
                faults.add(where, str(error))
            else:
                if psk == NO_PSK:
                    faults.add(where, f"{psk_file} holds zeros only, which is no secret: make one")
                if psk == secrets.private:
                    faults.add(
                        where,
                        f"{psk_file} holds this host's private key, which no other host may have:"
                        " make a key for the two hosts",
                    )
                secrets.psks[psk_file] = psk
        for key in ("public_key", "next_public_key"):
            where = ("peers", number, key)
            text = peer.get(key)
            if own is None or not isinstance(text, str) or faults.spoilt(where):
                continue
            public = keys.decode(text)
            if _significant(public) == own.public:
                faults.add(
                    where,
                    "this is this host's own key, that of {}: write the one of {}, which"
                    " `ropeway pubkey` prints there".format(data.get("address"), peer.get("host")),
                )
                continue
            try:
                own.shared(public)
            except NoiseError:
                faults.add(where, "this is no public key: write it as `ropeway pubkey` prints it")
    return secrets


def _config(data: Dict[str, Any], secrets: _Secrets) -> Config:
    device = data.get("device", {})
    interfaces = data.get("interfaces", {})
    control = data.get("control", {})
    mtu = device.get("mtu", "auto")
    latency_us = data.get("cpu_latency_us")
    encapsulation = data.get("encapsulation", SECURE)
    secure = encapsulation == SECURE
    listed = data.get("peers", ())
    return Config(
        encapsulation=encapsulation,
        network=data["network"],
        address=data["address"],
        router=data.get("router"),
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
        peers=tuple(_peer(peer, _port(data), secrets) for peer in listed) if secure else (),
        port=_port(data),
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


def _remotes(listed: List[Dict[str, Any]]) -> Iterator[Remote]:
    for peer in listed:
        for item in peer["addresses"]:
            if isinstance(item, str):
                item = {"address": item}
            yield Remote(peer["host"], item["address"], int(item.get("index", 0)))


def _peer(peer: Dict[str, Any], default_port: int, secrets: _Secrets) -> Peer:
    named = [peer[key] for key in ("public_key", "next_public_key") if key in peer]
    psk_file = peer.get("psk_file")
    return Peer(
        host=peer["host"],
        public_keys=tuple(keys.decode(text) for text in named),
        endpoints=tuple(endpoint(text, default_port) for text in peer.get("addresses", ())),
        psk_file=psk_file,
        psk=NO_PSK if psk_file is None else secrets.psks.get(psk_file, NO_PSK),
    )
