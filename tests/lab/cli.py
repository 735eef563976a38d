"""The command line: `python3 -m tests.lab [--prefix P] [--topology FILE] COMMAND`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

from . import deploy, network, progress
from .demo import Demo
from .errors import LabError
from .lab import DEFAULT_PREFIX, Lab, others
from .machines import CHECKOUT
from .roots import sweep_temporary
from .topology import HOUSE, MANAGEMENT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.lab", description="Real hosts on real LANs.")
    parser.add_argument("--prefix", help=f"of every name it makes; {DEFAULT_PREFIX} if not given")
    parser.add_argument("--topology", type=Path, default=HOUSE, metavar="FILE", help="JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="make the LANs and boot the machines, fresh")
    commands.add_parser(
        "down",
        help="remove all of it; the cached roots stay",
        description="Without --prefix it also removes whatever was made by processes that are no "
        "more: labs of other prefixes, roots of tests that were killed.",
    )
    commands.add_parser("status", help="what there is")
    rollout = commands.add_parser("deploy", help="run site.yml over SSH")
    rollout.add_argument("--inventory", type=Path, default=CHECKOUT / "inventories" / "lab")
    rollout.add_argument("more", nargs="*", metavar="-- OPTION", help="for ansible-playbook")
    demo = commands.add_parser("demo", help="cut each link under a steady stream and measure")
    demo.add_argument("--from", dest="source", default="vm0")
    demo.add_argument("--to", dest="target", default="vm2")
    demo.add_argument("--quick", action="store_true", help="cut the two hosts' own links only")
    run = commands.add_parser("run", help="run a command inside a machine")
    run.add_argument("host")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    ssh = commands.add_parser("ssh", help="a shell, or one command, over SSH")
    ssh.add_argument("host")
    ssh.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    reboot = commands.add_parser("reboot", help="let a machine reboot and wait until it is up")
    reboot.add_argument("host")
    manners = "; ".join(f"{name}: {meaning}" for name, meaning in network.MANNERS.items())
    cut = commands.add_parser("cut", help="cut a host's link to a LAN", epilog=manners)
    restore = commands.add_parser("restore", help="mend a host's link to a LAN")
    for command in (cut, restore):
        command.add_argument("host")
        command.add_argument("lan", help=f"a LAN, or {MANAGEMENT}, which SSH uses")
    cut.add_argument("--manner", choices=list(network.MANNERS), default="silent")
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    """Carry out one command; 0 if it went well, 1 after a sentence on stderr, 130 on Ctrl-C."""
    options = _parser().parse_args(argv)
    try:
        if os.geteuid() != 0:
            raise LabError("The lab makes machines and bridges: run it as root, or with sudo.")
        return _carry_out(options)
    except LabError as error:
        print(f"tests.lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tests.lab: interrupted", file=sys.stderr)
        return 130


def _carry_out(options: argparse.Namespace) -> int:
    lab = Lab(options.prefix or DEFAULT_PREFIX, options.topology)
    if options.command == "up":
        lab.up()
    elif options.command == "down":
        lab.down()
        if options.prefix is None:
            _remove_abandoned(lab.prefix)
        progress.say(f"Nothing of {lab.prefix.rstrip('-')} is left")
    elif options.command == "status":
        return _status(lab)
    elif options.command == "deploy":
        deploy.deploy(options.inventory, options.more)
    elif options.command == "demo":
        demo = Demo(lab, options.source, options.target, router_ends=not options.quick)
        return 0 if demo.run() else 1
    elif options.command == "run":
        command = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
        return subprocess.call(lab.machine(options.host).enter(command or ["bash", "-l"]))
    elif options.command == "ssh":
        return subprocess.call(lab.keys.ssh(lab.machine(options.host).host, *options.argv))
    elif options.command == "reboot":
        with progress.step(f"Rebooting {options.host}"):
            lab.machine(options.host).reboot()
    elif options.command == "cut":
        lab.cut(options.host, options.lan, options.manner)
    elif options.command == "restore":
        lab.restore(options.host, options.lan)
    return 0


def _remove_abandoned(prefix: str) -> None:
    for other in others(prefix):
        if other.owned():
            progress.say(f"{other.prefix.rstrip('-')} stays: the process that made it still runs")
        else:
            other.down()
    for directory in sweep_temporary():
        progress.say(f"Removed {directory}, which a killed process had left")


def _status(lab: Lab) -> int:
    for machine in lab.machines.values():
        leader = machine.leader()
        state = "down" if leader is None else f"up, process {leader}"
        print(f"{machine.name:8} {machine.host.management:15} {state}")
    for left in lab.leftovers():
        print(f"  {left}")
    return 0 if all(machine.leader() for machine in lab.machines.values()) else 1
