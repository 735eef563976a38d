"""What the agent's configuration takes from the other hosts of the inventory."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, List, Tuple

# The file name that dpkg-deb and debhelper give: NAME_VERSION_ARCHITECTURE.deb.
PACKAGE_NAME = re.compile(r"(?:^|/)ropeway_(?P<version>[^_/]+)_all\.deb$")

ALL_GROUP = "ropeway"
ROUTER_GROUP = "ropeway_routers"
CLIENT_GROUP = "ropeway_clients"

# The name of the first network: its file is ropeway.yaml, its unit ropeway.service.
MAIN_NETWORK = "ropeway"
DEFAULT_ENCAPSULATION = "secure"
DEFAULT_PORT = 51840
PSK_FILE = "/etc/ropeway/psk"

# The base64 of 32 bytes: 43 characters carry 258 bits, and the two that are left over are zero.
PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
# Of what a host has said, as much is shown.
WORDS_MAX = 200

Keys = Mapping[str, Mapping[str, str]]


def peers(
    host: str,
    others: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    addresses: Mapping[str, str],
    encapsulation: str = "classic",
    keys: Any = None,
    greet: bool = True,
) -> List[Dict[str, Any]]:
    """The section ``peers`` of the agent's configuration on ``host``.

    One item for each of ``others``: its virtual address out of ``addresses`` and its real addresses
    on the LANs that it shares with ``host``, in the order of its own inventory. An interface
    without an address (``configure: false``) is left out: the other end learns it.

    With ``secure`` an item has the public keys that ``keys`` records (see `key_record`), a host
    without one is left out, and ``ropeway_endpoints`` of the other host follow the addresses;
    without ``greet`` it has no addresses, since the other end comes by itself. With ``classic`` a
    host that shares no LAN is left out.
    """
    found = []
    for other in others:
        if other == host:
            continue
        item: Dict[str, Any] = {"host": addresses[other]}
        if encapsulation == "secure":
            if not (keys or {}).get(other):
                continue
            item.update(keys[other])
            reached = _endpoints(host, other, hostvars) if greet else []
            if reached:
                item["addresses"] = reached
        else:
            item["addresses"] = _shared_addresses(host, other, hostvars)
            if not item["addresses"]:
                continue
        found.append(item)
    return found


def direct_peers(
    host: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> List[str]:
    """The clients with which ``host`` has a strand of its own: its ropeway_direct_peers, and those
    who list it in theirs, in the order of the inventory."""
    mine = _names(hostvars[host].get("ropeway_direct_peers"))
    return [
        other
        for other in groups.get(CLIENT_GROUP, [])
        if other != host
        and (other in mine or host in _names(hostvars[other].get("ropeway_direct_peers")))
    ]


def knowers(
    host: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> List[str]:
    """The hosts whose configuration holds the public key of ``host``, in inventory order."""
    routers, clients = groups.get(ROUTER_GROUP, []), groups.get(CLIENT_GROUP, [])
    known = list(clients) if host in routers else list(routers)
    if host in clients:
        known += direct_peers(host, groups, hostvars)
    for other in groups.get(ALL_GROUP, []):
        for network in hostvars[other].get("ropeway_agent_extra_networks") or []:
            if any(peer.get("name") == host for peer in network.get("peers") or []):
                known.append(other)
    return [other for other in groups.get(ALL_GROUP, []) if other in known and other != host]


def networks(
    main: Mapping[str, Any], extras: Sequence[Mapping[str, Any]], keys: Any, has_psk: bool = False
) -> List[Dict[str, Any]]:
    """Everything that the templates need to know of each network of a host, the main one first.

    ``extras`` are the items of ropeway_agent_extra_networks; what they leave out they have from
    ``main`` or by default. A peer with a ``name`` gets that host's public keys, and is left out
    while it has none. With ``has_psk`` each peer of a secure network gets the psk_file that it does
    not have already.
    """
    found = []
    for given in (main, *extras):
        name = str(given["name"])
        network: Dict[str, Any] = {
            "encapsulation": DEFAULT_ENCAPSULATION,
            "router": "",
            "forward": False,
            "device_name": f"ropeway-{name}",
            "device_mtu": "auto",
            "device_precedence": main["device_precedence"],
            "include": main["include"],
            "exclude": main["exclude"],
            "addresses": main["addresses"],
            "port": DEFAULT_PORT,
            "rollover_s": main["rollover_s"],
            "max_age_s": main["max_age_s"],
            "offload_disable": main["offload_disable"],
            "cpu_latency_us": main["cpu_latency_us"],
            "expected_peers": [],
            "expected_links": [],
            **given,
            "config": f"/etc/ropeway/{name}.yaml",
            "unit": "ropeway.service" if name == MAIN_NETWORK else f"ropeway@{name}.service",
            "control": given.get("control") or {**main["control"], "path": control_path(name)},
        }
        secure = network["encapsulation"] == "secure"
        network["names"] = {
            peer["host"]: peer["name"] for peer in given.get("peers") or [] if peer.get("name")
        }
        network["peers"] = [
            _peer(peer, keys or {}, secure, has_psk)
            for peer in given.get("peers") or []
            if not secure or peer.get("public_key") or (keys or {}).get(peer.get("name"))
        ]
        found.append(network)
    return found


def run_questions(networks: Sequence[Mapping[str, Any]]) -> Dict[str, List[str]]:
    """The commands by which look.py learns how the agents of `networks` run.

    "status NAME" asks the agent, "active NAME" and "enabled NAME" systemd.
    """
    found = {}
    for network in networks:
        name, unit = network["name"], network["unit"]
        path = network["control"]["path"]
        found[f"status {name}"] = ["ropeway", "status", "--json", "--control", path]
        found[f"active {name}"] = ["systemctl", "is-active", unit]
        found[f"enabled {name}"] = ["systemctl", "is-enabled", unit]
    return found


def control_path(name: str) -> str:
    """The control socket of an additional network, in its unit's own folder."""
    return f"/run/ropeway-{name}/control.sock"


def needs_keys(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Whether any network of any host is secure."""
    used = set()
    for name in groups.get(ALL_GROUP, []):
        used.add(hostvars[name].get("ropeway_encapsulation", DEFAULT_ENCAPSULATION))
        for network in hostvars[name].get("ropeway_agent_extra_networks") or []:
            used.add(network.get("encapsulation", DEFAULT_ENCAPSULATION))
    return "secure" in used


def is_public_key(text: Any) -> bool:
    """Whether this is a public key, the canonical base64 of 32 bytes, and nothing else.

    A host may print anything, also what is a template or more lines of a configuration.
    """
    return isinstance(text, str) and PUBLIC_KEY.fullmatch(text) is not None


def printed_key_problems(printed: Sequence[str], name: str) -> List[str]:
    """What a host has printed as its public keys and is none, as sentences; empty if all are."""
    return [
        f"{name} prints {shown(text)} as its public key, which is none: look at `ropeway pubkey` "
        "and at who answers there. Nothing was recorded."
        for text in printed
        if not is_public_key(text)
    ]


def shown(said: Any) -> str:
    """What a host has said, in quotes, without control characters, and no more than WORDS_MAX."""
    text = " ".join(str(said).split())
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return json.dumps(printable[:WORDS_MAX] + ("..." if len(printable) > WORDS_MAX else ""))


def status_of(said: Any) -> Dict[str, Any]:
    """What ``ropeway status --json`` of a host says; empty where it is no such thing."""
    try:
        status = json.loads(said)
    except (TypeError, ValueError, RecursionError):
        return {}
    return status if isinstance(status, dict) else {}


def found_keys(
    names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], fact: str
) -> Dict[str, str]:
    """The public keys that the hosts ``names`` have shown in ``fact``, as far as they have.

    ValueError for what is no public key.
    """
    found = {name: hostvars[name][fact] for name in names if hostvars[name].get(fact)}
    for name, key in found.items():
        if not is_public_key(key):
            raise ValueError(printed_key_problems([key], name)[0])
    return {name: str(key) for name, key in found.items()}


def recorded_keys(record: Any) -> Dict[str, Dict[str, str]]:
    """What ropeway_keys.yml records, parsed: a host's public_key and, for a while, next_public_key.

    None, for a file that is not there, records nothing. ValueError if it is no such file, or if
    what it records is no public key.
    """
    if record is None:
        return {}
    try:
        entries = dict(record["all"]["vars"]["ropeway_recorded_keys"])
        known = {
            str(name): {**entry, "public_key": entry["public_key"]}
            for name, entry in entries.items()
        }
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "the file of recorded keys holds no mapping all.vars.ropeway_recorded_keys of hosts "
            "with a public_key: restore it from your version control"
        ) from None
    for name, entry in known.items():
        for what, key in entry.items():
            if what not in ("public_key", "next_public_key") or not is_public_key(key):
                raise ValueError(
                    f"the file of recorded keys has {shown(what)}: {shown(key)} for {name}, which "
                    "is no public key: restore it from your version control"
                )
    return known


def key_record(
    recorded: Keys, found: Mapping[str, str], names: Sequence[str]
) -> Dict[str, Dict[str, str]]:
    """What the record has to hold: for each of ``names``, the key found on it, else the recorded.

    A host that is in the middle of a change of its key keeps both. Hosts that are not among
    ``names`` have left the inventory, and lose their entry.
    """
    kept: Dict[str, Dict[str, str]] = {}
    for name in sorted(names):
        entry = dict(recorded.get(name, {}))
        if name in found and found[name] not in entry.values():
            entry = {"public_key": found[name]}
        if entry:
            kept[name] = entry
    return kept


def key_problems(
    recorded: Keys, found: Mapping[str, str], names: Sequence[str], accepted: Any, path: str
) -> List[str]:
    """Keys that nobody has announced, as sentences; empty if all is well.

    ``names`` are the hosts of the inventory; ``accepted`` is ropeway_accept_new_keys: names of
    hosts as a list, or as text with commas.
    """
    problems = []
    for name, key in found.items():
        entry = recorded.get(name, {})
        if entry and key not in entry.values() and name not in _names(accepted):
            problems.append(
                f"{name} has the public key {key}, but {path} records {entry['public_key']}: if "
                f"the host was installed anew, run again with -e ropeway_accept_new_keys={name}; "
                "if not, find out which host answers there."
            )
    everybody = {name: recorded[name]["public_key"] for name in names if name in recorded}
    everybody.update(found)
    owners: Dict[str, List[str]] = {}
    for name, key in everybody.items():
        owners.setdefault(key, []).append(name)
    for key, sharing in owners.items():
        if len(sharing) > 1:
            problems.append(
                f"{' and '.join(sharing)} have the same public key {key}, as copies of one disk "
                "do: remove /etc/ropeway/private.key on all but one, and run again with "
                f"-e ropeway_accept_new_keys={sharing[-1]}."
            )
    return problems


def changed_keys(recorded: Keys, found: Mapping[str, str]) -> List[str]:
    """The hosts that have another key than the recorded one."""
    return [
        name
        for name, key in found.items()
        if recorded.get(name) and key not in recorded[name].values()
    ]


def rotation(entry: Any, current: str, prepared: str) -> Dict[str, str]:
    """Where the change of a host's key stands, from its record and the keys that it has.

    ``current`` is the public key of private.key, ``prepared`` that of private.key.next or empty.
    The result has ``stage``: "begin" (no new key yet), "prepared" (there is one beside the old),
    "switched" (the host has taken it, others may still accept the old), "unknown" (its key is not
    the recorded one); and ``old`` and ``next``, public keys or empty.
    """
    recorded, announced = (
        (entry or {}).get("public_key", ""),
        (entry or {}).get("next_public_key", ""),
    )
    if current == recorded:
        return {"stage": "prepared" if prepared else "begin", "old": current, "next": prepared}
    if current and current == announced:
        return {"stage": "switched", "old": recorded, "next": current}
    return {"stage": "unknown", "old": recorded, "next": ""}


def failure_words(result: Mapping[str, Any]) -> str:
    """What a failed task said, its loop's items included, in one line."""
    words = []
    for item in result.get("results") or [result]:
        if item.get("failed") or item.get("unreachable") or item is result:
            lines = str(item.get("stderr") or item.get("msg") or "").strip().splitlines()
            words.append(shown(lines[-1])[1:-1] if lines else "no word")
    return "; ".join(words) or "no word"


def newest_package(paths: Sequence[str]) -> str:
    """The path with the highest version among ropeway_VERSION_all.deb; "" if there is none."""
    packages = [path for path in paths if PACKAGE_NAME.search(path)]
    return max(packages, key=lambda path: _version_key(package_version(path)), default="")


def package_version(path: str) -> str:
    """VERSION out of .../ropeway_VERSION_all.deb; "" if the name is another one."""
    match = PACKAGE_NAME.search(path)
    return match["version"] if match else ""


def package_sha256(path: str) -> str:
    """The SHA-256 of a file on the controller, in hexadecimal; "" if there is none."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def carrying_peers(status: Mapping[str, Any]) -> List[str]:
    """Virtual addresses of the peers in state 2 (both ways work) in what `status_of` gives."""
    peers = status.get("peers")
    return [
        peer["host"]
        for peer in (peers if isinstance(peers, list) else ())
        if isinstance(peer, dict) and peer.get("best_state") == 2 and _is_address(peer.get("host"))
    ]


def expected_links(
    host: str, others: Sequence[str], direct: Sequence[str], hostvars: Mapping[str, Any]
) -> List[str]:
    """The interfaces of ``host`` that have to carry, since one of ``others`` is reached over them.

    That is one in a LAN that both have, and one at whose address others call, as ropeway_endpoints
    of ``host`` says. Where another one has ropeway_endpoints, which any link may lead to, it is
    every interface but those in LANs that are shared with hosts of ``direct`` alone.
    """
    lans = {i["lan"] for other in others for i in hostvars[other]["ropeway_interfaces"]}
    # Nobody has to be reached over a link that may be off at the other end.
    sure = {
        interface["lan"]
        for other in others
        for interface in hostvars[other]["ropeway_interfaces"]
        if interface["name"] not in _names(hostvars[other].get("ropeway_tolerated_links"))
    }
    borne = _names(hostvars[host].get("ropeway_tolerated_links"))
    near = {i["lan"] for other in direct for i in hostvars[other]["ropeway_interfaces"]}
    anywhere = any(hostvars[other].get("ropeway_endpoints") for other in others)
    called = [_without_port(text) for text in _names(hostvars[host].get("ropeway_endpoints"))]
    return [
        str(interface["name"])
        for interface in hostvars[host]["ropeway_interfaces"]
        if interface["lan"] in (lans if interface["name"] in borne else sure)
        or (anywhere and interface["lan"] not in near)
        or (others and str(interface.get("address") or "").split("/")[0] in called)
    ]


def idle_links(status: Mapping[str, Any], names: Any) -> List[str]:
    """Those interfaces of ``names`` that carry nothing, as what `status_of` gives says."""
    established = {
        connection.get("link")
        for peer in _mappings(status, "peers")
        for connection in _mappings(peer, "connections")
        if connection.get("state") == 2 and isinstance(connection.get("link"), int)
    }
    carrying = [
        link.get("name")
        for link in _mappings(status, "links")
        if isinstance(link.get("index"), int) and link["index"] in established
    ]
    return [name for name in dict.fromkeys(_names(names)) if name not in carrying]


def link_faults(status: Mapping[str, Any], names: Any) -> str:
    """What the agent says of the links ``names``, each in quotes, for a sentence."""
    faults = {
        link.get("name"): link["fault"]
        for key in ("links", "missing_links")
        for link in _mappings(status, key)
        if isinstance(link.get("name"), str) and link.get("fault")
    }
    return ", ".join(f"{name} {shown(faults.get(name, 'no link'))}" for name in _names(names))


def _mappings(said: Mapping[str, Any], key: str) -> List[Mapping[str, Any]]:
    listed = said.get(key)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _without_port(endpoint: str) -> str:
    return endpoint.split(":")[0] if endpoint.count(":") == 1 else endpoint


def _is_address(text: Any) -> bool:
    try:
        return isinstance(text, str) and str(ipaddress.IPv4Address(text)) == text
    except ValueError:
        return False


def carried_before(status: Mapping[str, Any], network: Mapping[str, Any]) -> List[str]:
    """The carrying peers of an agent that a new configuration, an item of `networks`, leaves alone.

    None if the change is one that the other ends have to make as well before they can be heard.
    """
    known = (status.get("encapsulation", "classic"), status.get("network"))
    if known != (network["encapsulation"], network["network"]):
        return []
    if network["encapsulation"] == "secure" and status.get("port") != int(network["port"]):
        return []
    return carrying_peers(status)


def _names(listed: Any) -> List[str]:
    """Names out of a list, or out of text with commas; none out of nothing."""
    if isinstance(listed, str):
        return [name.strip() for name in listed.split(",") if name.strip()]
    return [str(name) for name in listed or []]


def _shared_addresses(
    host: str, other: str, hostvars: Mapping[str, Mapping[str, Any]]
) -> List[str]:
    lans = {interface["lan"] for interface in hostvars[host]["ropeway_interfaces"]}
    return [
        str(interface["address"]).split("/")[0]
        for interface in hostvars[other]["ropeway_interfaces"]
        if interface["lan"] in lans and interface.get("address")
    ]


def _endpoints(host: str, other: str, hostvars: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """Where ``other`` can be reached; with its port where that is not the one of ``host``."""
    own, its = (int(hostvars[name].get("ropeway_port", DEFAULT_PORT)) for name in (host, other))
    listed = _shared_addresses(host, other, hostvars)
    listed += _names(hostvars[other].get("ropeway_endpoints"))
    return [address if own == its else _with_port(address, its) for address in listed]


def _with_port(address: str, port: int) -> str:
    if address.startswith("["):
        return address
    colons = address.count(":")
    if colons == 1:
        return address
    return f"[{address}]:{port}" if colons else f"{address}:{port}"


def _peer(peer: Mapping[str, Any], keys: Keys, secure: bool, has_psk: bool) -> Dict[str, Any]:
    item = {key: value for key, value in peer.items() if key != "name" and value is not None}
    if secure:
        if "public_key" not in item:
            item.update(keys[str(peer["name"])])
        if has_psk:
            item.setdefault("psk_file", PSK_FILE)
    return item


def _version_key(version: str) -> List[Tuple[int, Tuple[int, ...]]]:
    """Sorts as Debian Policy 5.6.12 does, without epochs, which file names leave out."""
    key = []
    for number, text in re.findall(r"(\d*)([^\d]*)", version):
        # "~" before the end of the part, the end before letters, letters before other characters.
        order = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in text]
        key.append((int(number or 0), (*order, 0)))
    return key


class FilterModule:
    """What Ansible's templates may call."""

    def filters(self) -> Dict[str, Any]:
        """The filters by the name that a template uses."""
        return {
            "ropeway_carried_before": carried_before,
            "ropeway_carrying_peers": carrying_peers,
            "ropeway_changed_keys": changed_keys,
            "ropeway_direct_peers": direct_peers,
            "ropeway_expected_links": expected_links,
            "ropeway_failure_words": failure_words,
            "ropeway_found_keys": found_keys,
            "ropeway_idle_links": idle_links,
            "ropeway_key_problems": key_problems,
            "ropeway_key_record": key_record,
            "ropeway_knowers": knowers,
            "ropeway_link_faults": link_faults,
            "ropeway_names": _names,
            "ropeway_needs_keys": needs_keys,
            "ropeway_networks": networks,
            "ropeway_newest_package": newest_package,
            "ropeway_package_sha256": package_sha256,
            "ropeway_package_version": package_version,
            "ropeway_peers": peers,
            "ropeway_printed_key_problems": printed_key_problems,
            "ropeway_recorded_keys": recorded_keys,
            "ropeway_rotation": rotation,
            "ropeway_run_questions": run_questions,
            "ropeway_shown": shown,
            "ropeway_status": status_of,
        }
