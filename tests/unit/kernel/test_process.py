from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes
from ropeway.kernel import process
PR_GET_DUMPABLE = 3
before = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE)
process.forbid_dumps()
print(before, ctypes.CDLL(None).prctl(PR_GET_DUMPABLE))
"""


def test_memory_is_not_dumped_any_more():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == [b"1", b"0"]
