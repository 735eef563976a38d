"""A node that a test plays by hand, frame by frame."""

from __future__ import annotations

import dataclasses
import socket
from typing import Callable

from tests.system.bed.reference_node import Frame, with_checksum
from tests.system.bed.topology import Port, until
from tests.system.bed.traffic import BUFFER_BYTES, SO_RCVBUFFORCE

PROTOCOL_UDP = 17


def ipv4(
    source: str,
    destination: str,
    payload: bytes = b"",
    protocol: int = PROTOCOL_UDP,
    ttl: int = 64,
    tos: int = 0,
    identification: int = 0,
    flags_and_offset: int = 0,
    options: bytes = b"",
) -> bytes:
    """Return an IPv4 packet; ``options`` is padded to whole words (RFC 791, section 3.1)."""
    options += bytes(-len(options) % 4)
    length = 20 + len(options)
    header = (
        bytes([0x40 | length // 4, tos])
        + (length + len(payload)).to_bytes(2, "big")
        + identification.to_bytes(2, "big")
        + flags_and_offset.to_bytes(2, "big")
        + bytes([ttl, protocol, 0, 0])
        + socket.inet_aton(source)
        + socket.inet_aton(destination)
        + options
    )
    return with_checksum(header) + payload


def udp(source: str, destination: str, payload: bytes, port: int, identification: int = 0) -> bytes:
    """Return a UDP datagram in an IPv4 packet, without UDP checksum (RFC 768 allows it)."""
    header = b"".join(number.to_bytes(2, "big") for number in (9, port, 8 + len(payload), 0))
    return ipv4(source, destination, header + payload, identification=identification)


class Puppet:
    """One (host, interface) of the protocol whose frames a test writes itself."""

    def __init__(self, port: Port, host: str, index: int, target: str, target_index: int) -> None:
        self.host = host
        self.greeting = Frame(port.ip, target, host, index, target_index, state=0)
        self.identification = 0
        self.out = port.host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.out.setsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, port.interface.encode() + b"\0"
        )
        self.target = target
        self.into = port.host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        self.into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.into.bind((port.interface, 0x0800))
        self.into.setblocking(False)
        self.frames: list[Frame] = []

    def say(self, state: int, id_: int = 0, payload: bytes | None = None) -> None:
        """Send one frame."""
        self.identification = self.identification % 0xFFFF + 1
        frame = dataclasses.replace(
            self.greeting,
            state=state,
            id=id_,
            payload=payload,
            identification=self.identification,
        )
        self.out.sendto(frame.pack(), (self.target, 0))

    def hear(self) -> list[Frame]:
        """Return every frame that has come for this node up to now."""
        while True:
            try:
                packet, (_, _, packet_type, _, _) = self.into.recvfrom(65536)
            except BlockingIOError:
                return self.frames
            frame = Frame.unpack(packet)
            if frame is not None and packet_type == 0 and frame.destination == self.greeting.source:
                self.frames.append(frame)

    def wait_for(
        self, condition: Callable[[Frame], bool], what: str, deadline_s: float = 5
    ) -> Frame:
        """Wait for a frame and return it."""

        def found() -> list[Frame]:
            return [frame for frame in self.hear() if condition(frame)]

        frames: list[Frame] = until(found, deadline_s, lambda: f"{what}; heard {self.frames[-5:]}")
        return frames[0]

    def shake_hands(self) -> None:
        """Bring the connection to state 2 at the other end."""
        self.say(0)
        self.wait_for(lambda frame: frame.state == 1, "an answer at state 1")
        self.say(2)

    def close(self) -> None:
        self.out.close()
        self.into.close()
