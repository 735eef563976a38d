"""The public keys of the hosts: those they have, those recorded, and a change of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, List

# Ansible loads this file alone: this is where it finds the modules that the roles share.
sys.path.append(str(Path(__file__).resolve().parents[2] / "ropeway_preflight/plugin_utils"))

from ropeway_fleet.constants import ALL_GROUP, DEFAULT_ENCAPSULATION
from ropeway_fleet.values import names_in
from ropeway_fleet.wording import failure_output, quoted

# The base64 of 32 bytes: 43 characters carry 258 bits, of which the last two are zero.
PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
Keys = Mapping[str, Mapping[str, str]]


def needs_keys(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Return whether any network of any host is secure."""
    used = set()
    for name in groups.get(ALL_GROUP, []):
        used.add(hostvars[name].get("ropeway_encapsulation", DEFAULT_ENCAPSULATION))
        for network in hostvars[name].get("ropeway_agent_extra_networks") or []:
            used.add(network.get("encapsulation", DEFAULT_ENCAPSULATION))
    return "secure" in used


def is_public_key(text: Any) -> bool:
    """Return whether ``text`` is a public key: the canonical base64 of 32 bytes.

    A host may print anything, such as a template or further lines of a configuration.
    """
    return isinstance(text, str) and PUBLIC_KEY.fullmatch(text) is not None


def printed_key_problems(printed: Sequence[str], name: str) -> List[str]:
    """Return a problem for each text in ``printed`` that is not a public key."""
    return [
        f"{name} prints {quoted(text)} as its public key, which is not a key: run `ropeway "
        "pubkey` there, and check that it is the right host. Nothing was recorded."
        for text in printed
        if not is_public_key(text)
    ]


def found_keys(
    names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], fact: str
) -> Dict[str, str]:
    """Return the public keys in the variable ``fact`` of the hosts that have one.

    ValueError if one is not a public key.
    """
    found = {name: hostvars[name][fact] for name in names if hostvars[name].get(fact)}
    for name, key in found.items():
        if not is_public_key(key):
            raise ValueError(printed_key_problems([key], name)[0])
    return {name: str(key) for name, key in found.items()}


def recorded_keys(record: Any) -> Dict[str, Dict[str, str]]:
    """Return the keys of a parsed ropeway_keys.yml by host.

    A host has a public_key and, while it is changed, a next_public_key. ``record`` is None if there
    is no file. ValueError if the file has another form, or a text that is not a public key.
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
            "the file of recorded keys has no mapping all.vars.ropeway_recorded_keys of hosts "
            "with a public_key: restore it from your version control"
        ) from None
    for name, entry in known.items():
        for what, key in entry.items():
            if what not in ("public_key", "next_public_key") or not is_public_key(key):
                raise ValueError(
                    f"the file of recorded keys has {quoted(what)}: {quoted(key)} for {name}, "
                    "which is not a public key: restore it from your version control"
                )
    return known


def key_record(
    recorded: Keys, found: Mapping[str, str], names: Sequence[str]
) -> Dict[str, Dict[str, str]]:
    """Return the keys to record: for each of ``names`` the key found there, else the recorded one.

    A host whose key is being changed keeps both. Hosts that are not in ``names`` have left the
    inventory; their entries are dropped.
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
    """Return the problems of the keys found: unexpected new keys, and keys of two hosts.

    ``names`` are the hosts of the inventory. ``accepted`` is ropeway_accept_new_keys: the hosts
    that may have a new key, as a list or as a text with commas.
    """
    problems = []
    for name, key in found.items():
        entry = recorded.get(name, {})
        if entry and key not in entry.values() and name not in names_in(accepted):
            problems.append(
                f"{name} has the public key {key}, but {path} records {entry['public_key']}: if "
                f"the host was reinstalled, run again with -e ropeway_accept_new_keys={name}; "
                "if not, find out which host answers at its address."
            )
    known = {name: recorded[name]["public_key"] for name in names if name in recorded}
    known.update(found)
    owners: Dict[str, List[str]] = {}
    for name, key in known.items():
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
    """Return the hosts whose key differs from the recorded one."""
    return [
        name
        for name, key in found.items()
        if recorded.get(name) and key not in recorded[name].values()
    ]


def rotation(entry: Any, current: str, prepared: str) -> Dict[str, str]:
    """Return the stage of a change of a host's key, from its record and the keys on the host.

    ``current`` is the public key of private.key, ``prepared`` that of private.key.next or "". The
    result has ``old`` and ``next``, public keys or "", and ``stage``:

        begin     the host has no new key yet
        prepared  it has a new key beside the old one
        switched  it uses the new key; other hosts may still accept the old one
        unknown   its key is not the recorded one
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


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Any]:
        """Return each filter by its name in templates."""
        return {
            "ropeway_changed_keys": changed_keys,
            "ropeway_failure_output": failure_output,
            "ropeway_found_keys": found_keys,
            "ropeway_key_problems": key_problems,
            "ropeway_key_record": key_record,
            "ropeway_needs_keys": needs_keys,
            "ropeway_printed_key_problems": printed_key_problems,
            "ropeway_recorded_keys": recorded_keys,
            "ropeway_rotation": rotation,
        }
