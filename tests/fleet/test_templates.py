"""What the templates make of the lab's inventory, judged by the agent itself and by its schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict

import jsonschema
import pytest
import yaml

from tests.fleet.inventory import CHECKOUT, LAB, Inventory

SCHEMA = CHECKOUT / "agent" / "ropeway" / "app" / "config.schema.json"
RENDER = "tests/fleet/render.yml"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, playbook: Callable[..., Any]) -> Path:
    """A folder with NAME.ropeway.yaml and NAME.netplan.yaml of every host of the lab."""
    folder = tmp_path_factory.mktemp("rendered")
    run = playbook(LAB, "-e", f"render_to={folder}", book=RENDER)
    assert run.status == 0, run.output
    return folder


def configuration(rendered: Path, host: str) -> Dict[str, Any]:
    """The agent's configuration of a host, parsed."""
    return dict(yaml.safe_load((rendered / f"{host}.ropeway.yaml").read_text()))


@pytest.mark.parametrize("host", ["vm0", "vm1", "vm2"])
def test_agent_accepts_its_configuration(rendered: Path, host: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ropeway", "check-config", str(rendered / f"{host}.ropeway.yaml")],
        cwd=CHECKOUT / "agent",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("host", ["vm0", "vm1", "vm2"])
def test_configuration_fits_the_schema(rendered: Path, host: str) -> None:
    jsonschema.validate(configuration(rendered, host), json.loads(SCHEMA.read_text()))


def test_client(rendered: Path) -> None:
    assert configuration(rendered, "vm0") == {
        "encapsulation": "classic",
        "network": "10.0.0.0/24",
        "address": "10.0.0.1",
        "router": "10.0.0.2",
        "forward": False,
        "device": {"name": "ropeway0", "mtu": "auto"},
        "interfaces": {"include": ["enp0s3", "enp0s8"], "exclude": ["mgmt0"]},
        "remotes": [{"host": "10.0.0.2", "addresses": ["192.168.0.3", "192.168.1.3"]}],
        "control": {
            "path": "/run/ropeway/control.sock",
            "owner": None,
            "group": None,
            "mode": "0660",
        },
    }


def test_router(rendered: Path) -> None:
    router = configuration(rendered, "vm1")
    assert router["forward"] is True
    assert "router" not in router
    assert router["remotes"] == [
        {"host": "10.0.0.1", "addresses": ["192.168.0.2", "192.168.1.2"]},
        {"host": "10.0.0.3", "addresses": ["192.168.2.2", "192.168.3.2"]},
    ]


def test_netplan_names_the_lans_and_nothing_else(rendered: Path) -> None:
    plan = yaml.safe_load((rendered / "vm1.netplan.yaml").read_text())
    ethernets = plan["network"].pop("ethernets")
    assert plan == {"network": {"version": 2}}
    assert {name: entry["addresses"] for name, entry in ethernets.items()} == {
        "enp0s3": ["192.168.0.3/24"],
        "enp0s8": ["192.168.1.3/24"],
        "enp0s9": ["192.168.2.3/24"],
        "enp0s10": ["192.168.3.3/24"],
    }
    # The schema of netplan 0.99 to 0.101 knows these keys.
    known = {"renderer", "optional", "dhcp4", "addresses", "mtu"}
    assert all(set(entry) <= known and entry["optional"] for entry in ethernets.values())


def test_netplan_leaves_out_what_others_configure(
    inventory: Inventory, tmp_path: Path, playbook: Callable[..., Any]
) -> None:
    for interface in inventory["vm0"]["ropeway_interfaces"]:
        interface["configure"] = False
    del inventory.interface("vm2", "enp0s3")["address"]
    inventory.interface("vm2", "enp0s3")["configure"] = False
    run = playbook(
        inventory.write(tmp_path / "inventory"), "-e", f"render_to={tmp_path}", book=RENDER
    )
    assert run.status == 0, run.output
    plans = {
        name: yaml.safe_load((tmp_path / f"{name}.netplan.yaml").read_text())
        for name in ("vm0", "vm2")
    }
    assert plans["vm0"] == {"network": {"version": 2}}
    assert list(plans["vm2"]["network"]["ethernets"]) == ["enp0s8"]
    assert configuration(tmp_path, "vm2")["interfaces"]["include"] == ["enp0s3", "enp0s8"]
    subprocess.run(["sh", "-n", str(tmp_path / "vm0.way-back.sh")], check=True)


def test_way_back_is_a_shell_script(rendered: Path) -> None:
    subprocess.run(["sh", "-n", str(rendered / "vm1.way-back.sh")], check=True)
