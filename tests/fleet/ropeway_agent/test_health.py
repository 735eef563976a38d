"""Links that must work before a roll-out continues, and those that may be down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_agent.statuses import status

GATE = "tests/fleet/ropeway_agent/gate.yml"


def gate(playbook: Callable[..., Any], folder: Path, vm0: Dict[str, Any], **extra: Any) -> Any:
    inventory = Inventory()
    whole = status(enp0s3="", enp0s8="")
    variables = {"statuses": {"vm0": vm0, "vm2": whole}, "folder": str(folder / "bin"), **extra}
    (folder / "bin").mkdir()
    given = json.dumps(variables)
    return playbook(inventory.write(folder / "inventory"), "-e", given, book=GATE)


def test_roll_out_stops_at_a_link_that_carries_nothing(
    playbook: Callable[..., Any], tmp_path: Path
) -> None:
    run = gate(playbook, tmp_path, status(enp0s3="", enp0s8="it is down"))
    assert run.status != 0, run.output
    assert (
        "vm0 has no redundancy over enp0s8: nothing is carried there after 1 s (enp0s8" in run.words
    ), run.output
    assert "it is down" in run.words
    assert "-e ropeway_tolerated_links=enp0s8" in run.words
    assert "vm2 has no redundancy" not in run.words


def test_link_that_may_be_off_is_a_warning(playbook: Callable[..., Any], tmp_path: Path) -> None:
    run = gate(
        playbook,
        tmp_path,
        status(enp0s3="", enp0s8="it is not there"),
        ropeway_tolerated_links="enp0s8,wwan0",
    )
    assert run.status == 0, run.output
    assert "WARNING: vm0 has links that carry nothing" in run.words, run.output
    assert 'tolerated: enp0s8 "it is not there"' in run.words.replace("\\", ""), run.output
    assert "WARNING: vm2" not in run.words


def test_agent_with_all_links_passes(playbook: Callable[..., Any], tmp_path: Path) -> None:
    run = gate(playbook, tmp_path, status(enp0s3="", enp0s8=""))
    assert run.status == 0, run.output
    assert "WARNING: vm" not in run.words
