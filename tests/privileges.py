"""What a process may do and has open, as the kernel reports it: capabilities(7), proc(5).

As a program it prints that of a process as JSON: `python3 -c "$(cat tests/privileges.py)" PID`. So
it runs in machines too, which have no checkout and may have Python 3.8.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Set

#: Bits of the capability sets, include/uapi/linux/capability.h.
CAP_NET_ADMIN = 1 << 12
CAP_NET_RAW = 1 << 13
SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")
#: Standard input, output and error belong to who starts the process.
FIRST_OWN = 3
#: What the engine reads again and again, by which a copy of the machine shows.
KEPT_OPEN = (r"/proc/sys/kernel/random/boot_id", r"/sys/kernel/irq/\d+/per_cpu_count")


@dataclass(frozen=True)
class Privileges:
    """One process."""

    #: The capabilities in each of `SETS`, as bits.
    capabilities: Dict[str, int]
    threads: int
    #: How many netlink sockets it has open.
    netlink_sockets: int
    #: Paths of the regular files that it has open, those of the kernel's file systems included.
    files: List[str]

    def other_files(self, expected: Sequence[str]) -> List[str]:
        """Return the open files that fit none of the regular expressions."""
        return [path for path in self.files if not any(re.fullmatch(one, path) for one in expected)]


def of(pid: int) -> Privileges:
    """Return what a process has. Only root may look (CAP_SYS_PTRACE)."""
    process = Path("/proc", str(pid))
    fields = dict(
        line.split(":", maxsplit=1) for line in (process / "status").read_text().splitlines()
    )
    inodes = _netlink_inodes(process)
    files = []
    netlink_sockets = 0
    for descriptor in (process / "fd").iterdir():
        target = os.readlink(descriptor)
        netlink_sockets += target in inodes
        regular = stat.S_ISREG(descriptor.stat().st_mode)
        if regular and int(descriptor.name) >= FIRST_OWN:
            files.append(target)
    return Privileges(
        {name: int(fields[name], 16) for name in SETS},
        len(list((process / "task").iterdir())),
        netlink_sockets,
        sorted(files),
    )


def _netlink_inodes(process: Path) -> Set[str]:
    """Return the netlink sockets of the process's network namespace, as links of fd name them."""
    lines = (process / "net/netlink").read_text().splitlines()
    column = lines[0].split().index("Inode")
    return {f"socket:[{line.split()[column]}]" for line in lines[1:]}


if __name__ == "__main__":
    print(json.dumps(asdict(of(int(sys.argv[1])))))
