"""Checks the variables of the roles against their meta/argument_specs.yml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Iterator, List

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .reading import read_value


def option_problems(
    names: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Yield a problem for each variable of a role that has the wrong type or an unknown value.

    One process checks all hosts here, instead of each role on each host. A variable that cannot be
    read yet, because it needs facts, is checked by the task that uses it.
    """
    for name in names:
        given = {}
        for key in hostvars[name]:
            unreadable: List[str] = []
            if key in options:
                value = read_value(hostvars[name], key, str(key), unreadable)
                if not unreadable:
                    given[str(key)] = value
        validator = ArgumentSpecValidator({key: dict(options[key]) for key in given})
        for sentence in validator.validate(given, validate_role_argument_spec=True).error_messages:
            yield f"{name}: {sentence.rstrip('.')}."
