#!/usr/bin/env python3
"""Load in a process of its own: TCP connections that never wait for data, and floods of UDP.

``take`` listens, says ``ready`` and reads one connection to its end; ``give`` says ``ready`` when
it has connected, and fills the connection; ``flood`` sends datagrams. The last two end after what
they were asked for, or when their standard input ends. Each prints what it did as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import select
import socket
import struct
import time
from typing import Any

BLOCK_BYTES = 1 << 20
#: Large enough to make super-packets.
PACED_BLOCK_BYTES = 1 << 16
#: How long a connection may make no progress at all.
PATIENCE_S = 30.0
#: A flood that is to keep a rate sends that often.
PACE_S = 0.002
#: What it was late with, kept from the processor, it makes up for no longer than this: nobody's
#: queue is for more.
CATCH_UP_S = 0.01
CHECK_S = 0.02
#: A wait is looked at so often; what a look comes late by, beyond LATE_S, this process did not run,
#: as where the whole machine stood still, and nothing is known of that time.
LOOK_S = 0.02
LATE_S = 0.1
UDP_SEGMENT = 103  # include/uapi/linux/udp.h
REFUSED_PAUSE_S = 0.0001


def told_to_stop() -> bool:
    return bool(select.select([0], [], [], 0)[0]) and not os.read(0, 4096)


def wait_readable(connection: socket.socket) -> float:
    """Wait until there is something to read; return how long this process saw nothing come."""
    waited_s, looked = 0.0, time.monotonic()
    while True:
        ready = select.select([connection], [], [], LOOK_S)[0]
        now = time.monotonic()
        waited_s += min(now - looked, LATE_S)
        if ready:
            return waited_s
        if waited_s > PATIENCE_S:
            raise TimeoutError(f"nothing came for {PATIENCE_S} s")
        looked = now


def family_of(address: str) -> int:
    """Return the address family of a socket for an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def take(address: str, port: int, checked: bool) -> dict[str, Any]:
    """Read a connection to its end; ``stall_s`` is the longest wait for more of it."""
    listener = socket.create_server((address, port), family=family_of(address))
    listener.settimeout(PATIENCE_S)
    print("ready", flush=True)
    connection, _ = listener.accept()
    connection.setblocking(False)
    digest, received, stall_s = hashlib.sha256(), 0, 0.0
    room = memoryview(bytearray(BLOCK_BYTES))
    # MSG_TRUNC leaves the bytes of a TCP socket where they are and counts them (tcp(7)).
    flags = 0 if checked else socket.MSG_TRUNC
    began = last = time.monotonic()
    while True:
        try:
            got = connection.recv_into(room, BLOCK_BYTES, flags)
        except BlockingIOError:
            waited_s = wait_readable(connection)
            stall_s = max(stall_s, waited_s if received else 0.0)
            continue
        if not got:
            break
        last = time.monotonic()
        received += got
        if checked:
            digest.update(room[:got])
    return {
        "bytes": received,
        "sha256": digest.hexdigest(),
        "seconds": last - began,
        "stall_s": stall_s,
    }


def give(address: str, port: int, size: int, pace: int, checked: bool, tos: int) -> dict[str, Any]:
    """Send ``size`` random bytes, or without end if it is 0; wait until the other end has all."""
    connection = socket.socket(family_of(address), socket.SOCK_STREAM)
    connection.settimeout(PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    connection.connect((address, port))
    print("ready", flush=True)
    # No two blocks are the same, so that none can stand for another.
    block = bytearray(os.urandom(PACED_BLOCK_BYTES if pace else BLOCK_BYTES))
    view, digest, sent, number = memoryview(block), hashlib.sha256(), 0, 0
    began = time.monotonic()
    while (not size or sent < size) and not told_to_stop():
        struct.pack_into("!Q", block, 0, number)
        part = view[: size - sent] if size else view
        if checked:
            digest.update(part)
        connection.sendall(part)
        sent += len(part)
        number += 1
        if pace:
            time.sleep(max(0.0, began + sent / pace - time.monotonic()))
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
    return {"bytes": sent, "sha256": digest.hexdigest(), "seconds": time.monotonic() - began}


def flood(address: str, port: int, size: int, segments: int, rate: int) -> dict[str, Any]:
    """Send datagrams of ``size`` bytes, ``segments`` at once, ``rate`` a second or all it can."""
    out = socket.socket(family_of(address), socket.SOCK_DGRAM)
    out.connect((address, port))
    if segments > 1:
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
    data = bytes(size * segments)
    sent = refused = 0
    began = now = time.monotonic()
    check = due = 0.0
    while True:
        if now >= check:
            if told_to_stop():
                break
            check = now + CHECK_S
        if not rate:
            due = 32.0 * segments
        while due >= segments:
            try:
                out.send(data)
                sent += segments
                due -= segments
            except OSError:
                refused += 1
                time.sleep(REFUSED_PAUSE_S)
                break
        if rate:
            time.sleep(PACE_S)
        last, now = now, time.monotonic()
        due = min(due + (now - last) * rate, CATCH_UP_S * rate)
    return {"sent": sent, "refused": refused, "seconds": now - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["take", "give", "flood"])
    parser.add_argument("--address", required=True, help="where to, or on which to listen")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, default=0, help="of a connection; 0: until told")
    parser.add_argument("--plain", action="store_true", help="do not look at the bytes at all")
    parser.add_argument("--pace", type=int, default=0, help="bytes a second; 0: all it can")
    parser.add_argument("--tos", type=int, default=0, help="of a connection's packets")
    parser.add_argument("--size", type=int, default=1200, help="UDP payload of each datagram")
    parser.add_argument("--segments", type=int, default=1, help="datagrams a super-packet")
    parser.add_argument("--rate", type=int, default=0, help="datagrams a second; 0: all it can")
    options = parser.parse_args()
    if options.role == "take":
        report = take(options.address, options.port, not options.plain)
    elif options.role == "give":
        where = options.address, options.port
        report = give(*where, options.bytes, options.pace, not options.plain, options.tos)
    else:
        report = flood(options.address, options.port, options.size, options.segments, options.rate)
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
