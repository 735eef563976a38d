"""The generator and the sink of a stream that ``srt-live-transmit`` carries between them.

``sender`` sends numbered UDP packets to a port of this host; ``receiver`` notes when each comes
at one. SIGTERM ends either, which then writes what it saw.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import List, Tuple

#: Seven packets of an MPEG transport stream, as SRT's live mode has them.
SIZE = 7 * 188
RATE_KBIT = 2000.0
INTERVAL_S = SIZE * 8 / RATE_KBIT / 1000
NUMBER = struct.Struct("!Q")
#: A receiver looks so often whether it is to end.
LOOK_S = 0.1

_over = False


def sender(port: int) -> List[Tuple[int, float]]:
    """Send RATE_KBIT until the end; return number and time of each packet."""
    sent: List[Tuple[int, float]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        began_at = time.monotonic()
        while not _over:
            number = len(sent)
            time.sleep(max(began_at + number * INTERVAL_S - time.monotonic(), 0))
            sent.append((number, time.monotonic()))
            out.sendto(NUMBER.pack(number).ljust(SIZE, b"\0"), ("127.0.0.1", port))
    return sent


def receiver(port: int) -> List[Tuple[int, float]]:
    """Take packets until the end; return number and time of each."""
    came: List[Tuple[int, float]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", port))
        sink.settimeout(LOOK_S)
        print("ready", flush=True)
        while not _over:
            try:
                packet = sink.recv(SIZE)
            except socket.timeout:
                continue
            if not came:
                print("playing", flush=True)
            came.append((NUMBER.unpack_from(packet)[0], time.monotonic()))
    return came


def _end(*_: object) -> None:
    global _over
    _over = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    role, at_port, seen = sys.argv[1:]
    found = {"sender": sender, "receiver": receiver}[role](int(at_port))
    Path(seen).write_text(json.dumps(found), encoding="ascii")
