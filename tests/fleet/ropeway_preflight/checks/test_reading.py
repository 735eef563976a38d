"""Variables that cannot be read."""

from __future__ import annotations

from typing import Callable, List

from ansible.errors import AnsibleError
from jinja2.exceptions import UndefinedError

from tests.fleet.inventory import Templated, fleet_of


def test_what_a_group_can_not_read_is_one_line_and_hides_no_other(
    problems: Callable[..., List[str]],
) -> None:
    inventory = fleet_of(78)
    for name in inventory.groups["robots"]:
        inventory.hostvars[name] = Templated(
            inventory[name],
            ropeway_endpoints=UndefinedError("'nord_ip' is undefined"),
            ropeway_psk=AnsibleError("Attempting to decrypt but no vault secrets found."),
        )
    inventory["vm0"]["ropeway_prot"] = 51900
    first, second, third = problems(inventory)
    assert first.startswith("group robots (78 hosts): ropeway_endpoints cannot be read: it needs")
    assert "'nord_ip', which is not defined for this host" in first
    assert second.startswith("group robots (78 hosts): ropeway_psk cannot be read: it is encrypted")
    assert third.startswith("vm0: the variable ropeway_prot is unknown")
