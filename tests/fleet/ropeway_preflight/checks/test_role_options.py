"""The roles' own variables, judged by their argument_specs."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
from jinja2.exceptions import UndefinedError

from tests.fleet.inventory import Inventory, Templated


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ropeway_agent_gate_timeout_s", "soon", "'ropeway_agent_gate_timeout_s' is of type str"),
        (
            "ropeway_underlay_renderer",
            "networkmanager",
            "value of ropeway_underlay_renderer must be",
        ),
        ("ropeway_underlay_install", "perhaps", "'ropeway_underlay_install' is of type str"),
        ("ropeway_agent_extra_networks", [{"name": "lab"}], "missing required arguments"),
    ],
)
def test_a_variable_of_a_role_that_is_not_of_its_kind_is_named_with_its_host(
    inventory: Inventory,
    problems: Callable[..., List[str]],
    variable: str,
    value: Any,
    words: str,
) -> None:
    inventory["vm2"][variable] = value
    assert any(text.startswith("vm2: ") and words in text for text in problems(inventory))


def test_a_variable_of_a_role_that_needs_facts_is_judged_where_it_is_used(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    needs_facts = UndefinedError("'ansible_facts' is undefined")
    inventory.hostvars["vm2"] = Templated(
        inventory["vm2"], ropeway_agent_gate_timeout_s=needs_facts
    )
    assert problems(inventory) == []
