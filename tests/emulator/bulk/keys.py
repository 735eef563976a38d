"""The command ``keys``: somebody types over a TCP connection, and each key is echoed, as by SSH."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Dict, Iterator, List, Sequence, Tuple

from tests.emulator import spec
from tests.emulator.bulk.command import classes_of_mode
from tests.emulator.compare import table
from tests.system.bed.topology import Host, sweep
from tests.system.bed.wire import WiredPair, wired

PORT = 7200
#: What SSH makes of a key: a packet of 88 bytes.
KEY_BYTES = 36
#: Somebody types quickly.
PAUSE_S = 0.12
PATIENCE_S = 20.0
HEADINGS = ("", "keys", "p50 ms", "p99 ms", "longest ms")


def keys(links: Sequence[str], modes: Sequence[str], seconds: float) -> None:
    """Type over each link alone and in each mode over all of them, and print a table."""
    sweep()
    took: Dict[str, List[float]] = {}
    for number, link in enumerate(links):
        with wired(*links) as pair:
            _, address = pair.links()[number]
            took[f"{number} {spec.parse(link)[0].name}"] = _typed(pair, address, seconds)
    for mode in modes:
        with wired(*links) as pair:
            pair.start(classes=classes_of_mode(mode))
            took[mode] = _typed(pair, pair.b_address, seconds)
    print(table([HEADINGS, *(_row(name, one) for name, one in took.items())], True))


def _typed(pair: WiredPair, address: str, seconds: float) -> List[float]:
    with echoing(pair.b, address), pair.a.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect((address, PORT))
        for wire in pair.wires:
            wire.begin()
        return typed(connection, seconds)


def _row(name: str, took_ms: Sequence[float]) -> Tuple[str, ...]:
    ordered = sorted(took_ms)
    shown = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99, 1))
    return (name, str(len(ordered)), *(f"{one:.1f}" for one in shown))


@contextlib.contextmanager
def echoing(host: Host, address: str) -> Iterator[None]:
    """Have a host take a connection and send back what it gets, as long as the block runs."""
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.settimeout(PATIENCE_S)
        listener.bind((address, PORT))
        listener.listen()
        thread = threading.Thread(target=_echo, args=(listener,), daemon=True)
        thread.start()
        yield
    thread.join(PATIENCE_S)


def _echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(4096):
            connection.sendall(data)


def typed(connection: socket.socket, seconds: float) -> List[float]:
    """Type for a time; return after how many ms each key was echoed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    took_ms: List[float] = []
    ends = time.monotonic() + seconds
    while (began := time.monotonic()) < ends:
        connection.sendall(bytes(KEY_BYTES))
        left = KEY_BYTES
        while left:
            data = connection.recv(left)
            if not data:
                raise ConnectionError("the other end closed the connection")
            left -= len(data)
        answered = time.monotonic()
        took_ms.append((answered - began) * 1000)
        time.sleep(max(0.0, began + PAUSE_S - answered))
    return took_ms
