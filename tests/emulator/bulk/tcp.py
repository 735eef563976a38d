"""The two ends of a TCP connection that carries as much as it can.

    python -m tests.emulator.bulk.tcp receiver ADDRESS PORT
    python -m tests.emulator.bulk.tcp sender ADDRESS PORT SECONDS CONGESTION

The receiver takes one connection and prints how many bytes came in each half second, as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import time

STEP_S = 0.5
CHUNK_BYTES = 1 << 16
#: The receiver gives up where nothing comes for so long.
PATIENCE_S = 20.0


def receive(address: str, port: int) -> None:
    """Take one connection to its end; print bytes by half seconds since the first byte."""
    with socket.create_server((address, port)) as server:
        server.settimeout(PATIENCE_S)
        print("ready", flush=True)
        connection, _ = server.accept()
    steps: list[int] = []
    with connection:
        connection.settimeout(PATIENCE_S)
        began = 0.0
        while data := connection.recv(CHUNK_BYTES):
            now = time.monotonic()
            began = began or now
            step = int((now - began) / STEP_S)
            steps += [0] * (step + 1 - len(steps))
            steps[step] += len(data)
    print(json.dumps(steps), flush=True)


def send(address: str, port: int, seconds: float, congestion: str) -> None:
    """Send for a time, and end without waiting for what the network has yet to carry."""
    data = bytes(CHUNK_BYTES)
    with socket.create_connection((address, port), timeout=PATIENCE_S) as connection:
        name = congestion.encode("ascii")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            connection.send(data)


def main() -> None:
    role, address, port, *rest = sys.argv[1:]
    if role == "receiver":
        receive(address, int(port))
    else:
        send(address, int(port), float(rest[0]), rest[1])


if __name__ == "__main__":
    main()
