"""Rolling the fleet out onto a lab, as anybody would onto hosts of his own: with site.yml."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Dict, List, Sequence

from . import progress
from .errors import LabError
from .machines import CHECKOUT

PLAYBOOK = CHECKOUT / "build" / "venv" / "bin" / "ansible-playbook"
RECAP = re.compile(r"^(\S+)\s+: (ok=\d+.*)$", re.MULTILINE)


def deploy(inventory: Path, more: Sequence[str] = ()) -> Dict[str, Dict[str, int]]:
    """Run site.yml, showing its output; return Ansible's recap: host -> {"changed": 0, ...}.

    Raises LabError if it fails, or if no host was in it.
    """
    if not PLAYBOOK.exists():
        raise LabError(f"{PLAYBOOK} is missing: `make lab` installs it.")
    argv = [str(PLAYBOOK), "-i", str(inventory), "site.yml", *more]
    output: List[str] = []
    with progress.step("ansible-playbook site.yml"):
        with subprocess.Popen(
            argv,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as playbook:
            assert playbook.stdout is not None
            for line in playbook.stdout:
                print(line, end="", flush=True)
                output.append(line)
        if playbook.returncode != 0:
            raise LabError(f"ansible-playbook site.yml failed with {playbook.returncode}.")
    recap = {
        host: {key: int(value) for key, value in (pair.split("=") for pair in counts.split())}
        for host, counts in RECAP.findall("".join(output))
    }
    if not recap:
        raise LabError(f"{inventory} has no host for site.yml.")
    return recap
