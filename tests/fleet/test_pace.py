"""The cost of a roll-out in a growing fleet: a count where possible, otherwise a ratio."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import yaml

from ropeway_fleet.checks.inventory import inventory_problems
from tests.fleet.inventory import CHECKOUT, fleet_of
from tests.fleet.test_playbook import ONLY_INVENTORY

FEW, MANY = 9, 81
LAB_HOSTS = 3
RECAP = re.compile(r"^(r\d+)\s+: ok=(\d+) .*skipped=(\d+)", re.MULTILINE)
# A process for a step on a host takes about 30 ms of a slow machine, and Ansible starts in 2 s.
SECONDS_RATIO_MAX = 4


def check(playbook: Callable[..., Any], folder: Path, number: int) -> Tuple[Dict[str, int], float]:
    """Return the tasks of each host in a check of the inventory, and the seconds of all."""
    run = playbook(fleet_of(number - LAB_HOSTS).write(folder / str(number)), *ONLY_INVENTORY)
    assert run.status == 0, run.output
    assert "Find every problem of the inventory" in run.output
    # A host without a task is not in the recap.
    steps = {name: int(ok) + int(skipped) for name, ok, skipped in RECAP.findall(run.output)}
    return steps, run.seconds


def test_the_check_of_an_inventory_does_not_ask_host_by_host(
    playbook: Callable[..., Any], tmp_path: Path
) -> None:
    few, few_s = check(playbook, tmp_path, FEW)
    many, many_s = check(playbook, tmp_path, MANY)
    # The two are those that see at each batch whether a host was lost, once for a batch.
    assert max(*few.values(), *many.values()) <= 2
    assert sum(many.values()) <= sum(few.values()) + MANY // 10
    print(f"{FEW} hosts {few_s:.1f} s, {MANY} hosts {many_s:.1f} s")
    assert many_s < SECONDS_RATIO_MAX * few_s


class Counted(Dict[str, Any]):
    """Variables of hosts that count the accesses to a host."""

    asked = 0

    def __getitem__(self, key: str) -> Any:
        self.asked += 1
        return super().__getitem__(key)


def test_variables_are_asked_for_as_often_as_there_are_hosts() -> None:
    """Ansible merges a host's variables on every access."""
    for number in (FEW, MANY):
        inventory = fleet_of(number - LAB_HOSTS)
        hostvars = Counted(inventory.hostvars)
        assert inventory_problems(inventory.groups, hostvars) == []
        assert hostvars.asked <= 3 * number


def test_whether_anybody_needs_keys_is_found_out_once() -> None:
    """The fact reads all hosts; as a condition of each task it would read them n x n times."""
    plays = yaml.safe_load((CHECKOUT / "playbooks" / "site.yml").read_text())
    tasks = [task for play in plays for task in play.get("tasks", [])]
    users = [task for task in tasks if task.get("when") == "__ropeway_agent_needs_keys"]
    assert len(users) == 2
    (found,) = [
        task
        for task in tasks
        if "__ropeway_agent_needs_keys" in task.get("ansible.builtin.set_fact", {})
    ]
    assert found["run_once"] is True
    assert tasks.index(found) < min(map(tasks.index, users))


def test_more_hosts_than_ansibles_five_are_driven_at_a_time() -> None:
    settings = configparser.ConfigParser()
    settings.read(CHECKOUT / "ansible.cfg")
    assert settings.getint("defaults", "forks") == 20
