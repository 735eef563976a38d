"""An inventory, filters of roles as plain modules, and ansible-playbook."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Callable

import pytest

from tests.fleet.inventory import CHECKOUT, Inventory

PLAYBOOK_LIMIT_S = 600


def load_filters(role: str, module: str) -> ModuleType:
    """Return a filter plugin of a role as a plain module."""
    return load_module(
        f"{role}_{module}", CHECKOUT / "roles" / role / "filter_plugins" / f"{module}.py"
    )


def load_module(name: str, path: Path) -> ModuleType:
    """Return a Python file of a role as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def inventory() -> Inventory:
    """Return the inventory of the lab, which has no problem."""
    return Inventory()


class Run:
    """The result of an ansible-playbook: exit status, output, seconds."""

    def __init__(self, status: int, output: str, seconds: float) -> None:
        self.status = status
        self.output = output
        self.seconds = seconds
        # Ansible wraps long messages. Tests search this text, which has no line ends.
        self.words = " ".join(output.split())


@pytest.fixture(scope="session")
def playbook(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Run ansible-playbook in the checkout, with an inventory, options and more environment."""
    beside = Path(sys.executable).with_name("ansible-playbook")
    program = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    assert program, (
        "ansible-playbook is missing: run the tests as `build/venv/bin/python -m pytest`."
    )
    local_temp = tmp_path_factory.mktemp("ansible")

    def run(inventory: Path, *options: str, book: str = "site.yml", **environment: str) -> Run:
        began = time.monotonic()
        done = subprocess.run(
            [program, "-i", str(inventory), book, *options],
            cwd=CHECKOUT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
                # A playbook that is not site.yml does not load the agent's role.
                "ANSIBLE_FILTER_PLUGINS": str(CHECKOUT / "roles/ropeway_agent/filter_plugins"),
                "ANSIBLE_LOCAL_TEMP": str(local_temp),
                "ANSIBLE_NOCOLOR": "1",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PLAYBOOK_LIMIT_S,
            check=False,
        )
        return Run(done.returncode, done.stdout, time.monotonic() - began)

    return run
