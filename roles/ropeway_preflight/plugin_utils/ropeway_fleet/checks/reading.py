"""The hosts' variables, read once each, and those that can't be read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Dict, Iterator, List, Tuple

from ansible.errors import AnsibleError
from jinja2.exceptions import TemplateError

from ..constants import ALL_GROUP
from ..wording import WORDS_MAX, shown
from .groups import hosts_in
from .variables import INVENTORY_VARIABLES, VARIABLE_PREFIX

# What of other variables the checks read.
WAY_IN_VARIABLES = ("ansible_host", "ansible_port")
READ_ERRORS = (AnsibleError, TemplateError)


def read_variables(
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
                read[name][key] = read_value(variables, key, key, found)
                problems += [f"{name}: {sentence}" for sentence in found]
            elif key in known:
                problems += _early_problems(name, variables, key)
    return read, problems


def first_value(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]], key: str
) -> str:
    """A variable of the fleet's first host as text; empty where it has none that can be read."""
    for name in hosts_in(groups, ALL_GROUP)[:1]:
        try:
            return str(hostvars[name].get(key) or "")
        except READ_ERRORS:
            return ""
    return ""


def read_value(holder: Any, key: Any, where: str, problems: List[str]) -> Any:
    """``holder[key]`` with everything in it templated; None for what can't be."""
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
        # What stands for a template that failed says so only when it is used.
        str(value)
    except READ_ERRORS as error:
        problems.append(f"{where} can't be read: {_why_unreadable(error)}")
        return None
    return value


def _early_problems(name: str, variables: Mapping[str, Any], key: str) -> Iterator[str]:
    """What can't be read of a variable that a role reads later, when it may know more."""
    found: List[str] = []
    read_value(variables, key, key, found)
    for sentence in found:
        needs = re.search(r"can't be read: it needs '([^']+)'", sentence)
        lacking = needs is not None and not needs[1].startswith((VARIABLE_PREFIX, "ansible_", "_"))
        if lacking or "vault secret" in sentence:
            yield f"{name}: {sentence}"


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
