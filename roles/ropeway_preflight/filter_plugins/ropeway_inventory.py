"""Questions that a whole inventory answers before any host is touched.

Everything here is a pure function over Ansible's ``groups`` and ``hostvars``: no fact, no
connection, no file. A problem is one sentence that names the host, the value and what to do. Hosts
that share a problem share its sentence.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from jinja2.exceptions import TemplateError

ALL_GROUP = "ropeway"
ROUTER_GROUP = "ropeway_routers"
CLIENT_GROUP = "ropeway_clients"

ENCAPSULATIONS = ("secure", "classic")
DEFAULT_ENCAPSULATION = "secure"
CLASSIC_CAVEAT = (
    "classic has no authentication and no encryption, so it is for trusted LANs and old nodes only"
)

DEFAULT_PORT = 51840
PORT_RANGE = range(1, 65536)
ROLLOVER_RANGE_S = range(2, 3601)
MAX_AGE_MIN_S = 0.1
MAX_AGE_MAX_S = 60.0
OFFLOAD_FEATURES = ("vnet_hdr", "tso", "uso", "udp_segment", "udp_gro")
CPU_LATENCY_RANGE_US = range(1_000_001)
PSK_BYTES = 32
# Variables of former versions, and what they are called now.
REMOVED_VARIABLES = {
    "ropeway_agent_remotes": "ropeway_agent_peers",
    "ropeway_client_remotes": "ropeway_client_peers",
    "ropeway_router_remotes": "ropeway_router_peers",
}
# What an inventory may set. The roles' own variables come from their defaults.
INVENTORY_VARIABLES = (
    "ropeway_accept_new_keys",
    "ropeway_addresses_file",
    "ropeway_cpu_latency_us",
    "ropeway_device_mtu",
    "ropeway_device_name",
    "ropeway_direct_peers",
    "ropeway_encapsulation",
    "ropeway_endpoints",
    "ropeway_interfaces",
    "ropeway_keys_file",
    "ropeway_management_interface",
    "ropeway_max_age_s",
    "ropeway_network",
    "ropeway_offload_disable",
    "ropeway_package",
    "ropeway_port",
    "ropeway_psk",
    "ropeway_rollover_s",
    "ropeway_serial",
    "ropeway_tolerated_links",
    "ropeway_virtual_address",
)
# What the roles and the files of records set themselves.
SET_BY_ROLES = (
    "ropeway_agent_keys",
    "ropeway_preflight_addresses",
    "ropeway_recorded_addresses",
    "ropeway_recorded_keys",
)
VARIABLE_PREFIX = "ropeway_"
# What of other variables the checks read.
WAY_IN_VARIABLES = ("ansible_host", "ansible_port")
# SSH's port (RFC 4253, section 4), where Ansible is told no other.
DEFAULT_WAY_IN_PORT = "22"
# How much alike (difflib's ratio) two texts are where one is the other mistyped: "ropway" and
# "ropeway" have 0.92, "gateway" and "ropeway" 0.57.
MISTYPED_RATIO = 0.8
# Names files, units and, by default, a device with DEVICE_PREFIX and a dash before it.
NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
MAIN_NETWORK = "ropeway"

INTERFACE_KEYS = ("name", "lan", "address", "mtu", "configure")
EXTRA_NETWORK_KEYS = (
    *("name", "encapsulation", "network", "address", "addresses", "router", "forward"),
    *("device_name", "device_mtu", "port", "rollover_s", "max_age_s", "offload_disable"),
    "cpu_latency_us",
    *("device_precedence", "include", "exclude", "peers", "expected_peers", "expected_links"),
)
EXTRA_PEER_KEYS = ("name", "host", "public_key", "next_public_key", "psk_file", "addresses")
# IFNAMSIZ of linux/if.h without the closing zero.
INTERFACE_NAME_MAX_BYTES = 15
# What every IPv4 host takes, and the largest packet (RFC 791).
MTU_RANGE = range(576, 65536)
# A longer prefix has no room for a router and a client beside network and broadcast address.
NETWORK_PREFIX_MAX = 30

RECORD_KEY = "ropeway_recorded_addresses"
DEFAULT_DEVICE = "ropeway0"
# The package tells systemd-networkd to leave ropeway* alone.
DEVICE_PREFIX = "ropeway"


# A list of hosts up to this long names each; a longer one its group.
NAMES_MAX = 5
# Of a value and of Ansible's words, as much is shown.
SHOWN_MAX = 80
WORDS_MAX = 200

READ_ERRORS = (AnsibleError, TemplateError)


class Interface(NamedTuple):
    """One LAN interface of a host, as the inventory describes it."""

    name: str
    lan: str
    # None: somebody else gives it one (``configure: false``).
    address: Optional[ipaddress.IPv4Interface]


class Host(NamedTuple):
    """What the inventory says about one host, as far as it could be read."""

    name: str
    network: Optional[ipaddress.IPv4Network]
    interfaces: Tuple[Interface, ...]
    virtual_address: Optional[ipaddress.IPv4Address]


def inventory_problems(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    record: Any = None,
    record_path: str = "the record of addresses",
    role_options: Optional[Mapping[str, Mapping[str, Any]]] = None,
) -> List[str]:
    """Every problem of the inventory, as sentences in a stable order; empty if there is none.

    ``record`` is the parsed content of the file of recorded addresses, or None if there is none.
    ``role_options`` are the roles' own variables, as their meta/argument_specs.yml describe them.
    While a variable can't be read, the rest can't be judged: then the problems are those of the
    groups and of reading.
    """
    names = _members(groups, ALL_GROUP)
    if not names:
        sentence = (
            f"Group {ALL_GROUP} holds no host: check the path given with -i, and list the hosts "
            f"under {ROUTER_GROUP} and {CLIENT_GROUP}."
        )
        return [sentence]
    problems = list(_group_problems(groups, names))
    options = role_options or {}
    known = (*INVENTORY_VARIABLES, *options)
    read, found = _read_variables(names, hostvars, known)
    problems += found
    problems += _unknown_variable_problems(groups, read, known)
    if found:
        return shared_problems(problems, groups)
    problems += _value_problems(groups, names, read)
    problems += _option_problems(names, hostvars, options)
    recorded, found = _read_record(record, record_path)
    problems += found
    hosts = [_read_host(name, read[name])[0] for name in names]
    problems += _virtual_address_problems(hosts, _kept(recorded, names, read), record_path, groups)
    return shared_problems(problems, groups)


def _value_problems(
    groups: Mapping[str, Sequence[str]], names: List[str], read: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Problems of what the hosts' variables hold, without the record of addresses."""
    yield from _shared_value_problems(names, read, groups)
    hosts: List[Host] = []
    for name in names:
        host, found = _read_host(name, read[name])
        hosts.append(host)
        yield from found
        yield from _device_problems(name, read[name])
        yield from _secure_problems(name, read[name])
        yield from _cpu_latency_problems(
            name, "ropeway_cpu_latency_us", _value(read[name], "ropeway_cpu_latency_us")
        )
        yield from _max_age_problems(
            name, "ropeway_max_age_s", _value(read[name], "ropeway_max_age_s")
        )
        yield from _direct_peer_problems(name, groups, read[name])
        yield from _extra_network_problems(name, read[name])
    yield from _tolerated_problems(hosts, read)
    yield from _lan_problems(hosts)
    yield from _management_problems(hosts, read)
    yield from _address_required_problems(groups, hosts, read)
    yield from _reachability_problems(groups, hosts, read)


def virtual_addresses(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    record: Any = None,
) -> Dict[str, str]:
    """The virtual address of every host: explicit, else recorded, else the lowest free one.

    Assumes an inventory without problems. On a classic network addresses of the record stay taken
    even if their host has left the inventory, since nothing but the address tells it from another.
    """
    names = _members(groups, ALL_GROUP)
    read, _ = _read_variables(names, hostvars, ())
    return _virtual_addresses(names, read, record)


def recorded_addresses(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    record: Any = None,
) -> Dict[str, str]:
    """What the record must hold: what it held, and each address that is not in the inventory.

    On a secure network the lines of hosts that have left the inventory go: their keys are refused.
    """
    names = _members(groups, ALL_GROUP)
    read, _ = _read_variables(names, hostvars, ())
    recorded = _kept(_read_record(record, "")[0], names, read)
    wanted = {name: str(address) for name, address in recorded.items()}
    for name, address in _virtual_addresses(names, read, record).items():
        if _value(read[name], "ropeway_virtual_address") is None:
            wanted[name] = address
    return dict(sorted(wanted.items()))


def _virtual_addresses(
    names: List[str], read: Mapping[str, Mapping[str, Any]], record: Any
) -> Dict[str, str]:
    hosts = [_read_host(name, read[name])[0] for name in names]
    recorded = _kept(_read_record(record, "")[0], names, read)
    allocated, _ = _allocate(hosts, recorded)
    return {name: str(address) for name, address in allocated.items()}


def first_value(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]], key: str
) -> str:
    """A variable of the fleet's first host as text; empty where it has none that can be read."""
    for name in _members(groups, ALL_GROUP)[:1]:
        try:
            return str(hostvars[name].get(key) or "")
        except READ_ERRORS:
            return ""
    return ""


def shared_problems(problems: Sequence[str], groups: Mapping[str, Sequence[str]]) -> List[str]:
    """The sentences, where hosts that have the same one after "NAME: " share it."""
    names = _members(groups, ALL_GROUP)
    owners: Dict[Tuple[str, str], List[str]] = {}
    for sentence in problems:
        subject, colon, rest = sentence.partition(": ")
        name, comma, network = subject.partition(", network ")
        if name in names:
            sharing = owners.setdefault((comma + network + colon + rest, ""), [])
            if name not in sharing:
                sharing.append(name)
        else:
            owners[sentence, "alone"] = []
    return [
        f"{_owners(sharing, groups)}{rest}" if sharing else rest
        for (rest, _), sharing in owners.items()
    ]


def _members(groups: Mapping[str, Sequence[str]], group: str) -> List[str]:
    return [str(name) for name in groups.get(group, [])]


def _value(variables: Mapping[str, Any], key: str) -> Any:
    return variables.get(key)


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names)


def _shown(value: Any) -> str:
    """A value as a sentence shows it: in quotes where its ends or its kind could be mistaken."""
    text = str(value)
    if re.fullmatch(r"[^\s'\"{}\[\](),;]+", text) and text.isprintable() and len(text) <= SHOWN_MAX:
        return text
    shown = repr(text) if isinstance(value, str) else repr(value)
    return shown if len(shown) <= SHOWN_MAX else f"{shown[:SHOWN_MAX]}..."


def _owners(owners: Sequence[str], groups: Mapping[str, Sequence[str]]) -> str:
    """Hosts by the group that holds all of them and no other, or few others; else by name."""
    if len(owners) == 1:
        return owners[0]
    first = [name for name in (ALL_GROUP, ROUTER_GROUP, CLIENT_GROUP) if name in groups]
    others = [name for name in groups if name not in (*first, "all", "ungrouped")]
    few = len(owners) <= NAMES_MAX
    for group in (*first, *others):
        if set(_members(groups, group)) == set(owners):
            return f"group {group} ({_listing(owners) if few else f'{len(owners)} hosts'})"
    if few:
        return _listing(owners)
    for group in (*others, *reversed(first)):
        rest = [name for name in _members(groups, group) if name not in owners]
        if len(rest) <= NAMES_MAX and set(owners) <= set(_members(groups, group)):
            return f"group {group} without {_listing(rest)} ({len(owners)} hosts)"
    return _listing(owners)


def _read_variables(
    names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], known: Sequence[str]
) -> Tuple[Dict[str, Dict[str, Any]], List[str]]:
    """What the hosts' variables hold, each asked for once, and which can't be read.

    Ansible templates a variable whenever it is asked for. What the checks don't read is there
    without its value, so that its name can be judged.
    """
    checked = (*INVENTORY_VARIABLES, "ropeway_agent_extra_networks", *WAY_IN_VARIABLES)
    read: Dict[str, Dict[str, Any]] = {}
    problems: List[str] = []
    for name in names:
        read[name] = {}
        try:
            variables = hostvars[name]
            keys = [str(key) for key in variables]
        except READ_ERRORS as error:
            problems.append(f"{name}: its variables can't be read: {_why_unreadable(error)}")
            continue
        for key in keys:
            read[name][key] = None
            if key in checked:
                found: List[str] = []
                read[name][key] = _plain(variables, key, key, found)
                problems += [f"{name}: {sentence}" for sentence in found]
            elif key in known:
                problems += _early_problems(name, variables, key)
    return read, problems


def _plain(holder: Any, key: Any, where: str, problems: List[str]) -> Any:
    """``holder[key]`` with everything in it templated; None for what can't be."""
    try:
        value = holder[key]
        if isinstance(value, Mapping):
            return {
                str(inner): _plain(value, inner, f"{where}, {_shown(inner)}", problems)
                for inner in list(value)
            }
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            return [
                _plain(value, position, f"{where}, item {position + 1}", problems)
                for position in range(len(value))
            ]
        # What stands for a template that failed says so only when it is used.
        str(value)
    except READ_ERRORS as error:
        problems.append(f"{where} can't be read: {_why_unreadable(error)}")
        return None
    return value


def _early_problems(name: str, variables: Mapping[str, Any], key: str) -> Iterator[str]:
    """What can't be read of a variable that a role reads later, when it may know more."""
    found: List[str] = []
    _plain(variables, key, key, found)
    for sentence in found:
        needs = re.search(r"can't be read: it needs '([^']+)'", sentence)
        lacking = needs is not None and not needs[1].startswith((VARIABLE_PREFIX, "ansible_", "_"))
        if lacking or "vault secret" in sentence:
            yield f"{name}: {sentence}"


def _option_problems(
    names: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """What of the roles' own variables is not of the kind that their argument_specs.yml says.

    Asked here for all hosts in one process, and not by each role on each host. What can't be read
    yet, since it needs facts, is judged where it is used.
    """
    for name in names:
        given = {}
        for key in hostvars[name]:
            unreadable: List[str] = []
            if key in options:
                value = _plain(hostvars[name], key, str(key), unreadable)
                if not unreadable:
                    given[str(key)] = value
        validator = ArgumentSpecValidator({key: dict(options[key]) for key in given})
        for sentence in validator.validate(given, validate_role_argument_spec=True).error_messages:
            yield f"{name}: {sentence.rstrip('.')}."


def _why_unreadable(error: Exception) -> str:
    """Why a variable can't be read, and what to do, from what Ansible says about it."""
    said = str(error)
    undefined = re.search(r"'([^']+)' is undefined", said)
    if undefined:
        return (
            f"it needs '{undefined[1]}', which is not defined for this host: define it, or correct "
            "the name."
        )
    if "vault" in said.lower() or "decrypt" in said.lower():
        return (
            "it is encrypted, and no vault secret opens it: run again with --ask-vault-pass, or "
            "with --vault-password-file and the right file."
        )
    words = " ".join(said.split()).replace("A captured exception marker was tripped: ", "")
    return f"Ansible says {words[:WORDS_MAX]!r}: correct it."


def _unknown_variable_problems(
    groups: Mapping[str, Sequence[str]],
    read: Mapping[str, Mapping[str, Any]],
    known: Sequence[str],
) -> Iterator[str]:
    """Names that look like ropeway's and are not; never their values, which may be secrets."""
    owners: Dict[str, List[str]] = {}
    for name, variables in read.items():
        for key in variables:
            owners.setdefault(key, []).append(name)
    for key, having in owners.items():
        if key in REMOVED_VARIABLES:
            new = REMOVED_VARIABLES[key]
            yield f"{_owners(having, groups)}: {key} is called {new} now: rename it."
        elif key.startswith(VARIABLE_PREFIX):
            if key not in known and key not in SET_BY_ROLES:
                endings = [name[len(VARIABLE_PREFIX) :] for name in known]
                near = difflib.get_close_matches(key[len(VARIABLE_PREFIX) :], endings, 1)
                advice = (
                    f"did you mean {VARIABLE_PREFIX}{near[0]}?"
                    if near
                    else f"names with {VARIABLE_PREFIX} are ropeway's: rename it, or take it out."
                )
                yield f"{_owners(having, groups)}: the variable {key} is unknown: {advice}"
        elif _is_mistyped_prefix(key):
            near = difflib.get_close_matches(key.lower(), known, 1, MISTYPED_RATIO)
            if near:
                yield (
                    f"{_owners(having, groups)}: the variable {_shown(key)} is none of ropeway's: "
                    f"did you mean {near[0]}?"
                )


def _is_mistyped_prefix(key: str) -> bool:
    prefix = VARIABLE_PREFIX.rstrip("_")
    head = re.split("[_-]", key.lower())[0]
    return difflib.SequenceMatcher(None, head, prefix).ratio() >= MISTYPED_RATIO


def _group_problems(groups: Mapping[str, Sequence[str]], names: List[str]) -> Iterator[str]:
    routers, clients = _members(groups, ROUTER_GROUP), _members(groups, CLIENT_GROUP)
    if not routers:
        yield (
            f"Group {ROUTER_GROUP} holds no host, so {_owners(clients or names, groups)} would "
            "have no router: put the agreed router into it."
        )
    elif len(routers) > 1:
        yield (
            f"Group {ROUTER_GROUP} holds {_listing(routers)}, but a network has one agreed "
            "router: leave one host in it."
        )
    if not clients:
        yield f"Group {CLIENT_GROUP} holds no host: list the router's clients in it."
    for name in names:
        if name in routers and name in clients:
            yield f"{name}: is in {ROUTER_GROUP} and in {CLIENT_GROUP}: leave it in one of them."
    neither = [name for name in names if name not in routers and name not in clients]
    if neither:
        verb = "is" if len(neither) == 1 else "are"
        yield (
            f"{_owners(neither, groups)} {verb} neither in {ROUTER_GROUP} nor in {CLIENT_GROUP}: "
            "put each into one."
        )
    outside = [name for name in routers + clients if name not in names]
    if outside:
        verb = "is" if len(outside) == 1 else "are"
        yield (
            f"{_owners(outside, groups)} {verb} not in group {ALL_GROUP}: make the group a child "
            f"of {ALL_GROUP}."
        )


def _shared_value_problems(
    names: List[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Problems of what all hosts must have in common, one sentence per value and not per host."""
    encapsulations = _hosts_by_value(names, hostvars, "ropeway_encapsulation")
    for value, owners in encapsulations.items():
        if value is not None and value not in ENCAPSULATIONS:
            yield (
                f"{_owners(owners, groups)}: ropeway_encapsulation {_shown(value)} is unknown: use "
                f"one of {', '.join(ENCAPSULATIONS)} ({CLASSIC_CAVEAT})."
            )
    networks = _hosts_by_value(names, hostvars, "ropeway_network")
    for value, owners in networks.items():
        sentence = _network_problem(value)
        if sentence:
            yield f"{_owners(owners, groups)}: {sentence}"
    for key, values in (("ropeway_encapsulation", encapsulations), ("ropeway_network", networks)):
        known = {value: owners for value, owners in values.items() if value is not None}
        if key == "ropeway_encapsulation" and None in values:
            known.setdefault(DEFAULT_ENCAPSULATION, []).extend(values[None])
        if len(known) > 1:
            parts = [
                f"{_shown(value)} on {_owners(owners, groups)}" for value, owners in known.items()
            ]
            yield f"{key} differs: {'; '.join(parts)}: set one value for the group {ALL_GROUP}."
    secrets = {str(hostvars[name].get("ropeway_psk") or "") for name in names}
    if len(secrets) > 1:
        # Never the values: they would stand in every log.
        without = [name for name in names if not hostvars[name].get("ropeway_psk")]
        which = f"{_owners(without, groups)} without one" if without else "not the same everywhere"
        yield f"ropeway_psk differs ({which}): set one value for the group {ALL_GROUP}."


def _hosts_by_value(
    names: List[str], hostvars: Mapping[str, Mapping[str, Any]], key: str
) -> Dict[Optional[str], List[str]]:
    found: Dict[Optional[str], List[str]] = {}
    for name in names:
        value = _value(hostvars[name], key)
        found.setdefault(None if value is None else str(value), []).append(name)
    return found


def _network_problem(value: Optional[str]) -> Optional[str]:
    if value is None:
        return "ropeway_network is not set: give the virtual network, such as 10.213.77.0/24."
    if "/" not in value:
        return (
            f"ropeway_network {_shown(value)} has no prefix length: write it such as "
            "10.213.77.0/24."
        )
    try:
        network = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        return (
            f"ropeway_network {_shown(value)} is no IPv4 network: write it such as 10.213.77.0/24."
        )
    if str(network) != str(ipaddress.IPv4Interface(value)):
        return f"ropeway_network {value} has host bits set: write {network}."
    if network.prefixlen > NETWORK_PREFIX_MAX:
        return (
            f"ropeway_network {value} has no room for a router and a client: use a prefix of "
            f"/{NETWORK_PREFIX_MAX} or shorter."
        )
    if not _is_unicast(network.network_address):
        return f"ropeway_network {value} is not a unicast network: take a private one (RFC 1918)."
    return None


def _is_unicast(address: ipaddress.IPv4Address) -> bool:
    return not (
        address.is_multicast
        or address.is_loopback
        or address in ipaddress.IPv4Network("0.0.0.0/8")
        or address in ipaddress.IPv4Network("240.0.0.0/4")
    )


def _read_host(name: str, variables: Mapping[str, Any]) -> Tuple[Host, List[str]]:
    problems: List[str] = []
    raw_network = _value(variables, "ropeway_network")
    network = None
    if raw_network is not None and _network_problem(str(raw_network)) is None:
        network = ipaddress.IPv4Network(str(raw_network))
    interfaces = _read_interfaces(name, variables, problems)
    virtual = None
    raw_address = _value(variables, "ropeway_virtual_address")
    if raw_address is not None:
        try:
            virtual = ipaddress.IPv4Address(str(raw_address))
        except ValueError:
            problems.append(
                f"{name}: ropeway_virtual_address {_shown(raw_address)} is no IPv4 address: write "
                "it without a prefix length, such as 10.213.77.1."
            )
    return Host(name, network, interfaces, virtual), problems


def _read_interfaces(
    name: str, variables: Mapping[str, Any], problems: List[str]
) -> Tuple[Interface, ...]:
    raw = _value(variables, "ropeway_interfaces")
    example = "{name: enp0s3, lan: net0, address: 192.168.0.2/24}"
    if not raw:
        problems.append(
            f"{name}: ropeway_interfaces is not set: list its LAN interfaces, such as {example}."
        )
        return ()
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence):
        problems.append(f"{name}: ropeway_interfaces is no list: write items such as {example}.")
        return ()
    device = str(_value(variables, "ropeway_device_name") or DEFAULT_DEVICE)
    management = _value(variables, "ropeway_management_interface")
    interfaces: List[Interface] = []
    seen: List[str] = []
    for item in raw:
        if not isinstance(item, Mapping):
            problems.append(
                f"{name}: item {_shown(item)} of ropeway_interfaces is no mapping: write {example}."
            )
            continue
        label = str(item["name"]) if item.get("name") else "without a name"
        problems += _interface_key_problems(name, label, item)
        if item.get("name"):
            problems += _interface_name_problems(name, label, seen, management, device)
            seen.append(label)
        address = _read_lan_address(name, label, item.get("address"), problems)
        readable = address is not None or (
            not item.get("address") and item.get("configure") is False
        )
        if readable and item.get("name") and item.get("lan"):
            interfaces.append(Interface(label, str(item["lan"]), address))
    return tuple(interfaces)


def _interface_key_problems(name: str, label: str, item: Mapping[str, Any]) -> Iterator[str]:
    for key in item:
        if key not in INTERFACE_KEYS:
            near = difflib.get_close_matches(str(key), INTERFACE_KEYS, 1)
            advice = f"did you mean {near[0]}?" if near else f"use {', '.join(INTERFACE_KEYS)}."
            yield f"{name}: interface {label} has the unknown key {_shown(key)}: {advice}"
    configure = item.get("configure", True)
    for key in ("name", "lan"):
        if not item.get(key):
            yield f"{name}: interface {label} has no {key}: add it in ropeway_interfaces."
    lan = str(item.get("lan") or "")
    if lan != lan.strip():
        yield (
            f"{name}: interface {label} has the LAN {lan!r}, with blanks at its ends, which make "
            f"it another LAN than {lan.strip()!r}: take them out."
        )
    # Whatever else `configure` holds, its own sentence says; an address is not what is amiss.
    if not item.get("address") and configure is True:
        yield (
            f"{name}: interface {label} has no address: add it in ropeway_interfaces, or "
            "`configure: false` if somebody else gives it one."
        )
    if not isinstance(configure, bool):
        yield (
            f"{name}: interface {label} has configure {configure!r}, which is neither true nor "
            "false: write one of them."
        )
    elif not configure and item.get("mtu") is not None:
        yield (
            f"{name}: interface {label} has an MTU and configure: false, but then nobody sets it: "
            "take one of them out."
        )
    mtu = item.get("mtu")
    if mtu is not None and (isinstance(mtu, bool) or not isinstance(mtu, int)):
        yield f"{name}: interface {label} has the MTU {_shown(mtu)}, no whole number: write digits."
    elif mtu is not None and mtu not in MTU_RANGE:
        yield (
            f"{name}: interface {label} has the MTU {mtu}: use {MTU_RANGE.start} to "
            f"{MTU_RANGE.stop - 1}."
        )


def _interface_name_problems(
    name: str, label: str, seen: List[str], management: Any, device: str
) -> Iterator[str]:
    if label in seen:
        yield f"{name}: interface {label} is named twice in ropeway_interfaces: keep one of them."
    if len(label.encode()) > INTERFACE_NAME_MAX_BYTES or any(
        c.isspace() or c in "/:" for c in label
    ):
        yield (
            f"{name}: {label!r} can't be the name of an interface: use at most "
            f"{INTERFACE_NAME_MAX_BYTES} bytes without space, slash or colon."
        )
    elif label in (".", "..") or any(c in "*?[" for c in label):
        yield (
            f"{name}: {label!r} can't be the name of an interface: write the name of one, "
            "not a pattern or a folder."
        )
    if management is not None and label == str(management):
        yield (
            f"{name}: interface {label} is the management interface and can't be a LAN as well: "
            "take it out of ropeway_interfaces, or correct ropeway_management_interface."
        )
    if label in ("lo", device):
        yield f"{name}: interface {label} can't be a LAN: take it out of ropeway_interfaces."


def _device_problems(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    device = _value(variables, "ropeway_device_name")
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
    mtu = _value(variables, "ropeway_device_mtu")
    if mtu is None or mtu == "auto":
        return
    if _number(mtu) not in MTU_RANGE:
        yield (
            f"{name}: ropeway_device_mtu {_shown(mtu)} does not fit: use auto, or "
            f"{MTU_RANGE.start} to {MTU_RANGE.stop - 1}."
        )


def _read_lan_address(
    name: str, label: str, raw: Any, problems: List[str]
) -> Optional[ipaddress.IPv4Interface]:
    if not raw:
        return None
    text = str(raw)
    if "/" not in text:
        problems.append(
            f"{name}: address {_shown(text)} of {label} has no prefix length: write it such as "
            f"{text.strip()[:SHOWN_MAX]}/24."
        )
        return None
    try:
        address = ipaddress.IPv4Interface(text)
    except ValueError:
        problems.append(
            f"{name}: address {_shown(text)} of {label} is no IPv4 address with a prefix length: "
            "write it such as 192.168.0.2/24."
        )
        return None
    network = address.network
    if not _is_unicast(address.ip):
        problems.append(f"{name}: address {text} of {label} is not a host's: use a unicast one.")
        return None
    if network.prefixlen < 31 and address.ip in (
        network.network_address,
        network.broadcast_address,
    ):
        kind = "network" if address.ip == network.network_address else "broadcast"
        problems.append(
            f"{name}: address {text} of {label} is the {kind} address of {network}: use another "
            "one of that network."
        )
        return None
    return address


def _lan_problems(hosts: List[Host]) -> Iterator[str]:
    members: Dict[str, List[Tuple[Host, Interface]]] = {}
    for host in hosts:
        for interface in host.interfaces:
            members.setdefault(interface.lan, []).append((host, interface))
    for lan, entries in members.items():
        owners: Dict[ipaddress.IPv4Address, List[str]] = {}
        prefixes: Dict[ipaddress.IPv4Network, List[str]] = {}
        for host, interface in entries:
            if interface.address is None:
                continue
            label = f"{host.name} {interface.name}"
            owners.setdefault(interface.address.ip, []).append(label)
            prefixes.setdefault(interface.address.network, []).append(label)
        for address, labels in owners.items():
            if len(labels) > 1:
                yield (
                    f"LAN {_shown(lan)}: address {address} is given to "
                    f"{' and '.join(labels)}: give each its own."
                )
        if len(prefixes) > 1:
            parts = [f"{prefix} on {_listing(labels)}" for prefix, labels in prefixes.items()]
            yield (
                f"LAN {_shown(lan)} has {len(prefixes)} prefixes: {'; '.join(parts)}: give all "
                "interfaces of a LAN addresses of one network, or name another LAN."
            )
    for host in hosts:
        for position, one in enumerate(host.interfaces):
            if one.address is None:
                continue
            for two in host.interfaces[position + 1 :]:
                if two.address is None or one.lan == two.lan:
                    continue
                if one.address.network.overlaps(two.address.network):
                    yield (
                        f"{host.name}: {one.name} ({one.address}, LAN {_shown(one.lan)}) and "
                        f"{two.name} ({two.address}, LAN {_shown(two.lan)}) overlap: give each LAN "
                        "its own network."
                    )
            if host.network is not None and one.address.network.overlaps(host.network):
                yield (
                    f"{host.name}: {one.name} ({one.address}) overlaps the virtual network "
                    f"{host.network}: choose another LAN network or another ropeway_network."
                )


def _management_problems(
    hosts: List[Host], hostvars: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    ways_in: Dict[Tuple[str, str], List[str]] = {}
    for host in hosts:
        raw, _ = way_in = _way_in(host.name, hostvars[host.name])
        ways_in.setdefault(way_in, []).append(host.name)
        try:
            address = ipaddress.IPv4Address(raw)
        except ValueError:
            continue  # a name or an IPv6 address: not ours to judge
        if host.network is not None and address in host.network:
            yield (
                f"{host.name}: ansible_host {address} lies in the virtual network {host.network}: "
                "Ansible needs a way in that does not depend on ropeway."
            )
        for other in hosts:
            for interface in other.interfaces:
                if interface.address is None or interface.address.ip != address:
                    continue
                if other.name != host.name:
                    yield (
                        f"{other.name}: {interface.name} has the address {address}, which is the "
                        f"ansible_host of {host.name}: give one of them another address."
                    )
    for (raw, _), names in ways_in.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} have the same ansible_host {_shown(raw)}: correct all but "
                "one, or one host would be given the settings of all."
            )


def _way_in(name: str, variables: Mapping[str, Any]) -> Tuple[str, str]:
    """By which address, or name, and port Ansible reaches a host, in one spelling for each."""
    given = _value(variables, "ansible_host")
    text = str(name if given is None else given).strip().strip("[]")
    try:
        text = str(ipaddress.ip_address(text))
    except ValueError:
        text = text.lower().rstrip(".")
    return text, str(_value(variables, "ansible_port") or DEFAULT_WAY_IN_PORT)


def _address_required_problems(
    groups: Mapping[str, Sequence[str]],
    hosts: List[Host],
    hostvars: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Clients find the router by its addresses; it learns theirs from their packets."""
    for host in hosts:
        if host.name not in _members(groups, ROUTER_GROUP) or _endpoints(hostvars[host.name]):
            continue
        for interface in host.interfaces:
            if interface.address is None:
                yield (
                    f"{host.name}: interface {interface.name} has no address, but the router's are "
                    "needed by its clients: add the one that it always gets, or name it in "
                    "ropeway_endpoints."
                )


def _reachability_problems(
    groups: Mapping[str, Sequence[str]],
    hosts: List[Host],
    hostvars: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    by_name = {host.name: host for host in hosts}
    routers = [by_name[name] for name in _members(groups, ROUTER_GROUP) if name in by_name]
    router_lans = {interface.lan for router in routers for interface in router.interfaces}
    if not router_lans:
        return  # said already: no router, or a router without a readable interface
    if any(_endpoints(hostvars[router.name]) for router in routers):
        return
    for name in _members(groups, CLIENT_GROUP):
        host = by_name.get(name)
        if host is None or not host.interfaces:
            continue
        lans = [interface.lan for interface in host.interfaces]
        if not router_lans.intersection(lans):
            yield (
                f"{name}: with the LANs {_listing(sorted(map(_shown, set(lans))))} it shares no "
                f"LAN with the router {_listing([router.name for router in routers])} (LANs "
                f"{_listing(sorted(map(_shown, router_lans)))}): give it an interface on one of "
                "the router's, or the router its ropeway_endpoints."
            )


def _is_secure(variables: Mapping[str, Any]) -> bool:
    given = _value(variables, "ropeway_encapsulation")
    return str(DEFAULT_ENCAPSULATION if given is None else given) == "secure"


def _endpoints(variables: Mapping[str, Any]) -> List[str]:
    """The host's ropeway_endpoints, which only a secure network uses."""
    raw = _value(variables, "ropeway_endpoints")
    if (
        not _is_secure(variables)
        or isinstance(raw, (str, Mapping))
        or not isinstance(raw, Sequence)
    ):
        return []
    return [str(item) for item in raw]


def _secure_problems(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    for key, allowed in (("ropeway_port", PORT_RANGE), ("ropeway_rollover_s", ROLLOVER_RANGE_S)):
        value = _value(variables, key)
        if value is not None and _number(value) not in allowed:
            yield (
                f"{name}: {key} {_shown(value)} does not fit: use {allowed.start} to "
                f"{allowed.stop - 1}."
            )
    psk = _value(variables, "ropeway_psk")
    if psk and not _is_key(psk):
        yield (
            f"{name}: ropeway_psk is not the base64 text of {PSK_BYTES} bytes: take what "
            f"`openssl rand -base64 {PSK_BYTES}` prints."
        )
    yield from _offload_problems(name, _value(variables, "ropeway_offload_disable"))
    raw = _value(variables, "ropeway_endpoints")
    if raw is None:
        return
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence):
        yield f"{name}: ropeway_endpoints is no list: write items such as 203.0.113.7:51840."
        return
    for item in raw:
        if not _is_endpoint(str(item)):
            yield (
                f"{name}: {_shown(item)} in ropeway_endpoints is no address with or without a "
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
                f"{name}: {_shown(item)} in ropeway_offload_disable is no feature: use some of "
                f"{', '.join(OFFLOAD_FEATURES)}."
            )


def _max_age_problems(where: str, key: str, raw: Any) -> Iterator[str]:
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


def _cpu_latency_problems(where: str, key: str, raw: Any) -> Iterator[str]:
    allowed = CPU_LATENCY_RANGE_US
    if raw is not None and _number(raw) not in allowed:
        yield (
            f"{where}: {key} {raw!r} does not fit: use microseconds from {allowed.start} to "
            f"{allowed.stop - 1} without a unit, or leave it out."
        )


def _number(value: Any) -> int:
    digits = isinstance(value, str) and value.isascii() and value.isdigit()
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if digits or whole else -1


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


def _direct_peer_problems(
    name: str, groups: Mapping[str, Sequence[str]], variables: Mapping[str, Any]
) -> Iterator[str]:
    raw = _value(variables, "ropeway_direct_peers")
    if raw is None:
        return
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence):
        yield f"{name}: ropeway_direct_peers is no list: write names of clients."
        return
    for other in raw:
        if other == name or other not in _members(groups, CLIENT_GROUP):
            yield (
                f"{name}: {_shown(other)} in ropeway_direct_peers is no other host of "
                f"{CLIENT_GROUP}: write names of clients."
            )


def _tolerated_problems(
    hosts: Sequence[Host], hostvars: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """What ropeway_tolerated_links names and no host has."""
    known = {interface.name for host in hosts for interface in host.interfaces}
    for host in hosts:
        raw = _value(hostvars[host.name], "ropeway_tolerated_links")
        listed = raw.split(",") if isinstance(raw, str) else raw
        if listed is None:
            continue
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            yield f"{host.name}: ropeway_tolerated_links is no list of names of interfaces."
            continue
        for name in (item.strip() for item in listed):
            if name and name not in known:
                yield (
                    f"{host.name}: {name!r} in ropeway_tolerated_links is in no host's "
                    "ropeway_interfaces: correct it or take it out."
                )


def _extra_network_problems(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    raw = _value(variables, "ropeway_agent_extra_networks")
    if raw is None:
        return
    listed = [] if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence) else list(raw)
    if listed != raw or not all(isinstance(item, Mapping) for item in listed):
        yield (
            f"{name}: ropeway_agent_extra_networks is no list of mappings: write items such as "
            "{name: lab, network: 10.213.78.0/24, address: 10.213.78.1}."
        )
        return
    taken: Dict[Tuple[str, Any], str] = {
        ("device", str(_value(variables, "ropeway_device_name") or DEFAULT_DEVICE)): MAIN_NETWORK
    }
    if _is_secure(variables):
        port = _value(variables, "ropeway_port")
        taken["port", _number(DEFAULT_PORT if port is None else port)] = MAIN_NETWORK
    prefixes = {MAIN_NETWORK: _value(variables, "ropeway_network")}
    for item in listed:
        label = str(item.get("name"))
        if not NETWORK_NAME.fullmatch(label) or label == MAIN_NETWORK or label in prefixes:
            yield (
                f"{name}: {_shown(label)} can't be the name of one of "
                "ropeway_agent_extra_networks: use lower-case letters, digits and dashes, another "
                f"name for each, and not {MAIN_NETWORK}."
            )
            continue
        yield from _extra_key_problems(f"{name}, network {label}", item)
        encapsulation = str(item.get("encapsulation", DEFAULT_ENCAPSULATION))
        if encapsulation not in ENCAPSULATIONS:
            yield (
                f"{name}: network {label} has the unknown encapsulation "
                f"{_shown(encapsulation)}: use one of {', '.join(ENCAPSULATIONS)} "
                f"({CLASSIC_CAVEAT})."
            )
        device = str(item.get("device_name", f"{DEVICE_PREFIX}-{label}"))
        yield from _device_problems(
            f"{name}, network {label}",
            {"ropeway_device_name": device, "ropeway_device_mtu": item.get("device_mtu")},
        )
        yield from _cpu_latency_problems(
            f"{name}, network {label}", "its cpu_latency_us", item.get("cpu_latency_us")
        )
        yield from _max_age_problems(
            f"{name}, network {label}", "its max_age_s", item.get("max_age_s")
        )
        own: List[Tuple[str, Any]] = [("device", device)]
        if encapsulation == "secure":
            own.append(("port", _number(item.get("port", DEFAULT_PORT))))
        for what in own:
            if what in taken:
                yield (
                    f"{name}: networks {taken[what]} and {label} have the same {what[0]} "
                    f"{what[1]}: give each its own."
                )
            taken.setdefault(what, label)
        yield from _extra_prefix_problems(name, label, item, prefixes)
        prefixes[label] = item.get("network")


def _extra_key_problems(where: str, item: Mapping[str, Any]) -> Iterator[str]:
    listed = item.get("peers")
    peers = listed if isinstance(listed, list) else []
    for entry, keys in ((item, EXTRA_NETWORK_KEYS), *((peer, EXTRA_PEER_KEYS) for peer in peers)):
        if not isinstance(entry, Mapping):
            yield f"{where}: {_shown(entry)} in its peers is no mapping: write items with a host."
            continue
        of_peer = "" if entry is item else " in an item of its peers"
        for key in entry:
            if key not in keys:
                near = difflib.get_close_matches(str(key), keys, 1)
                advice = f"did you mean {near[0]}?" if near else f"use {_listing(keys)}."
                yield f"{where}: the key {_shown(key)}{of_peer} is unknown: {advice}"


def _extra_prefix_problems(
    name: str, label: str, item: Mapping[str, Any], prefixes: Mapping[str, Any]
) -> Iterator[str]:
    raw = item.get("network")
    sentence = _network_problem(None if raw is None else str(raw))
    if sentence:
        yield f"{name}, network {label}: {sentence.replace('ropeway_network', 'its network')}"
        return
    network = ipaddress.IPv4Network(str(raw))
    for other, prefix in prefixes.items():
        if prefix is None or _network_problem(str(prefix)):
            continue
        if network.overlaps(ipaddress.IPv4Network(str(prefix))):
            yield (
                f"{name}: networks {other} ({prefix}) and {label} ({network}) overlap: give each "
                "its own prefix."
            )
    try:
        address = ipaddress.IPv4Address(str(item.get("address")))
    except ValueError:
        yield (
            f"{name}, network {label}: {_shown(item.get('address'))} is no IPv4 address: write it "
            "without a prefix length."
        )
        return
    yield from _placement_problems(f"{name}, network {label}", "its address", address, network)


def _kept(
    recorded: Dict[str, ipaddress.IPv4Address],
    names: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
) -> Dict[str, ipaddress.IPv4Address]:
    """The recorded addresses that stay taken: on a secure network, those of the hosts ``names``."""
    if names and all(_is_secure(hostvars[name]) for name in names):
        return {name: address for name, address in recorded.items() if name in names}
    return recorded


def _read_record(
    record: Any, record_path: str
) -> Tuple[Dict[str, ipaddress.IPv4Address], List[str]]:
    """The addresses of all.vars.ropeway_recorded_addresses, and what is wrong with them."""
    if record is None:
        return {}, []
    try:
        entries = dict(record["all"]["vars"][RECORD_KEY])
    except (KeyError, TypeError, ValueError):
        sentence = (
            f"{record_path} holds no mapping all.vars.{RECORD_KEY}: restore it from your "
            "version control; without it hosts could get new addresses."
        )
        return {}, [sentence]
    recorded: Dict[str, ipaddress.IPv4Address] = {}
    problems = []
    for name, raw in entries.items():
        try:
            recorded[str(name)] = ipaddress.IPv4Address(str(raw))
        except ValueError:
            problems.append(
                f"{record_path}: {_shown(raw)} of {name} is no IPv4 address: correct the line."
            )
    return recorded, problems


def _virtual_address_problems(
    hosts: List[Host],
    recorded: Dict[str, ipaddress.IPv4Address],
    record_path: str,
    groups: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    owners: Dict[ipaddress.IPv4Address, List[str]] = {}
    outside: Dict[ipaddress.IPv4Network, List[str]] = {}
    present = {host.name for host in hosts}
    for host in hosts:
        known = recorded.get(host.name)
        explicit = host.virtual_address
        if explicit is not None and known is not None and explicit != known:
            yield (
                f"{host.name}: ropeway_virtual_address is {explicit}, but {record_path} gave it "
                f"{known}: put that one into the inventory, or delete the line of {host.name} in "
                "the record if the address shall change."
            )
        address = explicit or known
        if address is None:
            continue
        owners.setdefault(address, []).append(host.name)
        if host.network is not None and explicit:
            yield from _placement_problems(
                host.name, "ropeway_virtual_address", address, host.network
            )
        elif host.network is not None and any(
            _placement_problems(host.name, "", address, host.network)
        ):
            outside.setdefault(host.network, []).append(host.name)
    for network, names in outside.items():
        yield _moved_network_problem(network, names, recorded, record_path, groups)
    for address, names in owners.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} have the same ropeway_virtual_address {address}: give each "
                "host its own."
            )
    for name, address in recorded.items():
        if name not in present and address in owners:
            yield (
                f"{_listing(owners[address])}: ropeway_virtual_address {address} was given to "
                f"{name} in {record_path}: take another one, or delete the line of {name} if it "
                "is gone for good."
            )
    yield from _allocate(hosts, recorded)[1]


def _moved_network_problem(
    network: ipaddress.IPv4Network,
    names: List[str],
    recorded: Mapping[str, ipaddress.IPv4Address],
    record_path: str,
    groups: Mapping[str, Sequence[str]],
) -> str:
    one = len(names) == 1
    what = "recorded address" if one else "recorded addresses, such as"
    lines = f"the line{'' if one else 's'} of {names[0] if one else 'these hosts'}"
    if set(recorded) <= set(names):
        lines = "that file"
    return (
        f"{_owners(names, groups)}: the {what} {recorded[names[0]]} ({record_path}) can't be used "
        f"in the virtual network {network}: if ropeway_network shall change, delete {lines}, and "
        "the next run gives new addresses; if not, put the former ropeway_network back."
    )


def _placement_problems(
    name: str, origin: str, address: ipaddress.IPv4Address, network: ipaddress.IPv4Network
) -> Iterator[str]:
    first, last = network[1], network[-2]
    if address not in network:
        yield (
            f"{name}: {origin} {address} lies outside the virtual network {network}: use {first} "
            f"to {last}."
        )
    elif address == network.network_address:
        yield (
            f"{name}: {origin} {address} is the network address of {network}: use {first} to "
            f"{last}."
        )
    elif address == network.broadcast_address:
        yield (
            f"{name}: {origin} {address} is the broadcast address of {network}: use {first} to "
            f"{last}."
        )


def _allocate(
    hosts: List[Host], recorded: Dict[str, ipaddress.IPv4Address]
) -> Tuple[Dict[str, ipaddress.IPv4Address], List[str]]:
    taken = set(recorded.values())
    taken.update(host.virtual_address for host in hosts if host.virtual_address is not None)
    given: Dict[str, ipaddress.IPv4Address] = {}
    problems = []
    for host in hosts:
        address = host.virtual_address or recorded.get(host.name)
        if address is None and host.network is not None:
            address = next((free for free in host.network.hosts() if free not in taken), None)
            if address is None:
                problems.append(
                    f"{host.name}: {host.network} has no free address left for it: widen "
                    "ropeway_network."
                )
            else:
                taken.add(address)
        if address is not None:
            given[host.name] = address
    return given, problems


class FilterModule:
    """What Ansible's templates may call."""

    def filters(self) -> Dict[str, Any]:
        """The filters by the name that a template uses."""
        return {
            "ropeway_first_value": first_value,
            "ropeway_inventory_problems": inventory_problems,
            "ropeway_shared_problems": shared_problems,
            "ropeway_recorded_addresses": recorded_addresses,
            "ropeway_virtual_addresses": virtual_addresses,
        }
