"""The command `ropeway`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from ropeway import __version__
from ropeway.app.commands import budgets, captured, check, keypair, leases, output
from ropeway.app.commands.outcome import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_RESTART, fail
from ropeway.app.config.model import DEFAULT_CONTROL_PATH, DEFAULT_DEVICE_NAME, DEFAULT_PATH
from ropeway.app.control import answer, client, explained, tree
from ropeway.app.errors import ConfigError, StartError

if TYPE_CHECKING:
    from ropeway.steward import keeper

RELOAD_TIMEOUT_S = 12.0
"""The agent gives up reading its configuration before that."""
START_AGAIN_S = 1.0
"""Pause of an agent that cannot start, before it ends."""

# What only some commands need is imported there: `ropeway status` has to be quick.


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command line `arguments`, those of the process by default; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except client.ControlError as error:
        return fail(str(error))
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
    _add_config(agent)
    agent.set_defaults(run=_agent)

    check_config = commands.add_parser("check-config", help="check a configuration file")
    check_config.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default=DEFAULT_PATH,
        help="the configuration file (default: %(default)s)",
    )
    check_config.add_argument(
        "--without-keys",
        action="store_true",
        help="leave out what is of this host: files of keys, users, groups, socket, device",
    )
    output.add_arguments(check_config, "check-config")
    check_config.set_defaults(run=check.check_config)

    reload = commands.add_parser("reload", help="let the agent read its configuration again")
    reload.add_argument(
        "--config",
        metavar="FILE",
        help="the agent's own configuration file, which names its control socket",
    )
    reload.add_argument(
        "--control",
        metavar="PATH",
        help=f"the control socket (default: what --config names, or {DEFAULT_CONTROL_PATH})",
    )
    reload.set_defaults(run=_reload)

    genkey = commands.add_parser("genkey", help="make this host's private key")
    _add_key_file(genkey)
    genkey.set_defaults(run=keypair.genkey)

    pubkey = commands.add_parser("pubkey", help="print the public key of this host's private key")
    _add_key_file(pubkey)
    pubkey.set_defaults(run=keypair.pubkey)

    status = commands.add_parser("status", help="show devices, hosts and connections")
    part = status.add_mutually_exclusive_group()
    part.add_argument("--links", action="store_true", help="leave out the other hosts")
    part.add_argument("--peer", metavar="HOST", help="this host alone, by its virtual address")
    output.add_arguments(status, "status")
    _add_control(status)
    status.set_defaults(run=_status)

    top = commands.add_parser(
        "top",
        help="show links, hosts and traffic once a second",
        epilog="Keys: q quits; j, k, arrows and page keys scroll.",
    )
    top.add_argument("--once", action="store_true", help="print one frame, after a second")
    _add_control(top)
    top.set_defaults(run=_top)

    explain = commands.add_parser("explain", help="tell which links carry a packet, and why")
    explained.add_arguments(explain)
    output.add_arguments(explain, "explain")
    _add_control(explain)
    explain.set_defaults(run=_explain)

    remote = commands.add_parser(
        "remote", help="change the known hosts of a classic network until the agent restarts"
    )
    changes = remote.add_subparsers(metavar="ACTION", required=True, dest="action")
    add = changes.add_parser("add", help="greet a host at one more address")
    add.add_argument("host", metavar="HOST", help="its virtual address")
    add.add_argument("address", metavar="ADDRESS", help="a real address of it")
    add.add_argument(
        "--index",
        type=int,
        default=0,
        help="its interface index there, for old nodes",
    )
    _add_control(add)
    add.set_defaults(run=_remote_add)
    remove = changes.add_parser("remove", help="forget a host, or one address of it")
    remove.add_argument("host", metavar="HOST", help="its virtual address")
    remove.add_argument("address", metavar="ADDRESS", nargs="?", help="a real address of it")
    _add_control(remove)
    remove.set_defaults(run=_remote_remove)

    budget = commands.add_parser("budget", help="show what links have used of their budgets")
    output.add_arguments(budget, "budget")
    _add_control(budget)
    budget.set_defaults(run=budgets.show_budgets)
    amounts = budget.add_subparsers(metavar="ACTION", dest="action")
    used = amounts.add_parser("set", help="take the operator's figure for what is used")
    used.add_argument("link", metavar="LINK", help="the name of the interface")
    used.add_argument("used", metavar="BYTES", help="what is used in this period, such as 3.2GB")
    # Its own default would hide what is given before `set`.
    _add_control(used, argparse.SUPPRESS)
    used.set_defaults(run=budgets.set_budget)

    lease = commands.add_parser("leases", help="show addresses that hosts get from a router")
    output.add_arguments(lease, "leases")
    _add_control(lease)
    lease.set_defaults(run=leases.show_leases)
    changes = lease.add_subparsers(metavar="ACTION", dest="action")
    release = changes.add_parser("release", help="end the lease of a host, on its router")
    release.add_argument("host", metavar="HOST", help="its virtual address")
    # As for `budget set`.
    _add_control(release, argparse.SUPPRESS)
    release.set_defaults(run=leases.release_lease)

    keylog = commands.add_parser("keylog", help="print what opens captured traffic, for root alone")
    keylog.add_argument(
        "--follow", action="store_true", help="add the keys of new sessions until interrupted"
    )
    keylog.add_argument("--output", metavar="FILE", help="append to this file, mode 0600")
    _add_control(keylog)
    keylog.set_defaults(run=captured.keylog)

    decrypt = commands.add_parser("decrypt", help="open captured traffic with logged keys")
    decrypt.add_argument("--keys", metavar="FILE", required=True, help="what keylog printed")
    decrypt.add_argument(
        "--all-copies", action="store_true", help="write every copy of a packet, not the first only"
    )
    output.add_arguments(decrypt, "decrypt")
    decrypt.add_argument("capture", metavar="CAPTURE", help="a pcap file")
    decrypt.add_argument("output", metavar="OUTPUT", help="the pcap file to write")
    decrypt.set_defaults(run=captured.decrypt)

    cleanup = commands.add_parser("cleanup", help="remove what a killed agent left behind")
    _add_config(cleanup)
    output.add_arguments(cleanup, "cleanup")
    cleanup.set_defaults(run=_cleanup)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=DEFAULT_PATH,
        help="the configuration file (default: %(default)s)",
    )


def _add_control(parser: argparse.ArgumentParser, default: str = DEFAULT_CONTROL_PATH) -> None:
    parser.add_argument(
        "--control",
        metavar="PATH",
        default=default,
        help=f"the control socket (default: {DEFAULT_CONTROL_PATH})",
    )


def _add_key_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file",
        metavar="PATH",
        help="the private key's file (default: what the configuration names)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="take the private key's file from this configuration"
    )


def _agent(options: argparse.Namespace) -> int:
    import functools
    import logging

    from ropeway.app import systemd
    from ropeway.steward import client as steward_client

    systemd.log_to_stderr()
    log = logging.getLogger("ropeway")
    # Before anything large is loaded, of which each process would have a copy.
    steward = steward_client.start(functools.partial(_load_steward, options.config))
    try:
        from ropeway.app.engine.engine import Engine

        try:
            Engine(steward, options.config).run()
        except StartError as error:
            log.error("%s", error)
            # The service starts again at once, and what is amiss will hardly be mended so soon.
            time.sleep(START_AGAIN_S)
            return EXIT_FAILED
    except ConfigError as error:
        for line in error.errors:
            log.error("%s", line)
        return EXIT_CONFIG
    return EXIT_OK


def _load_steward(config_path: str) -> keeper.Serve:
    import functools

    from ropeway.steward.service import serve

    return functools.partial(serve, config_path)


def _explain(options: argparse.Namespace) -> int:
    try:
        found = explained.ask(options)
    except ValueError as error:
        return fail(str(error))
    if options.json:
        output.show(found)
    else:
        print(explained.as_text(found))
    return EXIT_OK


def _reload(options: argparse.Namespace) -> int:
    path = options.control or DEFAULT_CONTROL_PATH
    message: Dict[str, Any] = {"command": "reload"}
    if options.config is not None:
        # The agent reads no other file than its own, and says so if it was asked to.
        message["config"] = os.path.abspath(options.config)
    if options.config is not None and options.control is None:
        from ropeway.app import cleanup

        try:
            path, _ = cleanup.names(options.config)
        except ValueError as error:
            return fail(str(error))
    try:
        client.request(path, message, RELOAD_TIMEOUT_S)
    except client.ControlError as error:
        fail(str(error))
        return EXIT_RESTART if error.reason == answer.REASON_RESTART else EXIT_FAILED
    return EXIT_OK


def _status(options: argparse.Namespace) -> int:
    status = client.request(options.control, {"command": "status"})
    render = tree.render
    if options.links:
        status, render = {**status, "peers": []}, tree.render_links
    elif options.peer is not None:
        peers = [peer for peer in status["peers"] if peer["host"] == options.peer]
        if not peers:
            return fail(f"no host {options.peer} is known: ropeway status shows all of them")
        status, render = {**status, "peers": peers}, tree.render_hosts
    if options.json:
        output.show(status)
    else:
        print(render(status))
    return EXIT_OK


def _top(options: argparse.Namespace) -> int:
    from ropeway.app.monitor import top

    return top.run(options.control, options.once)


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
    client.request(options.control, message)
    return EXIT_OK


def _cleanup(options: argparse.Namespace) -> int:
    from ropeway.app import cleanup

    try:
        control_path, device_name = cleanup.names(options.config)
    except ValueError as error:
        if options.config != DEFAULT_PATH:
            # The default names belong to another agent.
            return fail(f"{error}, so nothing is cleaned up")
        control_path, device_name = DEFAULT_CONTROL_PATH, DEFAULT_DEVICE_NAME
        print(f"{error}, so the default names are cleaned up", file=sys.stderr)
    try:
        done = cleanup.clean_up(control_path, device_name)
    except OSError as error:
        return fail("cleaning up failed: %s" % (error.strerror or error))
    if options.json:
        output.show({"removed": done})
        return EXIT_OK
    for sentence in done or ["nothing to clean up"]:
        print(sentence)
    return EXIT_OK
