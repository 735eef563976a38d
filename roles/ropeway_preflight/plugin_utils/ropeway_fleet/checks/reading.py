"""Reads the variables of all hosts, and reports those that cannot be templated or decrypted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Dict, Iterator, List, Tuple

from ansible.errors import AnsibleError
from jinja2.exceptions import TemplateError

from ..constants import ALL_GROUP
from ..wording import OUTPUT_MAX_CHARS, shown
from .groups import hosts_in
from .variables import INVENTORY_VARIABLES, VARIABLE_PREFIX

# Variables of Ansible that the checks read: how it connects to the host.
CONNECTION_VARIABLES = ("ansible_host", "ansible_port")
READ_ERRORS = (AnsibleError, TemplateError)


def read_variables(
    names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], known: Sequence[str]
) -> Tuple[Dict[str, Dict[str, Any]], List[str]]:
    """Return the variables of each host by name, and a problem for each that cannot be read.

    Ansible templates a variable on every access, so each is read once. A variable that no check
    reads has the value None; its name is still checked.
    """
    checked = (*INVENTORY_VARIABLES, "ropeway_agent_extra_networks", *CONNECTION_VARIABLES)
    read: Dict[str, Dict[str, Any]] = {}
    problems: List[str] = []
    for name in names:
        read[name] = {}
        try:
            variables = hostvars[name]
            keys = [str(key) for key in variables]
        except READ_ERRORS as error:
            problems.append(f"{name}: its variables cannot be read: {_why_unreadable(error)}")
            continue
        for key in keys:
            read[name][key] = None
            if key in checked:
                found: List[str] = []
                read[name][key] = read_value(variables, key, key, found)
                problems += [f"{name}: {sentence}" for sentence in found]
            elif key in known:
                problems += _early_problems(name, variables, key)
    return read, problems


def first_value(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]], key: str
) -> str:
    """Return a variable of the fleet's first host as text; "" if it has none or cannot be read."""
    for name in hosts_in(groups, ALL_GROUP)[:1]:
        try:
            return str(hostvars[name].get(key) or "")
        except READ_ERRORS:
            return ""
    return ""


def read_value(holder: Any, key: Any, where: str, problems: List[str]) -> Any:
    """Return ``holder[key]``, templated to its depths; None in place of what cannot be read.

    ``where`` names the value in the sentences that are added to ``problems``.
    """
    try:
        value = holder[key]
        if isinstance(value, Mapping):
            return {
                str(inner): read_value(value, inner, f"{where}, {shown(inner)}", problems)
                for inner in list(value)
            }
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            return [
                read_value(value, position, f"{where}, item {position + 1}", problems)
                for position in range(len(value))
            ]
        # Ansible's marker for a failed template raises only when it is used.
        str(value)
    except READ_ERRORS as error:
        problems.append(f"{where} cannot be read: {_why_unreadable(error)}")
        return None
    return value


def _early_problems(name: str, variables: Mapping[str, Any], key: str) -> Iterator[str]:
    """Yield problems of a role's variable that facts and the role itself cannot solve later."""
    found: List[str] = []
    read_value(variables, key, key, found)
    for sentence in found:
        needs = re.search(r"cannot be read: it needs '([^']+)'", sentence)
        lacking = needs is not None and not needs[1].startswith((VARIABLE_PREFIX, "ansible_", "_"))
        if lacking or "vault password" in sentence:
            yield f"{name}: {sentence}"


def _why_unreadable(error: Exception) -> str:
    """Return the reason and the remedy, taken from Ansible's message."""
    message = str(error)
    undefined = re.search(r"'([^']+)' is undefined", message)
    if undefined:
        return (
            f"it needs '{undefined[1]}', which is not defined for this host: define it, or correct "
            "the name."
        )
    if "vault" in message.lower() or "decrypt" in message.lower():
        return (
            "it is encrypted, and no vault password decrypts it: run again with --ask-vault-pass, "
            "or with --vault-password-file and the right file."
        )
    words = " ".join(message.split()).replace("A captured exception marker was tripped: ", "")
    return f"Ansible says {words[:OUTPUT_MAX_CHARS]!r}: correct it."
