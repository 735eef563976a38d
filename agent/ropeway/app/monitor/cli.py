"""The command `ropeway-exporter`."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import signal
import sys
from http import HTTPStatus
from typing import Awaitable, Callable, Dict, List, Optional, Tuple

from ropeway import __version__
from ropeway.app.monitor import page
from ropeway.app.monitor.server import Reply, Server, endpoint, names_of
from ropeway.app.monitor.source import Source, over

DEFAULT_LISTEN = "127.0.0.1:9851"
DEFAULT_CONTROL_PATH = "/run/ropeway/control.sock"

EXIT_OK = 0
EXIT_FAILED = 1


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command line `arguments`, those of the process by default; return the exit code."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("prometheus_client") is None:
        print(
            "ropeway-exporter: the library prometheus_client is missing:"
            " install the package python3-prometheus-client",
            file=sys.stderr,
        )
        return EXIT_FAILED
    try:
        asyncio.run(_run(options.listen, options.host_name, options.control))
    except OSError as error:
        address = "{}:{}".format(*options.listen)
        print(
            f"ropeway-exporter: cannot listen on {address} ({error.strerror or error}):"
            " name an address of this host and a free port with --listen",
            file=sys.stderr,
        )
        return EXIT_FAILED
    return EXIT_OK


def routes_to(source: Source) -> Dict[str, Callable[[], Awaitable[Reply]]]:
    """Return what is served of the agent that ``source`` asks, by path."""
    # The package only recommends the library, and `main` says where it is missing.
    from ropeway.app.monitor.metrics import CONTENT_TYPE_LATEST, Metrics

    metrics = Metrics()

    async def exposition() -> Reply:
        return Reply(metrics.exposition(await source.answer()), CONTENT_TYPE_LATEST)

    async def status() -> Reply:
        answer = await source.answer()
        shown = {"fault": answer.fault, "status": dict(answer.status)}
        code = HTTPStatus.OK if answer.fault is None else HTTPStatus.SERVICE_UNAVAILABLE
        return Reply(json.dumps(shown).encode("ascii"), "application/json", code)

    def kept(reply: Reply) -> Callable[[], Awaitable[Reply]]:
        async def give() -> Reply:
            return reply

        return give

    return {
        **{path: kept(reply) for path, reply in page.replies().items()},
        "/metrics": exposition,
        "/status.json": status,
    }


async def _run(listen: Tuple[str, int], host_names: List[str], control: str) -> None:
    source = Source(over(control))
    server = await Server(routes_to(source), names_of(listen[0], host_names)).listen(*listen)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    for listener in server.sockets or ():
        where = listener.getsockname()
        print("ropeway-exporter: listening on {}:{}".format(*where[:2]), flush=True)
    await stopped.wait()
    # Whoever is being served is not waited for.
    server.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ropeway-exporter",
        description="Show a running ropeway agent: metrics for Prometheus and a page for a person.",
    )
    parser.add_argument("--version", action="version", version="ropeway-exporter " + __version__)
    parser.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        type=_endpoint,
        default=_endpoint(DEFAULT_LISTEN),
        help=f"where to serve (default: {DEFAULT_LISTEN}); whoever reaches it sees everything",
    )
    parser.add_argument(
        "--host-name",
        metavar="NAME",
        action="append",
        default=[],
        help="a name of this host under which browsers and Prometheus may ask; can be repeated",
    )
    parser.add_argument(
        "--control",
        metavar="PATH",
        default=DEFAULT_CONTROL_PATH,
        help="the agent's control socket (default: %(default)s)",
    )
    return parser


def _endpoint(value: str) -> Tuple[str, int]:
    try:
        return endpoint(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
