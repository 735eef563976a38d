"""The command `ropeway`."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import stat
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set, TextIO

from ropeway import __version__
from ropeway.app.config.model import DEFAULT_CONTROL_PATH, DEFAULT_DEVICE_NAME, DEFAULT_PATH, Config
from ropeway.app.control import answer, client, explained
from ropeway.app.errors import ConfigError, StartError

if TYPE_CHECKING:
    from ropeway.steward import keeper

RELOAD_TIMEOUT_S = 12.0
"""The agent gives up reading its configuration before that."""
KEYLOG_EVERY_S = 1.0
START_AGAIN_S = 1.0
"""Pause of an agent that cannot start, before it ends."""

# What only some commands need is imported there: `ropeway status` has to be quick.

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_RESTART = 3
"""`reload` only: nothing was changed, because only a restart changes what differs."""
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: only somebody who edits the configuration can help."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command line `arguments`, those of the process by default; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except client.ControlError as error:
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
    _add_config(agent)
    agent.set_defaults(run=_agent)

    check = commands.add_parser("check-config", help="check a configuration file")
    check.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default=DEFAULT_PATH,
        help="the configuration file (default: %(default)s)",
    )
    check.add_argument(
        "--without-keys",
        action="store_true",
        help="leave out what is of this host: files of keys, users, groups, socket, device",
    )
    check.set_defaults(run=_check_config)

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
    genkey.set_defaults(run=_genkey)

    pubkey = commands.add_parser("pubkey", help="print the public key of this host's private key")
    _add_key_file(pubkey)
    pubkey.set_defaults(run=_pubkey)

    status = commands.add_parser("status", help="show devices, hosts and connections")
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print everything as JSON")
    how.add_argument("--schema", action="store_true", help="print the JSON Schema of that")
    _add_control(status)
    status.set_defaults(run=_status)

    explain = commands.add_parser("explain", help="tell which links carry a packet, and why")
    explained.add_arguments(explain)
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

    budget = commands.add_parser("budget", help="correct what a link has used of its budget")
    amounts = budget.add_subparsers(metavar="ACTION", required=True, dest="action")
    used = amounts.add_parser("set", help="take the operator's figure for what is used")
    used.add_argument("link", metavar="LINK", help="the name of the interface")
    used.add_argument("used", metavar="BYTES", help="what is used in this period, such as 3.2GB")
    _add_control(used)
    used.set_defaults(run=_budget_set)

    keylog = commands.add_parser("keylog", help="print what opens captured traffic, for root alone")
    keylog.add_argument(
        "--follow", action="store_true", help="add the keys of new sessions until interrupted"
    )
    keylog.add_argument("--output", metavar="FILE", help="append to this file, mode 0600")
    _add_control(keylog)
    keylog.set_defaults(run=_keylog)

    decrypt = commands.add_parser("decrypt", help="open captured traffic with logged keys")
    decrypt.add_argument("--keys", metavar="FILE", required=True, help="what keylog printed")
    decrypt.add_argument(
        "--all-copies", action="store_true", help="write every copy of a packet, not the first only"
    )
    decrypt.add_argument("capture", metavar="CAPTURE", help="a pcap file")
    decrypt.add_argument("output", metavar="OUTPUT", help="the pcap file to write")
    decrypt.set_defaults(run=_decrypt)

    cleanup = commands.add_parser("cleanup", help="remove what a killed agent left behind")
    _add_config(cleanup)
    cleanup.set_defaults(run=_cleanup)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=DEFAULT_PATH,
        help="the configuration file (default: %(default)s)",
    )


def _add_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--control",
        metavar="PATH",
        default=DEFAULT_CONTROL_PATH,
        help="the control socket (default: %(default)s)",
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


def _check_config(options: argparse.Namespace) -> int:
    from ropeway.app.config import model, read
    from ropeway.app.store import keys

    # Root reads everything, so what matters is whether the service can.
    reader = keys.service_user() if os.geteuid() == 0 else None
    try:
        found = read.read(options.file, not options.without_keys, reader)
    except ConfigError as error:
        for line in error.errors:
            print(line, file=sys.stderr)
        return EXIT_FAILED
    if not options.without_keys and _misses_the_mark(options.file, found):
        return EXIT_FAILED
    print(f"{options.file}: ok")
    if not options.without_keys and found.encapsulation == model.SECURE:
        _warn_of_port(options.file, found.control.path, found.port)
    return EXIT_OK


def _misses_the_mark(file: str, found: Config) -> bool:
    """Name this host's addresses that stand for others; say whether a host has none besides."""
    from ropeway.steward import own_address
    from ropeway.steward.netlink import interfaces

    try:
        own = own_address.find(found.others, interfaces.interfaces(ipv6=True))
    except OSError:
        # Where the interfaces cannot be seen, the agent will tell.
        return False
    for one in own:
        print(f"{file}: peers: {one}", file=sys.stderr)
    return any(one.only for one in own)


def _warn_of_port(file: str, control_path: str, port: int) -> None:
    """Say so where another program than the agent of this configuration has its UDP port.

    The file may be right all the same: that program may be about to go.
    """
    import errno

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", port))
        return
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return
    try:
        if client.request(control_path, {"command": "status"}).get("port") == port:
            return
    except client.ControlError:
        pass
    print(
        f"{file}: port: another program, perhaps a second agent, has UDP port {port} now, and while"
        " it has, the agent can use no link there: stop it, or choose another port",
        file=sys.stderr,
    )


def _explain(options: argparse.Namespace) -> int:
    try:
        print(explained.ask(options))
    except (ValueError, client.ControlError) as error:
        return _fail(str(error))
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
            return _fail(str(error))
    try:
        client.request(path, message, RELOAD_TIMEOUT_S)
    except client.ControlError as error:
        _fail(str(error))
        return EXIT_RESTART if error.reason == answer.REASON_RESTART else EXIT_FAILED
    return EXIT_OK


def _genkey(options: argparse.Namespace) -> int:
    from ropeway.app.store import keys

    try:
        print(keys.encode(keys.public_of(keys.make_private(_key_path(options)))))
    except (keys.KeyFileError, ConfigError) as error:
        return _fail(str(error))
    return EXIT_OK


def _pubkey(options: argparse.Namespace) -> int:
    from ropeway.app.store import keys

    try:
        print(keys.encode(keys.public_of(keys.read_private(_key_path(options)))))
    except (keys.KeyFileError, ConfigError) as error:
        return _fail(str(error))
    return EXIT_OK


def _key_path(options: argparse.Namespace) -> str:
    """Return where the private key stands; `ConfigError` where the configuration hides it."""
    from ropeway.app.config import model, read

    if options.file is not None:
        return str(options.file)
    if options.config is not None:
        return read.private_key_path(options.config)
    # A host may get its key before its configuration.
    return (
        read.private_key_path(DEFAULT_PATH)
        if os.path.exists(DEFAULT_PATH)
        else (model.DEFAULT_PRIVATE_KEY_PATH)
    )


def _keylog(options: argparse.Namespace) -> int:
    if options.output is None:
        return _log_keys(options, sys.stdout)
    try:
        with open(_open_private(options.output), "a", encoding="ascii") as file:
            return _log_keys(options, file)
    except OSError as error:
        return _fail(f"{options.output} cannot be written ({error.strerror})")
    except ValueError as error:
        return _fail(str(error))


def _open_private(path: str) -> int:
    """Open a file to append to that only the caller can read, made where it is missing.

    `ValueError` with a sentence where something else stands at `path`: what is there already stays
    as it is.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    # Merely to open a device may do something, so look before.
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError(f"{path} is not a file: name a new one")
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    found = os.fstat(descriptor)
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and mode == 0o600:
        return descriptor
    os.close(descriptor)
    raise ValueError(
        f"{path} is there already and not your own file of mode 0600, so others may read it: name"
        " a new one"
    )


def _log_keys(options: argparse.Namespace, output: TextIO) -> int:
    from ropeway.app import capture

    known: Set[str] = set()
    answered = told = False
    with client.Connection(options.control) as connection:
        try:
            while True:
                try:
                    sessions = connection.request({"command": "keylog"})
                except client.NoAnswer as error:
                    if not options.follow or not answered:
                        raise
                    if not told:
                        _fail(f"{error}; trying again")
                    told, sessions = True, []
                else:
                    answered, told = True, False
                for line in capture.key_lines(sessions):
                    if line not in known:
                        known.add(line)
                        print(line, file=output)
                output.flush()
                if not options.follow:
                    return EXIT_OK
                time.sleep(KEYLOG_EVERY_S)
        except KeyboardInterrupt:
            return EXIT_OK


def _decrypt(options: argparse.Namespace) -> int:
    from ropeway.app import capture

    # What is worked on, for an error that does not say it.
    at = options.keys
    try:
        with open(options.keys, encoding="ascii", errors="replace") as file:
            inputs = [os.fstat(file.fileno())]
            keys = capture.read_keys(file, options.keys)
        at = options.capture
        with open(options.capture, "rb") as source:
            inputs.append(os.fstat(source.fileno()))
            # Refuse what is no capture before anything is overwritten.
            reader = capture.Pcap(source)
            at = options.output
            with open(options.output, "wb", opener=_open_untouched) as output:
                found = os.fstat(output.fileno())
                if stat.S_ISREG(found.st_mode):
                    if any(os.path.samestat(found, other) for other in inputs):
                        return _fail(f"{options.output} is what is to be read: name another output")
                    output.truncate()
                counts = capture.decrypt(reader, keys, output, options.all_copies)
    except capture.CaptureError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or at}: {error.strerror}")
    print(", ".join(f"{count} {what}" for what, count in counts.items()), file=sys.stderr)
    return EXIT_OK


def _open_untouched(path: str, flags: int) -> int:
    """Open `path` without emptying it; a new file is for its owner alone."""
    return os.open(path, flags & ~os.O_TRUNC, 0o600)


def _status(options: argparse.Namespace) -> int:
    if options.schema:
        from ropeway.app.control.tree import SCHEMA_PATH

        print(SCHEMA_PATH.read_text(encoding="utf-8"), end="")
        return EXIT_OK
    status = client.request(options.control, {"command": "status"})
    if options.json:
        import json

        print(json.dumps(status, indent=2))
    else:
        from ropeway.app.control.tree import render

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


def _budget_set(options: argparse.Namespace) -> int:
    from ropeway.app.config.budgets import read_amount

    try:
        used = read_amount(options.used)
    except ValueError as error:
        return _fail(str(error))
    return _order(options, {"command": "budget-set", "link": options.link, "used_bytes": used})


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
            return _fail(f"{error}, so nothing is cleaned up")
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
