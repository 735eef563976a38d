"""Traffic with a verdict: steady streams of numbered packets, pings, and captures of the device.

Everything runs in threads of the test process on sockets that live in the hosts' namespaces.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Iterator

from tests.system.topology import Host

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
BUFFER_BYTES = 8 << 20
STREAM = struct.Struct("!Qd")  # number, monotonic seconds at sending
STREAM_PORT = 4000
DRAIN_S = 0.5
ICMP_ECHO_REQUEST = 8
ICMP_ECHO_REPLY = 0


@dataclass
class Verdict:
    """What became of a stream."""

    sent: int = 0
    lost: int = 0
    duplicated: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    longest_gap_ms: float = 0.0
    lost_numbers: list[int] = field(default_factory=list)

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan

    def __str__(self) -> str:
        return (
            f"{self.sent} sent, {self.lost} lost, {self.duplicated} duplicated, "
            f"p50 {self.percentile_ms(0.5):.2f} ms, p99 {self.percentile_ms(0.99):.2f} ms, "
            f"max {max(self.latencies_ms, default=math.nan):.2f} ms, "
            f"longest gap {self.longest_gap_ms:.1f} ms"
        )


class Stream:
    """Numbered UDP packets from one host to another at a steady rate, in a thread of its own."""

    def __init__(
        self,
        sender: Host,
        receiver: Host,
        address: str,
        rate: int = 1000,
        size: int = 64,
        port: int = STREAM_PORT,
    ) -> None:
        self.interval_s = 1 / rate
        self.padding = bytes(size - STREAM.size)
        self.out = sender.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.out.connect((address, port))
        self.out.setblocking(False)
        self.into = receiver.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.into.bind((address, port))
        self.into.setblocking(False)
        self.stopping = threading.Event()
        self.counts: dict[int, int] = {}
        self.verdict = Verdict()
        self.refused = 0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Stream:
        self.thread.start()
        return self

    def stop(self) -> Verdict:
        """Stop sending, wait for stragglers, and count."""
        self.stopping.set()
        self.thread.join()
        self.out.close()
        self.into.close()
        verdict = self.verdict
        verdict.lost_numbers = [n for n in range(verdict.sent) if n not in self.counts]
        verdict.lost = len(verdict.lost_numbers)
        verdict.duplicated = sum(count - 1 for count in self.counts.values())
        return verdict

    def _run(self) -> None:
        began = time.monotonic()
        heard = began
        end = math.inf
        while True:
            now = time.monotonic()
            if now >= end:
                return
            if self.stopping.is_set():
                end = min(end, now + DRAIN_S)
                wait = end - now
            else:
                due = began + self.verdict.sent * self.interval_s
                if due <= now:
                    self._send(now)
                    due += self.interval_s
                wait = due - time.monotonic()
            if select.select([self.into], [], [], max(0.0, wait))[0]:
                heard = self._receive(heard)

    def _send(self, now: float) -> None:
        try:
            self.out.send(STREAM.pack(self.verdict.sent, now) + self.padding)
        except OSError:
            self.refused += 1  # the virtual device is away for the moment: counts as lost
        self.verdict.sent += 1

    def _receive(self, heard: float) -> float:
        while True:
            try:
                packet = self.into.recv(2048)
            except BlockingIOError:
                return heard
            now = time.monotonic()
            number, sent_at = STREAM.unpack_from(packet)
            self.counts[number] = self.counts.get(number, 0) + 1
            self.verdict.latencies_ms.append((now - sent_at) * 1e3)
            if number:
                self.verdict.longest_gap_ms = max(self.verdict.longest_gap_ms, (now - heard) * 1e3)
            heard = now


@contextlib.contextmanager
def both_ways(
    one: Host, one_address: str, other: Host, other_address: str, rate: int = 1000, size: int = 64
) -> Iterator[dict[str, Verdict]]:
    """Stream both ways as long as the block runs; the verdicts are there when it has ended."""
    verdicts: dict[str, Verdict] = {}
    streams = {
        f"{one.name} -> {other.name}": Stream(one, other, other_address, rate, size),
        f"{other.name} -> {one.name}": Stream(other, one, one_address, rate, size),
    }
    for stream in streams.values():
        stream.start()
    try:
        yield verdicts
    finally:
        for way, stream in streams.items():
            verdicts[way] = stream.stop()
            print(f"{way}: {verdicts[way]}")


def assert_whole(verdicts: dict[str, Verdict]) -> None:
    """Nothing lost and nothing twice, either way."""
    assert verdicts
    for way, verdict in verdicts.items():
        assert verdict.sent, way
        assert (verdict.lost, verdict.duplicated) == (0, 0), (
            f"{way}: {verdict}, lost {verdict.lost_numbers[:20]}"
        )


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(host: Host, address: str, count: int, interval_s: float, wait_s: float = 0.5) -> Verdict:
    """Ping at a steady rate without waiting for answers; latencies are round trips."""
    verdict = Verdict()
    identifier = threading.get_ident() & 0xFFFF
    counts: dict[int, int] = {}
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
        icmp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        icmp.setblocking(False)
        icmp.connect((address, 0))
        began = time.monotonic()
        end = math.inf
        while True:
            now = time.monotonic()
            if now >= end or len(counts) == count:
                break
            wait = end - now
            if verdict.sent < count:
                due = began + verdict.sent * interval_s
                if due <= now:
                    icmp.send(_echo_request(identifier, verdict.sent & 0xFFFF, verdict.sent, now))
                    verdict.sent += 1
                    end = now + wait_s if verdict.sent == count else end
                wait = max(0.0, began + verdict.sent * interval_s - now)
            if select.select([icmp], [], [], min(wait, wait_s))[0]:
                _read_replies(icmp, identifier, counts, verdict)
    verdict.lost_numbers = [number for number in range(count) if number not in counts]
    verdict.lost = len(verdict.lost_numbers)
    verdict.duplicated = sum(seen - 1 for seen in counts.values())
    return verdict


def _echo_request(identifier: int, sequence: int, number: int, now: float) -> bytes:
    body = STREAM.pack(number, now)
    header = struct.pack("!BBHHH", ICMP_ECHO_REQUEST, 0, 0, identifier, sequence)
    header = header[:2] + struct.pack("!H", checksum(header + body)) + header[4:]
    return header + body


def _read_replies(
    icmp: socket.socket, identifier: int, counts: dict[int, int], verdict: Verdict
) -> None:
    while True:
        try:
            packet = icmp.recv(2048)
        except BlockingIOError:
            return
        now = time.monotonic()
        message = packet[(packet[0] & 15) * 4 :]
        kind, _, _, whose, _ = struct.unpack_from("!BBHHH", message)
        if kind != ICMP_ECHO_REPLY or whose != identifier or len(message) < 8 + STREAM.size:
            continue
        number, sent_at = STREAM.unpack_from(message, 8)
        counts[number] = counts.get(number, 0) + 1
        verdict.latencies_ms.append((now - sent_at) * 1e3)


def binomial_interval(trials: int, share: float, confidence: float) -> tuple[int, int]:
    """Return the counts between which a binomial draw falls with at least this confidence."""
    tail = (1 - confidence) / 2
    cumulative = 0.0
    low = None
    for successes in range(trials + 1):
        cumulative += math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(successes + 1)
            - math.lgamma(trials - successes + 1)
            + successes * math.log(share)
            + (trials - successes) * math.log1p(-share)
        )
        if low is None and cumulative > tail:
            low = successes
        if cumulative >= 1 - tail:
            return low or 0, successes
    return low or 0, trials


class Device:
    """Raw access to a virtual device: what is written leaves through the agent untouched."""

    def __init__(self, host: Host, name: str) -> None:
        self.socket = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.socket.bind((name, 0x0800))
        self.name = name

    def send(self, packet: bytes) -> None:
        self.socket.sendto(packet, (self.name, 0x0800))

    def receive(self, deadline_s: float) -> Iterator[bytes]:
        """Yield packets that the kernel was given by the agent, until the deadline."""
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return
            packet, (_, _, packet_type, _, _) = self.socket.recvfrom(65536)
            if packet_type != socket.PACKET_OUTGOING:
                yield packet

    def close(self) -> None:
        self.socket.close()


def drain(tap: socket.socket) -> list[bytes]:
    """Return every frame that a capture holds now."""
    tap.setblocking(False)
    frames = []
    while True:
        try:
            frames.append(tap.recv(65536))
        except BlockingIOError:
            return frames
