"""What ropeway_agent checks on the controller before it changes a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from tests.fleet.hostile_host import Host, tasks_of


@pytest.mark.parametrize(
    ("variable", "passes"), [("ropeway_agent_remotes", False), ("ropeway_agent_peers", True)]
)
def test_a_variable_of_a_former_version_stops_the_role_with_its_new_name(
    tmp_path: Path, playbook: Callable[..., Any], variable: str, passes: bool
) -> None:
    (tmp_path / "ropeway_1.0_all.deb").touch()
    run = Host(tmp_path, playbook).run(
        tasks_of("ropeway_agent", "preflight"),
        "ropeway_agent",
        ropeway_agent_package=str(tmp_path / "ropeway_1.0_all.deb"),
        **{variable: []},
    )
    assert (run.status == 0) == passes, run.output
    sentence = "localhost: ropeway_agent_remotes is now called ropeway_agent_peers: rename it."
    assert (sentence not in run.words) == passes
