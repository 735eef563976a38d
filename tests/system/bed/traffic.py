"""Traffic with a verdict: steady streams of numbered packets, pings, and captures of the device.

Streams are the lab's own probe, started in the hosts' namespaces; the rest runs in the test's
process on sockets that live there.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

from tests.lab import probe
from tests.lab.process import unchanged
from tests.system.bed import bulk as bulk_program
from tests.system.bed import pace
from tests.system.bed.topology import Host, until

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
BUFFER_BYTES = 8 << 20
ECHO = struct.Struct("!Qd")  # number, monotonic seconds at sending
# Packets a second on a fast machine. Several tests at a time send so many, through up to three
# agents each. Agents that wait too long for a processor drop what waits with them.
STREAM_RATE = 500
STREAM_LIMIT_S = 300.0
FLOWING_PACKETS = 50
# Once nothing has arrived for so long, seen by so many looks, what is still missing counts as lost.
QUIET_S = 0.5
QUIET_LOOKS = 20
ANSWER_S = 5.0
REPORT_S = 60.0
BULK_PORT = 5201
TRANSFER_BYTES = 30_000_000
#: Many times what that takes on a busy machine without any help from the kernel.
TRANSFER_S = 60.0
FLOOD_PORT = 5301
ICMP_ECHO_REQUEST = 8
ICMP_ECHO_REPLY = 0


@dataclass
class Verdict:
    """What became of the packets of a stream or a ping; latencies in ms, None without any."""

    sent: int = 0
    lost: int = 0
    duplicated: int = 0
    latency_ms: dict[str, float] | None = None
    remarks: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        latency = self.latency_ms or dict.fromkeys(("p50", "p99", "max"), math.nan)
        return (
            f"{self.sent} sent, {self.lost} lost, {self.duplicated} duplicated, "
            + ", ".join(f"{name} {latency[name]:.2f} ms" for name in ("p50", "p99", "max"))
            + "".join(f", {name} {remark}" for name, remark in self.remarks.items() if remark)
        )


class Stream:
    """Numbered UDP packets from one host to another at a steady rate, until stopped."""

    def __init__(
        self, sender: Host, receiver: Host, address: str, rate: int = STREAM_RATE, size: int = 64
    ) -> None:
        self.sender = sender
        self.way = f"{sender.name} -> {receiver.name}"
        run = random.SystemRandom().getrandbits(32)
        common = ["--address", address, "--run", str(run), "--seconds", str(STREAM_LIMIT_S)]
        self.receiving = _launch(receiver, "receive", common)
        assert self.receiving.stdout is not None
        assert self.receiving.stdout.readline().startswith("ready ")
        before = self._datagrams_out()
        self.sending = _launch(sender, "send", [*common, "--rate", str(rate), "--size", str(size)])
        until(
            lambda: self._datagrams_out() - before >= min(FLOWING_PACKETS, rate // 10),
            REPORT_S,
            "the stream flows",
        )

    def _datagrams_out(self) -> int:
        return self.sender.counters("Udp")["OutDatagrams"]

    def stop_sending(self) -> None:
        """Let the sender report; what is on its way may still arrive."""
        self.sent = _report(self.sending)

    def stop(self) -> Verdict:
        """Let the receiver report, and count."""
        got = _report(self.receiving)
        return Verdict(
            sent=self.sent["sent"],
            lost=self.sent["sent"] - got["received"],
            duplicated=got["duplicated"],
            latency_ms=got["latency_ms"],
            remarks={
                name: report[name]
                for report, names in (
                    (self.sent, ("refused", "skipped_s")),
                    (got, ("reordered", "overflowed", "missing", "repeated")),
                )
                for name in names
            },
        )

    def abandon(self) -> None:
        """Kill whatever still runs."""
        for process in (self.sending, self.receiving):
            if process.poll() is None:
                process.kill()
                process.wait()


def _launch(host: Host, role: str, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        host.command(sys.executable, "-I", probe.__file__, role, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Close a probe's standard input, at which it ends, and return what it reports."""
    output, _ = process.communicate(timeout=REPORT_S)
    assert process.returncode == 0, f"the probe failed with {process.returncode}"
    return dict(json.loads(output.splitlines()[-1]))


@contextlib.contextmanager
def both_ways(
    one: Host,
    one_address: str,
    other: Host,
    other_address: str,
    rate: int = STREAM_RATE,
    size: int = 64,
) -> Iterator[dict[str, Verdict]]:
    """Stream both ways as long as the block runs; the verdicts are there when it has ended.

    ``rate`` is the packets a second on a fast machine, each way.
    """
    streams: list[Stream] = []
    rate = pace.rate(rate)
    with _judged(streams, one, other) as verdicts:
        streams.append(Stream(one, other, other_address, rate, size))
        streams.append(Stream(other, one, one_address, rate, size))
        yield verdicts


@contextlib.contextmanager
def one_way(
    sender: Host, receiver: Host, address: str, rate: int, size: int
) -> Iterator[dict[str, Verdict]]:
    """Stream one way as long as the block runs; the only verdict is there when it has ended."""
    streams: list[Stream] = []
    with _judged(streams, sender, receiver) as verdicts:
        streams.append(Stream(sender, receiver, address, rate, size))
        yield verdicts


@contextlib.contextmanager
def _judged(streams: list[Stream], *hosts: Host) -> Iterator[dict[str, Verdict]]:
    """End what is in ``streams`` after the block, and give the verdicts by their ways."""
    verdicts: dict[str, Verdict] = {}
    try:
        yield verdicts
        for stream in streams:
            stream.stop_sending()
        wait_quiet(*hosts)
        for stream in streams:
            verdicts[stream.way] = stream.stop()
            print(f"{stream.way}: {verdicts[stream.way]}")
    finally:
        for stream in streams:
            stream.abandon()


@dataclass(frozen=True)
class Moved:
    """What became of a bulk transfer; ``stall_s`` is the longest that nothing arrived."""

    sent: int
    received: int
    same: bool  # by SHA-256; always if nobody looked
    seconds: float
    stall_s: float

    def __str__(self) -> str:
        rate = self.received * 8 / max(self.seconds, 0.001) / 1e6
        return (
            f"{self.sent} bytes sent, {self.received} received, the same: {self.same}, "
            f"{self.seconds:.2f} s, {rate:.0f} Mbit/s, stalled {self.stall_s:.2f} s"
        )

    @property
    def whole(self) -> bool:
        return self.same and self.sent == self.received > 0


class Bulk:
    """A TCP connection between processes of two hosts that sends as fast as it may.

    Random bytes, ``size`` of them or as many as fit until it is stopped, ``pace`` bytes a second at
    most unless that is 0; an unchecked one leaves the processors to the agents.
    """

    def __init__(
        self,
        sender: Host,
        receiver: Host,
        address: str,
        size: int = 0,
        pace: int = 0,
        checked: bool = True,
        tos: int = 0,
    ) -> None:
        self.checked = checked
        where = ["--address", address, "--port", str(BULK_PORT), *([] if checked else ["--plain"])]
        what = ["--bytes", str(size), "--pace", str(pace), "--tos", str(tos)]
        self.taking = _launch_bulk(receiver, "take", where)
        _wait_ready(self.taking)
        self.giving = _launch_bulk(sender, "give", [*where, *what])
        _wait_ready(self.giving)

    def finish(self, deadline_s: float) -> Moved:
        """Wait until everything asked for has arrived."""
        self.giving.wait(deadline_s)
        return self.stop()

    def stop(self) -> Moved:
        """Let the sender end, and wait for what is on its way."""
        gave, took = _report(self.giving), _report(self.taking)
        return Moved(
            sent=gave["bytes"],
            received=took["bytes"],
            same=not self.checked or gave["sha256"] == took["sha256"],
            seconds=took["seconds"],
            stall_s=took["stall_s"],
        )

    def abandon(self) -> None:
        """Kill whatever still runs."""
        for process in (self.giving, self.taking):
            if process.poll() is None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def bulk(sender: Host, receiver: Host, address: str, **options: Any) -> Iterator[Bulk]:
    """Have a bulk transfer that goes with the block at the latest."""
    made = Bulk(sender, receiver, address, **options)
    try:
        yield made
    finally:
        made.abandon()


def transfer_both_ways(one: Host, one_address: str, other: Host, other_address: str) -> None:
    """Move random bytes over two connections at once; both have to arrive whole."""
    with bulk(one, other, other_address, size=TRANSFER_BYTES) as there, bulk(
        other, one, one_address, size=TRANSFER_BYTES
    ) as back:
        for transfer in (there, back):
            moved = transfer.finish(TRANSFER_S)
            print(moved)
            assert moved.whole, moved
            assert moved.sent == TRANSFER_BYTES


@contextlib.contextmanager
def flood(
    sender: Host, receiver: Host, address: str, size: int = 1200, segments: int = 1, rate: int = 0
) -> Iterator[dict[str, Any]]:
    """Send datagrams to a socket that reads none; what was sent is told when the block ends."""
    report: dict[str, Any] = {}
    with receiver.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind((address, FLOOD_PORT))
        where = ["--address", address, "--port", str(FLOOD_PORT), "--size", str(size)]
        shape = ["--segments", str(segments), "--rate", str(rate)]
        process = _launch_bulk(sender, "flood", [*where, *shape])
        try:
            yield report
            report.update(_report(process))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def _launch_bulk(host: Host, role: str, arguments: list[str]) -> subprocess.Popen[str]:
    program = str(Path(bulk_program.__file__))
    return subprocess.Popen(
        host.command(sys.executable, "-I", program, role, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_quiet(*receivers: Host) -> None:
    """Wait until the kernels of some hosts have taken in no UDP datagram for QUIET_S."""
    quiet = unchanged(
        lambda: [host.counters("Udp")["InDatagrams"] for host in receivers],
        for_s=QUIET_S,
        looks=QUIET_LOOKS,
    )
    until(quiet, REPORT_S, "nothing is on its way any more")


def assert_whole(verdicts: dict[str, Verdict]) -> None:
    """Nothing lost and nothing twice, either way."""
    assert verdicts
    for way, verdict in verdicts.items():
        assert verdict.sent, way
        assert (verdict.lost, verdict.duplicated) == (0, 0), f"{way}: {verdict}"


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(
    host: Host, address: str, count: int, interval_s: float, wait_s: float = ANSWER_S
) -> Verdict:
    """Ping at a steady rate without waiting for answers; latencies are round trips.

    Answers are waited for as long as ``wait_s`` after the last one was sent, if any is missing.
    """
    verdict = Verdict()
    identifier = threading.get_ident() & 0xFFFF
    counts: dict[int, int] = {}
    round_trips_ns: list[int] = []
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
        icmp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        icmp.setblocking(False)
        icmp.connect((address, 0))
        began = time.monotonic()
        end = math.inf
        while True:
            now = time.monotonic()
            if now >= end or len(counts) == count:
                # What came while this process did not run has come in time.
                _read_replies(icmp, identifier, counts, round_trips_ns)
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
                _read_replies(icmp, identifier, counts, round_trips_ns)
    verdict.lost = count - len(counts)
    verdict.duplicated = sum(seen - 1 for seen in counts.values())
    verdict.latency_ms = probe.summary_ms(round_trips_ns)
    return verdict


def _echo_request(identifier: int, sequence: int, number: int, now: float) -> bytes:
    body = ECHO.pack(number, now)
    header = struct.pack("!BBHHH", ICMP_ECHO_REQUEST, 0, 0, identifier, sequence)
    header = header[:2] + struct.pack("!H", checksum(header + body)) + header[4:]
    return header + body


def _read_replies(
    icmp: socket.socket, identifier: int, counts: dict[int, int], round_trips_ns: list[int]
) -> None:
    while True:
        try:
            packet = icmp.recv(2048)
        except BlockingIOError:
            return
        now = time.monotonic()
        message = packet[(packet[0] & 15) * 4 :]
        kind, _, _, whose, _ = struct.unpack_from("!BBHHH", message)
        if kind != ICMP_ECHO_REPLY or whose != identifier or len(message) < 8 + ECHO.size:
            continue
        number, sent_at = ECHO.unpack_from(message, 8)
        counts[number] = counts.get(number, 0) + 1
        round_trips_ns.append(int((now - sent_at) * 1e9))


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


def is_icmp(frame: bytes) -> bool:
    """Tell whether an Ethernet frame holds an IPv4 packet whose protocol is ICMP."""
    return frame[12:14] == b"\x08\x00" and frame[23:24] == bytes([socket.IPPROTO_ICMP])


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram as it crosses a LAN; ``packet_bytes`` is the size of its IP packet."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    payload: bytes
    packet_bytes: int

    @classmethod
    def unpack(cls, frame: bytes) -> Datagram | None:
        """Read an Ethernet frame; None if it holds no UDP datagram (RFC 768, 791, 8200)."""
        packet = frame[14:]
        if frame[12:14] == b"\x08\x00" and len(packet) >= 28 and packet[9] == socket.IPPROTO_UDP:
            start, size = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
            ends = [socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16)]
        elif frame[12:14] == b"\x86\xdd" and len(packet) >= 48 and packet[6] == socket.IPPROTO_UDP:
            start, size = 40, 40 + int.from_bytes(packet[4:6], "big")
            ends = [socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24)]
        else:
            return None
        source_port, destination_port = struct.unpack_from("!HH", packet, start)
        payload = packet[start + 8 : size]
        return cls(ends[0], source_port, ends[1], destination_port, payload, size)


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
