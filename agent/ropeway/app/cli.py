"""The command `ropeway`."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Dict, List, Optional

from ropeway import __version__
from ropeway.app import control
from ropeway.app.config import (
    DEFAULT_CONTROL_PATH,
    DEFAULT_DEVICE_NAME,
    DEFAULT_PATH,
    ConfigError,
)

# What only some commands need is imported there: `ropeway status` has to be quick.

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: only somebody who edits the configuration can help."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command line `arguments`, those of the process by default; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except control.ControlError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader, `head` for instance, has seen enough; keep the interpreter from complaining.
        sys.stderr.close()
        return EXIT_FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ropeway",
        description="One virtual network over every link at once.",
    )
    parser.add_argument("--version", action="version", version="ropeway " + __version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")

    agent = commands.add_parser("agent", help="run the agent in the foreground")
    agent.add_argument("--config", metavar="FILE", default=DEFAULT_PATH)
    agent.set_defaults(run=_agent)

    check = commands.add_parser("check-config", help="check a configuration file")
    check.add_argument("file", metavar="FILE", nargs="?", default=DEFAULT_PATH)
    check.set_defaults(run=_check_config)

    status = commands.add_parser("status", help="show devices, hosts and connections")
    status.add_argument("--json", action="store_true", help="print everything as JSON")
    _add_control(status)
    status.set_defaults(run=_status)

    remote = commands.add_parser("remote", help="change the known hosts until the agent restarts")
    changes = remote.add_subparsers(metavar="ACTION", required=True, dest="action")
    add = changes.add_parser("add", help="greet a host at one more address")
    add.add_argument("host", metavar="HOST", help="its virtual address")
    add.add_argument("address", metavar="ADDRESS", help="a real address of it")
    add.add_argument(
        "--index", type=int, default=0, help="its interface index there, for old nodes"
    )
    _add_control(add)
    add.set_defaults(run=_remote_add)
    remove = changes.add_parser("remove", help="forget a host, or one address of it")
    remove.add_argument("host", metavar="HOST", help="its virtual address")
    remove.add_argument("address", metavar="ADDRESS", nargs="?", help="a real address of it")
    _add_control(remove)
    remove.set_defaults(run=_remote_remove)

    cleanup = commands.add_parser("cleanup", help="remove what a killed agent left behind")
    cleanup.add_argument("--config", metavar="FILE", default=DEFAULT_PATH)
    cleanup.set_defaults(run=_cleanup)
    return parser


def _add_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--control", metavar="PATH", default=DEFAULT_CONTROL_PATH)


def _agent(options: argparse.Namespace) -> int:
    import logging

    from ropeway.app import config, systemd

    systemd.log_to_stderr()
    log = logging.getLogger("ropeway")
    try:
        configuration = config.read_apart(options.config)
        from ropeway.app.runtime import Runtime, StartError

        try:
            Runtime(configuration).run()
        except StartError as error:
            log.error("%s", error)
            return EXIT_FAILED
    except ConfigError as error:
        for line in error.errors:
            log.error("%s", line)
        return EXIT_CONFIG
    return EXIT_OK


def _check_config(options: argparse.Namespace) -> int:
    from ropeway.app import config

    try:
        config.read(options.file)
    except ConfigError as error:
        for line in error.errors:
            print(line, file=sys.stderr)
        return EXIT_FAILED
    print(f"{options.file}: ok")
    return EXIT_OK


def _status(options: argparse.Namespace) -> int:
    status = control.request(options.control, {"command": "status"})
    if options.json:
        import json

        print(json.dumps(status, indent=2))
    else:
        from ropeway.app.tree import render

        print(render(status))
    return EXIT_OK


def _remote_add(options: argparse.Namespace) -> int:
    return _order(
        options,
        {
            "command": "remote-add",
            "host": options.host,
            "address": options.address,
            "index": options.index,
        },
    )


def _remote_remove(options: argparse.Namespace) -> int:
    return _order(
        options,
        {"command": "remote-remove", "host": options.host, "address": options.address},
    )


def _order(options: argparse.Namespace, message: Dict[str, Any]) -> int:
    control.request(options.control, message)
    return EXIT_OK


def _cleanup(options: argparse.Namespace) -> int:
    from ropeway.app import cleanup

    try:
        control_path, device_name = cleanup.names(options.config)
    except ValueError as error:
        control_path, device_name = DEFAULT_CONTROL_PATH, DEFAULT_DEVICE_NAME
        print(f"{error}, so the default names are cleaned up", file=sys.stderr)
    try:
        done = cleanup.clean_up(control_path, device_name)
    except OSError as error:
        return _fail("cleaning up failed: %s" % (error.strerror or error))
    for sentence in done or ["nothing to clean up"]:
        print(sentence)
    return EXIT_OK


def _fail(sentence: str) -> int:
    print("ropeway: " + sentence, file=sys.stderr)
    return EXIT_FAILED
