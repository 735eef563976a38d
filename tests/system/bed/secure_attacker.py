#!/usr/bin/env python3
"""Attacks secure strands on LANs where it sees every frame.

``replay`` sends what it sees again: as it is, changed in every field, shortened, lengthened, back
to where it came from, on the other LAN, later and in another order, under the genuine source
address and under its own. ``initiations`` floods a host with handshakes that only its private key
can tell from genuine ones. Both say ``ready``, start when a line comes in on standard input, and
print at the end what they did as JSON.
"""

from __future__ import annotations

import argparse
import collections
import fcntl
import hashlib
import json
import os
import random
import select
import socket
import struct
import sys
import time
from typing import Callable

ETH_P_IP = 0x0800
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1  # linux/if_packet.h
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32  # asm-generic/socket.h
SIOCGIFADDR = 0x8915  # linux/sockios.h
IP_UDP = struct.Struct("!BBHHHBBH4s4sHHHH")
HEADERS = 14 + IP_UDP.size
LATER_FRAMES = 4000
PACE_S = 0.002
# A burst for the time that the program did not run would only overrun the victims' sockets.
BURST_S = 0.01
PUBLIC_KEY_BYTES = 32
# type and zeros, ephemeral key, static key and payload, sealed; the two MACs follow
INITIATION_BYTES = 4 + 32 + 48 + 56
MAC1_LABEL = b"ropeway mac1"


def internet_checksum(header: bytes) -> int:
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(
    ethernet: bytes, source: bytes, source_port: int, target: bytes, target_port: int, body: bytes
) -> bytes:
    """Return a UDP datagram in an Ethernet frame; without UDP checksum, as RFC 768 allows."""
    size = 28 + len(body)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 17, 0, source, target)
    head = head[:10] + struct.pack("!H", internet_checksum(head)) + head[12:]
    return ethernet + head + struct.pack("!HHHH", source_port, target_port, size - 20, 0) + body


class Tap:
    """One interface of the attacker: every frame of its LAN comes in, any frame goes out."""

    def __init__(self, interface: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
        self.socket.bind((interface, ETH_P_IP))
        self.mac: bytes = self.socket.getsockname()[4]
        index = socket.if_nametoindex(interface)
        membership = struct.pack("=iHH8s", index, PACKET_MR_PROMISC, 0, bytes(8))
        self.socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        self.socket.setblocking(False)
        request = struct.pack("16s16x", interface.encode())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            self.address = fcntl.ioctl(asking.fileno(), SIOCGIFADDR, request)[20:24]
        self.heard_frames = self.heard_bytes = 0

    def receive(self, limit: int) -> list[bytes]:
        """Return frames of others that carry UDP and are not for the attacker; count the rest."""
        frames = []
        for _ in range(limit):
            try:
                got, (_, _, kind, _, _) = self.socket.recvfrom(65536)
            except BlockingIOError:
                break
            if kind == socket.PACKET_OUTGOING or len(got) < HEADERS or got[14] != 0x45:
                continue
            if got[30:34] == self.address:
                self.heard_frames += 1
                self.heard_bytes += len(got) - 14
            elif got[23] == socket.IPPROTO_UDP:
                frames.append(got)
        return frames


class Attack:
    """What is done to a captured frame, in manners that take turns at random."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.draw = random.Random(options.seed)
        self.taps = [Tap(interface) for interface in options.interface]
        self.done: collections.Counter[str] = collections.Counter()
        self.own_bytes = self.sent = self.refused = self.passed_over = 0
        self.later: collections.deque[tuple[Tap, bytes]] = collections.deque(maxlen=LATER_FRAMES)
        self.seen: collections.Counter[int] = collections.Counter()
        self.manners: list[tuple[str, Callable[[bytes], bytes]]] = [
            ("replayed", bytes),
            ("type", lambda body: self._changed(body, 0, 1)),
            ("way", lambda body: self._changed(body, 1, 2)),
            ("link sequence", lambda body: self._changed(body, 2, 4)),
            ("index", lambda body: self._changed(body, 4, 8)),
            ("counter", lambda body: self._changed(body, 8, 16)),
            ("ciphertext", lambda body: self._changed(body, 16, max(17, len(body) - 16))),
            ("tag", lambda body: self._changed(body, max(0, len(body) - 16), len(body))),
            (
                "any bytes",
                lambda body: self._changed(body, 0, len(body), self.draw.randrange(2, 9)),
            ),
            ("truncated", lambda body: body[: self.draw.randrange(len(body))]),
            ("lengthened", lambda body: body + self.draw.randbytes(self.draw.randrange(1, 64))),
        ]

    def _changed(self, body: bytes, first: int, end: int, times: int = 1) -> bytes:
        changed = bytearray(body)
        for _ in range(times):
            at = self.draw.randrange(first, min(end, len(changed))) if first < len(changed) else 0
            changed[at] ^= self.draw.randrange(1, 256)
        return bytes(changed)

    def variants(self, tap: Tap, got: bytes) -> list[tuple[Tap, bytes]]:
        """Return frames to send for one that was captured."""
        draw = self.draw
        head = IP_UDP.unpack_from(got, 14)
        source, target, source_port, target_port = head[8:12]
        body = got[HEADERS : 14 + head[2]]
        if not body:
            return []
        self.seen[body[0]] += 1
        to, back = got[:6] + tap.mac + b"\x08\x00", got[6:12] + tap.mac + b"\x08\x00"
        out = [
            # Exactly what was seen, and the same from the attacker.
            self._made("replayed", tap, to, source, source_port, target, target_port, body),
            self._made("own", tap, to, tap.address, source_port, target, target_port, body),
        ]
        other = self.taps[-1] if tap is self.taps[0] else self.taps[0]
        manner = draw.choice(("reflected", "elsewhere", "later"))
        if manner == "reflected":
            out.append(
                self._made(manner, tap, back, target, target_port, source, source_port, body)
            )
        elif manner == "elsewhere":
            # Between the same hosts there; to everybody, since its MAC addresses are others.
            everybody = b"\xff" * 6 + other.mac + b"\x08\x00"
            source, target = (other.address[:3] + end[3:] for end in (source, target))
            out.append(
                self._made(manner, other, everybody, source, source_port, target, target_port, body)
            )
            source, target = head[8:10]
        else:
            self.later.append(out[draw.randrange(2)])
            place = draw.randrange(len(self.later))
            self.later[place], self.later[0] = self.later[0], self.later[place]
            if len(self.later) > LATER_FRAMES // 4:
                self.done[manner] += 1
                out.append(self.later.popleft())
        for _ in range(3):
            name, change = draw.choice(self.manners)
            spoofed = draw.random() < 0.5
            by = source if spoofed else tap.address
            port = source_port if draw.random() < 0.7 else draw.randrange(1024, 65536)
            out.append(self._made(name, tap, to, by, port, target, target_port, change(body)))
        return out

    def _made(self, name: str, tap: Tap, ethernet: bytes, *rest: bytes | int) -> tuple[Tap, bytes]:
        self.done[name] += 1
        made = frame(ethernet, *rest)  # type: ignore[arg-type]
        if rest[0] == tap.address:
            self.own_bytes += len(made) - 14
        return tap, made

    def send(self, tap: Tap, made: bytes) -> None:
        try:
            tap.socket.send(made)
            self.sent += 1
        except OSError:
            self.refused += 1


def replay(options: argparse.Namespace) -> dict[str, object]:
    attack = Attack(options)
    ready()
    for tap in attack.taps:
        tap.receive(1 << 20)  # what was there before
    began = now = time.monotonic()
    credit, last = 0.0, began
    while now < began + options.seconds:
        select.select([tap.socket for tap in attack.taps], [], [], PACE_S)
        now = time.monotonic()
        credit = min(credit + (now - last) * options.rate, options.rate * BURST_S)
        last = now
        for tap in attack.taps:
            for got in tap.receive(64):
                if credit <= 0:
                    attack.passed_over += 1
                    continue
                for where, made in attack.variants(tap, got):
                    attack.send(where, made)
                    credit -= 1
    # What is answered a moment later counts, too.
    end = time.monotonic() + 0.5
    while (left := end - time.monotonic()) > 0:
        select.select([tap.socket for tap in attack.taps], [], [], left)
        for tap in attack.taps:
            tap.receive(64)
    return {
        "sent": attack.sent,
        "refused": attack.refused,
        "passed_over": attack.passed_over,
        "seconds": now - began,
        "manners": dict(attack.done),
        "types": {str(kind): count for kind, count in sorted(attack.seen.items())},
        "own_bytes": attack.own_bytes,
        "heard_bytes": sum(tap.heard_bytes for tap in attack.taps),
        "heard_frames": sum(tap.heard_frames for tap in attack.taps),
    }


def initiations(options: argparse.Namespace) -> dict[str, object]:
    tap = Tap(options.interface[0])
    draw = random.Random(options.seed)
    key = hashlib.blake2s(MAC1_LABEL + bytes.fromhex(options.public_key)).digest()
    assert len(bytes.fromhex(options.public_key)) == PUBLIC_KEY_BYTES
    ethernet = bytes.fromhex(options.mac.replace(":", "")) + tap.mac + b"\x08\x00"
    target = socket.inet_aton(options.target)
    sent = refused = own_bytes = 0
    ready()
    began = now = time.monotonic()
    while now < began + options.seconds:
        wanted = int((now - began) * options.rate)
        for number in range(sent, min(wanted, sent + 64)):
            covered = b"\x01\0\0\0" + os.urandom(INITIATION_BYTES - 4)
            mac1 = hashlib.blake2s(covered, digest_size=16, key=key).digest()
            source = tap.address
            if number % 2:
                source = source[:3] + bytes([draw.randrange(100, 200)])
            port = draw.randrange(1024, 65536)
            made = frame(ethernet, source, port, target, options.port, covered + mac1 + bytes(16))
            try:
                tap.socket.send(made)
                sent += 1
                own_bytes += (len(made) - 14) * (source == tap.address)
            except OSError:
                refused += 1
        tap.receive(64)
        if sent >= wanted:
            time.sleep(PACE_S)
        now = time.monotonic()
    tap.receive(1 << 20)
    return {
        "sent": sent,
        "refused": refused,
        "seconds": now - began,
        "own_bytes": own_bytes,
        "heard_bytes": tap.heard_bytes,
        "heard_frames": tap.heard_frames,
    }


def ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    parser = argparse.ArgumentParser(description="attacks that secure strands must survive")
    commands = parser.add_subparsers(required=True)
    replaying = commands.add_parser("replay")
    replaying.set_defaults(run=replay)
    flooding = commands.add_parser("initiations")
    flooding.set_defaults(run=initiations)
    flooding.add_argument("--public-key", required=True, help="of the target, in hex")
    flooding.add_argument("--mac", required=True, help="of the target")
    flooding.add_argument("--target", required=True, help="its IPv4 address")
    flooding.add_argument("--port", type=int, required=True)
    for command in (replaying, flooding):
        command.add_argument("--interface", action="append", required=True)
        command.add_argument("--rate", type=float, required=True)
        command.add_argument("--seconds", type=float, required=True)
        command.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(options.run(options)), flush=True)


if __name__ == "__main__":
    main()
