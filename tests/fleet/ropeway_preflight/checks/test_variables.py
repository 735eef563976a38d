"""Variables that an inventory may not set."""

from __future__ import annotations

from typing import Callable, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence, case_name


def removed_variable(inventory: Inventory) -> None:
    inventory["vm2"]["ropeway_agent_remotes"] = []


def unknown_variable(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_prot"] = 51900


def unknown_role_variable(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_agent_gate_timeout"] = 60


def unknown_variable_like_no_other(inventory: Inventory) -> None:
    inventory["vm0"]["ropeway_foo"] = 1


def mistyped_prefix(inventory: Inventory) -> None:
    inventory["vm0"]["ropway_psk"] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def prefix_in_capitals(inventory: Inventory) -> None:
    inventory["vm0"]["Ropeway_port"] = 51900


CASES = [
    (removed_variable, ["vm2", "ropeway_agent_remotes is now called ropeway_agent_peers"]),
    (unknown_variable, ["vm0: the variable ropeway_prot is unknown: did you mean ropeway_port?"]),
    (unknown_role_variable, ["vm0", "did you mean ropeway_agent_gate_timeout_s?"]),
    (unknown_variable_like_no_other, ["vm0", "ropeway_foo is unknown", "rename or remove it"]),
    (mistyped_prefix, ["vm0: the variable ropway_psk is unknown", "did you mean ropeway_psk?"]),
    (prefix_in_capitals, ["vm0: the variable Ropeway_port", "did you mean ropeway_port?"]),
]


@pytest.mark.parametrize(("spoil", "parts"), CASES, ids=case_name)
def test_problem_is_one_sentence(
    inventory: Inventory,
    problems: Callable[..., List[str]],
    spoil: Callable[[Inventory], None],
    parts: List[str],
) -> None:
    spoil(inventory)
    assert_one_sentence(problems(inventory), parts)


def test_variables_of_other_roles_are_not_a_problem(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    for name in ("gateway_port", "gateway_psk", "railway_network", "rope_count", "port", "_", "-"):
        inventory["vm0"][name] = 1
    for name in ("ropeway_recorded_keys", "ropeway_preflight_addresses", "ropeway_agent_keys"):
        inventory["vm0"][name] = {}
    assert problems(inventory) == []
