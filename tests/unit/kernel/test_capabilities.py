"""What a process holds, before and after it gave all of it up, as /proc says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ropeway.kernel import capabilities, libc

HEADER = Path("/usr/include/linux/capability.h")
SETS = {"CapEff": "effective", "CapPrm": "permitted", "CapInh": "inheritable"}
SETS.update({"CapAmb": "ambient", "CapBnd": "bounding"})

SCRIPT = """
import errno, json, os, socket, subprocess
from dataclasses import asdict
from ropeway.kernel import capabilities, libc

def status(text):
    lines = dict(line.split(":", 1) for line in text.splitlines())
    found = {name: int(lines[name], 16) for name in NAMES}
    return {**found, "no_new_privs": int(lines["NoNewPrivs"])}

def seen():
    with open("/proc/thread-self/status") as file:
        return {**status(file.read()), "said": asdict(capabilities.held())}

before = seen()
PREPARE
capabilities.drop_all()
cat = subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, check=True)
try:
    os.setuid(0)
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    refused = ""
except OSError as error:
    refused = errno.errorcode[error.errno]
print(json.dumps([before, seen(), status(cat.stdout.decode()), refused]))
"""
#: As a process of a user without rights over its own capabilities.
WITHOUT_SETPCAP = """
import struct
keep = 1 << 12 | 1 << 13
libc.call("capset", capabilities.HEADER.pack(capabilities.VERSION_3, 0),
          capabilities.DATA.pack(keep, keep, keep, 0, 0, 0))
for number in (12, 13):
    libc.call("prctl", capabilities.PR_CAP_AMBIENT, 2, number, 0, 0)
assert capabilities.held().ambient == ("CAP_NET_ADMIN", "CAP_NET_RAW")
"""
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def run(prepare):
    script = SCRIPT.replace("NAMES", repr(tuple(SETS))).replace("PREPARE", prepare)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout.decode())


def named(mask):
    return [
        capabilities.NAMES[n] if n < len(capabilities.NAMES) else f"CAP_{n}"
        for n in range(capabilities.NUMBERS)
        if mask >> n & 1
    ]


@pytest.mark.parametrize("prepare", ["", pytest.param(WITHOUT_SETPCAP, marks=ROOT)])
def test_nothing_is_left_and_nothing_comes_back(prepare):
    before, after, started, refused = run(prepare)
    for seen in (before, after):
        assert {name: named(seen[name]) for name in SETS} == {
            name: seen["said"][which] for name, which in SETS.items()
        }
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert (after[name], started[name]) == (0, 0), name
    if not prepare and before["CapEff"] >> capabilities.NAMES.index("CAP_SETPCAP") & 1:
        assert after["CapBnd"] == 0
    assert after["no_new_privs"] == 1
    assert refused == "EPERM"


@pytest.mark.skipif(not HEADER.exists(), reason="needs the kernel's headers")
def test_names_are_those_of_the_kernel():
    found = dict(re.findall(r"#define (CAP_[A-Z_]+)\s+(\d+)$", HEADER.read_text(), re.M))
    for name, number in found.items():
        if int(number) < len(capabilities.NAMES):
            assert capabilities.NAMES[int(number)] == name


def test_a_refusal_of_the_kernel_is_an_os_error(monkeypatch):
    real = libc.call

    def refuse(name, *arguments):
        if name == "capset":
            raise PermissionError(1, "")
        return real(name, *arguments) if name == "capget" else 0

    monkeypatch.setattr(capabilities.libc, "call", refuse)
    with pytest.raises(PermissionError):
        capabilities.drop_all()
