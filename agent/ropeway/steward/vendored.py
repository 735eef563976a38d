"""Where pyroute2 is: in the package's own folder, or in the Python of a checkout.

The release's own python3-pyroute2 may be one that cannot delete routes on newer kernels, so the
folder goes first. It is on no search path: nothing else on the host finds what is in it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Dict, Optional

from ropeway.app.errors import StartError

#: `/usr/lib/ropeway/vendored` where the package is installed; a checkout does not have it.
FOLDER = Path(__file__).resolve().parents[2] / "vendored"
#: The version in the package, `.config/requirements/vendored.txt`.
PYROUTE2_VERSION = "0.7.12"


def provide() -> None:
    """Let this process import modules of pyroute2, such as `pyroute2.iproute.linux`.

    To be called before the first such import; more calls do nothing. `StartError` where there is no
    pyroute2. Takes a few milliseconds.

    `pyroute2` itself stays empty, `from pyroute2 import IPRoute` finds nothing: its `__init__`
    imports databases, servers and programs, which take 16 MiB and twice the time of all the rest.
    """
    if "pyroute2" in sys.modules:
        return
    spec = PathFinder.find_spec("pyroute2", [str(FOLDER), *sys.path])
    if spec is None:
        raise StartError(
            "the Python module pyroute2 is missing: run `pip install "
            f"pyroute2=={PYROUTE2_VERSION}` in the environment that the agent runs in"
        )
    sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)
    _import_without("pyroute2.lab", "unittest")


def _import_without(name: str, left_out: str) -> None:
    """Import a module that does without `left_out`, here with what that would load: asyncio."""
    modules: Dict[str, Optional[ModuleType]] = sys.modules  # type: ignore[assignment]
    before = modules.get(left_out)
    modules[left_out] = None
    try:
        importlib.import_module(name)
    finally:
        if before is None:
            del modules[left_out]
        else:
            modules[left_out] = before
