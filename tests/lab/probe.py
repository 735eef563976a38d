#!/usr/bin/env python3
"""A steady stream of numbered UDP packets, and the account of what became of each one.

Stands alone (Python 3.8, standard library), so that it can be copied into a machine or started in
a network namespace:

    probe.py receive --address 10.0.0.3 --port 7007 --run 77      # prints "ready PORT", then JSON
    probe.py send --address 10.0.0.3 --port 7007 --run 77 --rate 1000 --seconds 60   # JSON

Each ends when its standard input ends (close the pipe; whoever dies leaves nothing running), on
SIGTERM, or at its time limit, and prints one line of JSON: `SendReport`, `ReceiveReport`.

The packets carry CLOCK_MONOTONIC, which all machines and namespaces of one kernel share. Arrival
is the kernel's own time stamp (SO_TIMESTAMPNS), so that latency is the network's and not the
receiver's.
"""

from __future__ import annotations

import argparse
import array
import dataclasses
import json
import math
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, Callable, Dict, List, Optional

# magic, run, sequence number, CLOCK_MONOTONIC in ns when it was sent; then zeros up to the size
HEADER = struct.Struct("!4sIQQ")
MAGIC = b"RWPB"

RATE_LIMIT = 100_000
SECONDS_LIMIT = 3600.0
SIZE_LIMIT = 60_000
SEQUENCE_LIMIT = 20_000_000  # bounds the receiver's tables (17 bytes a packet)
RECEIVE_BUFFER = 16 << 20
# A sender that did not run for longer than this leaves the packets out instead of sending a burst.
BURST_S = 0.05
RUNS_LIMIT = 50

# asm-generic/socket.h; the socket module of 3.8 to 3.11 lacks them
SO_RXQ_OVFL = 40
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
TIMESPEC = struct.Struct("@ll")


@dataclasses.dataclass
class SendReport:
    """What a sender did; times in seconds or milliseconds as the name says."""

    sent: int
    first_ns: int  # CLOCK_MONOTONIC of the first packet
    last_ns: int
    refused: int  # times that the kernel refused a packet, which was then tried again
    late_max_ms: float  # the furthest that a packet left after its time
    skipped_s: float  # time for which nothing was due to be sent, since the sender did not run


@dataclasses.dataclass
class ReceiveReport:
    """What a receiver saw of one run; latencies are of first copies, None without any."""

    received: int  # distinct packets
    duplicated: int  # further copies
    reordered: int  # first copies that came after a higher number
    foreign: int  # packets of no run or another one
    overflowed: int  # dropped by the kernel because the receiver's own buffer was full
    highest: int  # the highest number seen, -1 without any
    silence_max_ms: float  # the longest time between two arrivals, of any kind
    missing: List[Dict[str, int]]  # runs of numbers up to `highest` that never came: first, count,
    # after_ns (CLOCK_MONOTONIC at which the packet before was sent); the first RUNS_LIMIT
    repeated: List[Dict[str, int]]  # the same of numbers that came more than once
    latency_ms: Optional[Dict[str, float]]  # p50, p99, p999, max, mean


class Stop:
    """True once standard input has ended or SIGTERM came."""

    def __init__(self) -> None:
        self._told = False
        signal.signal(signal.SIGTERM, self._tell)
        signal.signal(signal.SIGINT, self._tell)

    def _tell(self, *_signal: Any) -> None:
        self._told = True

    def __bool__(self) -> bool:
        if not self._told and select.select([0], [], [], 0)[0]:
            self._told = not os.read(0, 4096)
        return self._told


def family_of(address: str) -> int:
    """Return the address family of a socket for an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def send(
    address: str, port: int, run: int, rate: int, seconds: float, size: int, stop: Stop
) -> SendReport:
    """Send `rate` packets a second of `size` bytes of UDP payload, each at its own time."""
    sender = socket.socket(family_of(address), socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    target = (address, port)
    padding = bytes(size - HEADER.size)
    interval_ns = 1_000_000_000 // rate
    report = SendReport(0, 0, 0, 0, 0.0, 0.0)
    due_ns = report.first_ns = time.monotonic_ns()
    end_ns = due_ns + int(seconds * 1e9)
    check_ns = 0
    while due_ns < end_ns:
        now_ns = time.monotonic_ns()
        if now_ns < due_ns:
            time.sleep((due_ns - now_ns) / 1e9)
            continue
        if now_ns >= check_ns:
            if stop:
                break
            check_ns = now_ns + 20_000_000
        late_ns = now_ns - due_ns
        report.late_max_ms = max(report.late_max_ms, late_ns / 1e6)
        if late_ns > BURST_S * 1e9:
            report.skipped_s += late_ns / 1e9
            due_ns = now_ns
        try:
            sender.sendto(HEADER.pack(MAGIC, run, report.sent, now_ns) + padding, target)
            report.sent += 1
            report.last_ns = now_ns
        except OSError:
            # No route yet, a full queue: this number goes out at the next turn.
            report.refused += 1
        due_ns += interval_ns
    return report


class Account:
    """Which numbers of a run have come, when they were sent, and how long they took."""

    def __init__(self) -> None:
        self.copies = bytearray()
        self.sent_ns = array.array("q")
        self.latency_ns = array.array("q")
        self.highest = -1
        self.reordered = 0
        self.last_ns = 0
        self.silence_ns = 0

    def arrived(self, sequence: int, sent_ns: int, arrived_ns: int) -> None:
        """Enter one packet; numbers from SEQUENCE_LIMIT on are ignored."""
        if sequence >= SEQUENCE_LIMIT:
            return
        if self.last_ns:
            self.silence_ns = max(self.silence_ns, arrived_ns - self.last_ns)
        self.last_ns = arrived_ns
        room = sequence + 1 - len(self.copies)
        if room > 0:
            # In steps, so that growing does not cost at every packet.
            room += 4096
            self.copies.extend(bytes(room))
            self.sent_ns.frombytes(bytes(8 * room))
            self.latency_ns.frombytes(bytes(8 * room))
        if self.copies[sequence] == 0:
            self.sent_ns[sequence] = sent_ns
            self.latency_ns[sequence] = arrived_ns - sent_ns
            self.reordered += sequence < self.highest
        self.copies[sequence] = min(255, self.copies[sequence] + 1)
        self.highest = max(self.highest, sequence)

    def runs(self, wanted: Callable[[int], bool]) -> List[Dict[str, int]]:
        """The first RUNS_LIMIT runs of numbers up to `highest` whose copies are `wanted` many."""
        found: List[Dict[str, int]] = []
        for number in range(self.highest + 1):
            if not wanted(self.copies[number]):
                continue
            if found and number == found[-1]["first"] + found[-1]["count"]:
                found[-1]["count"] += 1
            elif len(found) == RUNS_LIMIT:
                break
            else:
                before_ns = self.sent_ns[number - 1] if number else 0
                found.append({"first": number, "count": 1, "after_ns": before_ns})
        return found

    def report(self, foreign: int, overflowed: int) -> ReceiveReport:
        """Sum it up."""
        came = [n for n in range(self.highest + 1) if self.copies[n]]
        return ReceiveReport(
            received=len(came),
            duplicated=sum(self.copies[n] - 1 for n in came),
            reordered=self.reordered,
            foreign=foreign,
            overflowed=overflowed,
            highest=self.highest,
            silence_max_ms=self.silence_ns / 1e6,
            missing=self.runs(lambda copies: copies == 0),
            repeated=self.runs(lambda copies: copies > 1),
            latency_ms=summary_ms([self.latency_ns[n] for n in came]),
        )


def summary_ms(values_ns: List[int]) -> Optional[Dict[str, float]]:
    """Percentiles (nearest rank), largest and mean in milliseconds; None for no values."""
    if not values_ns:
        return None
    ranked = sorted(values_ns)

    def rank(share: float) -> float:
        return ranked[math.ceil(share * len(ranked)) - 1] / 1e6

    return {
        "p50": rank(0.5),
        "p99": rank(0.99),
        "p999": rank(0.999),
        "max": ranked[-1] / 1e6,
        "mean": sum(ranked) / len(ranked) / 1e6,
    }


def receive(address: str, port: int, run: int, seconds: float, stop: Stop) -> ReceiveReport:
    """Receive until told to stop, or `seconds` have passed."""
    receiver = socket.socket(family_of(address), socket.SOCK_DGRAM)
    for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            receiver.setsockopt(socket.SOL_SOCKET, option, RECEIVE_BUFFER)
            break
        except PermissionError:
            continue
    receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    receiver.setblocking(False)
    receiver.bind((address, port))
    print("ready", receiver.getsockname()[1], flush=True)
    account = Account()
    foreign = overflowed = 0
    room = socket.CMSG_SPACE(TIMESPEC.size) + socket.CMSG_SPACE(4)
    end = time.monotonic() + seconds
    while not stop and time.monotonic() < end:
        select.select([receiver.fileno(), 0], [], [], 0.2)
        while True:
            try:
                data, ancillary, _flags, _from = receiver.recvmsg(HEADER.size, room)
            except BlockingIOError:
                break
            # The stamp is wall-clock time; the difference of the clocks makes it monotonic.
            arrived_ns = time.monotonic_ns()
            wall_ahead_ns = time.time_ns() - arrived_ns
            for _level, kind, value in ancillary:
                if kind == SO_TIMESTAMPNS:
                    stamp_s, stamp_ns = TIMESPEC.unpack(value)
                    arrived_ns = stamp_s * 1_000_000_000 + stamp_ns - wall_ahead_ns
                elif kind == SO_RXQ_OVFL:
                    overflowed = int.from_bytes(value, sys.byteorder)
            if len(data) < HEADER.size:
                foreign += 1
                continue
            magic, its_run, sequence, sent_ns = HEADER.unpack_from(data)
            if (magic, its_run) != (MAGIC, run):
                foreign += 1
                continue
            account.arrived(sequence, sent_ns, arrived_ns)
    return account.report(foreign, overflowed)


def main(argv: Optional[List[str]] = None) -> int:
    """Carry out one command line."""
    parser = argparse.ArgumentParser(description="Numbered UDP packets at a steady rate.")
    parser.add_argument("role", choices=["send", "receive"])
    parser.add_argument("--address", required=True, help="where to, or on which to listen")
    parser.add_argument("--port", type=int, default=7007, help="0: any; the receiver names it")
    parser.add_argument("--run", type=int, required=True, help="tells runs apart; below 2^32")
    parser.add_argument("--rate", type=int, default=1000, help="packets a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="ends after this in any case")
    parser.add_argument("--size", type=int, default=200, help="bytes of UDP payload")
    options = parser.parse_args(argv)
    if not 1 <= options.rate <= RATE_LIMIT:
        parser.error(f"--rate is 1 to {RATE_LIMIT}")
    if not 0 < options.seconds <= SECONDS_LIMIT:
        parser.error(f"--seconds is at most {SECONDS_LIMIT:.0f}")
    if not HEADER.size <= options.size <= SIZE_LIMIT:
        parser.error(f"--size is {HEADER.size} to {SIZE_LIMIT}")
    if not 0 <= options.run < 2**32:
        parser.error("--run is below 2^32")
    stop = Stop()
    report: Any
    if options.role == "send":
        report = send(
            options.address,
            options.port,
            options.run,
            options.rate,
            options.seconds,
            options.size,
            stop,
        )
    else:
        report = receive(options.address, options.port, options.run, options.seconds, stop)
    print(json.dumps(dataclasses.asdict(report)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
