#!/usr/bin/env python3
"""Floods one interface's neighbour with frames, as fast as asked and no faster.

``fuzz`` sends random bytes and mutated copies of genuine packets; ``flood`` plays a node of the
protocol that sends numbered, distinct packets over one or more interfaces at once. Both prepare
everything first, say ``ready``, and start when a line comes in on standard input; at the end they
print what they did as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import sys
import time
from typing import Iterator

ETH_P_IP = 0x0800
ETHERNET = struct.Struct("!6s6sH")
HEADER_BYTES = 32
PACE_S = 0.002
IDS = 1 << 13


def internet_checksum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def repaired(packet: bytearray) -> bytearray:
    """Give a mutated packet a total length and a checksum that the kernel accepts."""
    if len(packet) >= HEADER_BYTES:
        packet[2:4] = struct.pack("!H", len(packet))
        packet[10:12] = b"\0\0"
        length = max(20, min((packet[0] & 15) * 4, len(packet) & ~3))
        packet[10:12] = struct.pack("!H", internet_checksum(bytes(packet[:length])))
    return packet


def mutated(draw: random.Random, samples: list[bytes]) -> bytes:
    """Return a genuine packet with something wrong with it, mostly under a valid checksum."""
    packet = bytearray(draw.choice(samples))
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        manner = draw.randrange(6)
        if not packet:
            break
        if manner == 0:
            packet[draw.randrange(len(packet))] ^= 1 << draw.randrange(8)
        elif manner == 1:
            packet[draw.randrange(len(packet))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif manner == 2:
            del packet[draw.randrange(len(packet)) :]
        elif manner == 3:
            packet += draw.randbytes(draw.randrange(1, 64))
        elif manner == 4:
            # Aim: host, indices, state and id are where the agent's tables are.
            packet[20:34] = draw.randbytes(14)[: len(packet[20:34])]
        else:
            other = draw.choice(samples)
            packet[draw.randrange(len(packet)) :] = other[draw.randrange(len(other)) :]
    return bytes(repaired(packet) if draw.random() < 0.8 else packet)


def fuzz_frames(options: argparse.Namespace, source: bytes, target: bytes) -> list[bytes]:
    draw = random.Random(options.seed)
    with open(options.samples, encoding="ascii") as file:
        samples = [bytes.fromhex(line) for line in file]
    frames = []
    for _ in range(options.frames):
        if draw.random() < 0.8:
            packet = mutated(draw, samples)
        else:
            packet = draw.randbytes(draw.randrange(1, 200))
            if draw.random() < 0.7:
                # Random, but let through to the agent.
                packet = bytes(repaired(bytearray(b"\x48" + packet[1:9] + b"\x04" + packet[10:])))
        frames.append(ETHERNET.pack(target, source, ETH_P_IP) + packet[:1400])
    return frames


def flood_packets(options: argparse.Namespace) -> list[list[bytes]]:
    """Return, for each interface, the same numbered packets in that interface's frames."""
    lists: list[list[bytes]] = []
    for number, (link, (source, target)) in enumerate(zip(options.link, options.addresses), 1):
        _, index, target_index = link.split(",")
        path = (
            socket.inet_aton(source)
            + socket.inet_aton(target)
            + socket.inet_aton(options.host)
            + struct.pack("<II", int(index), int(target_index))
        )
        packets = []
        for serial in range(options.frames):
            inner = inner_packet(options.host, options.inner, options.port, serial)
            start = struct.pack(
                "!BBH2sHBBH", 0x48, 0, 34 + len(inner), struct.pack("<H", number), 0, 64, 4, 0
            )
            extra = struct.pack("<H", 2 | 4 | serial % IDS << 3)
            packets.append(bytes(start + path + extra + inner))
        lists.append(packets)
    return lists


def inner_packet(source: str, destination: str, port: int, serial: int) -> bytes:
    """Return a UDP datagram that carries its number."""
    payload = struct.pack("!Q", serial)
    datagram = struct.pack("!HHHH", 9, port, 8 + len(payload), 0) + payload
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(datagram),
        serial & 0xFFFF,
        0,
        64,
        17,
        0,
        socket.inet_aton(source),
        socket.inet_aton(destination),
    )
    return header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:] + datagram


def ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def paced(total: int, rate: float) -> Iterator[tuple[int, int]]:
    """Yield (from, to) runs of numbers, so many a second."""
    began = time.monotonic()
    done = 0
    while done < total:
        wanted = min(total, int((time.monotonic() - began) * rate) + 1)
        if wanted <= done:
            time.sleep(PACE_S)
            continue
        # Never a burst: what could not be sent in time is made up for little by little.
        wanted = min(wanted, done + max(1, int(rate * PACE_S * 4)))
        yield done, wanted
        done = wanted


def fuzz(options: argparse.Namespace) -> dict[str, float]:
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.bind((options.interface, 0))
    source = out.getsockname()[4]
    frames = fuzz_frames(options, source, bytes.fromhex(options.mac.replace(":", "")))
    ready()
    began = time.monotonic()
    refused = 0
    for start, end in paced(len(frames), options.rate):
        for frame in frames[start:end]:
            try:
                out.send(frame)
            except OSError:
                refused += 1
    return {"sent": len(frames), "refused": refused, "seconds": time.monotonic() - began}


def flood(options: argparse.Namespace) -> dict[str, float]:
    options.addresses = [tuple(pair.split(",")) for pair in options.addresses]
    lists = flood_packets(options)
    outs = []
    for link, (_, target) in zip(options.link, options.addresses):
        out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        name = link.split(",")[0].encode() + b"\0"
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
        outs.append((out, (target, 0)))
    ready()
    began = time.monotonic()
    refused = 0
    for start, end in paced(options.frames, options.rate):
        for (out, to), packets in zip(outs, lists):
            for packet in packets[start:end]:
                try:
                    out.sendto(packet, to)
                except OSError:
                    refused += 1
    return {"sent": options.frames, "refused": refused, "seconds": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description="frames that an agent must survive")
    commands = parser.add_subparsers(required=True)
    fuzzer = commands.add_parser("fuzz")
    fuzzer.set_defaults(run=fuzz)
    fuzzer.add_argument("--interface", required=True)
    fuzzer.add_argument("--mac", required=True, help="of the target")
    fuzzer.add_argument(
        "--samples", required=True, help="file of genuine packets, one in hex a line"
    )
    fuzzer.add_argument("--seed", type=int, required=True)
    flooder = commands.add_parser("flood")
    flooder.set_defaults(run=flood)
    flooder.add_argument("--host", required=True, help="own virtual address")
    flooder.add_argument("--inner", required=True, help="virtual address that packets are for")
    flooder.add_argument("--port", type=int, required=True)
    flooder.add_argument(
        "--link", action="append", required=True, help="interface,own index,target's index"
    )
    flooder.add_argument("--addresses", action="append", required=True, help="source,target")
    for command in (fuzzer, flooder):
        command.add_argument("--rate", type=float, required=True)
        command.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(options.run(options)), flush=True)


if __name__ == "__main__":
    main()
