"""Round trips of ICMP echo, the arrival of each answer stamped by the kernel.

The other end answers inside its kernel, and this end's stamp does not wait for this process: what
is measured is the way there and back, not how soon a process is given the processor.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Iterator

from tests.lab import probe
from tests.system.bed.topology import Host
from tests.system.bed.traffic import BUFFER_BYTES, SO_RCVBUFFORCE, checksum

#: Of this process while it sends: ahead of the agents (-10) and of the traffic (0), which could
#: otherwise delay a request and make the rate unsteady. The same for everything measured.
NICE = -15
#: An answer that takes longer counts as lost.
WAIT_S = 1.0

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; struct timespec in the clock of CLOCK_REALTIME
TIMESPEC = struct.Struct("@ll")
REQUEST, REPLY = 8, 0  # types of RFC 792
ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number (RFC 792)
BODY = struct.Struct("!QQ40x")  # number, ns of CLOCK_REALTIME at sending: 84 bytes, as ping sends


@dataclass
class RoundTrips:
    """What became of the requests; times in ms."""

    sent: int = 0
    taken_ns: dict[int, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        return self.sent - len(self.taken_ns)

    @property
    def summary(self) -> dict[str, float]:
        """Return p50, p99, p999 and more in ms; a lost one counts as long as is waited for it."""
        all_ns = [*self.taken_ns.values(), *[int(WAIT_S * 1e9)] * self.lost]
        summary = probe.summary_ms(all_ns)
        assert summary is not None, "no request was sent"
        return summary


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Run this process ahead of what it measures, and without pauses of its own."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    gc.collect()
    gc.disable()
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
        gc.enable()


def echo(host: Host, address: str, count: int, interval_s: float) -> RoundTrips:
    """Send requests at a steady rate, whether or not answers come."""
    result = RoundTrips()
    identifier = os.getpid() & 0xFFFF
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp, undisturbed():
        icmp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        icmp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        icmp.setblocking(False)
        icmp.connect((address, 0))
        began = time.monotonic()
        while len(result.taken_ns) < count:
            now = time.monotonic()
            if result.sent < count:
                due = began + result.sent * interval_s
                if due <= now:
                    icmp.send(_request(identifier, result.sent))
                    result.sent += 1
                    continue
            else:
                due = began + count * interval_s + WAIT_S
                if due <= now:
                    break
            if select.select([icmp], [], [], due - now)[0]:
                _take(icmp, identifier, result)
    return result


def _request(identifier: int, number: int) -> bytes:
    body = BODY.pack(number, time.clock_gettime_ns(time.CLOCK_REALTIME))
    blank = ECHO.pack(REQUEST, 0, 0, identifier, number & 0xFFFF)
    return ECHO.pack(REQUEST, 0, checksum(blank + body), identifier, number & 0xFFFF) + body


def _take(icmp: socket.socket, identifier: int, result: RoundTrips) -> None:
    while True:
        try:
            packet, ancillary, _, _ = icmp.recvmsg(2048, 64)
        except BlockingIOError:
            return
        arrived_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        for _, kind, data in ancillary:
            if kind == SO_TIMESTAMPNS:
                seconds, ns = TIMESPEC.unpack(data)
                arrived_ns = seconds * 10**9 + ns
        message = packet[(packet[0] & 15) * 4 :]
        if len(message) < ECHO.size + BODY.size:
            continue
        kind, _, _, whose, _ = ECHO.unpack_from(message)
        if kind == REPLY and whose == identifier:
            number, sent_ns = BODY.unpack_from(message, ECHO.size)
            result.taken_ns.setdefault(number, arrived_ns - sent_ns)
