"""Which packets a device gives its host, and whether their checksums hold.

A checksum may be left to the receiving host: the kernel then takes the packet for one whose
TCP or UDP checksum covers the pseudo-header only (CHECKSUM_PARTIAL), and a capture is told so.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
from typing import Iterator, NamedTuple

from tests.system.bed.agents import DEVICE
from tests.system.bed.topology import Host
from tests.system.bed.traffic import SO_RCVBUFFORCE, checksum

# include/uapi/linux/if_ether.h, if_packet.h
#   struct tpacket_auxdata { __u32 tp_status, tp_len, tp_snaplen; __u16 tp_mac, tp_net,
#                            tp_vlan_tci, tp_vlan_tpid; };
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_AUXDATA = 8
TPACKET_AUXDATA = struct.Struct("=IIIHHHH")
TP_STATUS_CSUMNOTREADY = 1 << 3
PACKET_IGNORE_OUTGOING = 23
TAP_BYTES = 16 << 20

# include/uapi/linux/filter.h: struct sock_filter { __u16 code; __u8 jt, jf; __u32 k; } and
# struct sock_fprog { unsigned short len; struct sock_filter *filter; }
SO_ATTACH_FILTER = 26  # asm-generic/socket.h
SOCK_FILTER = struct.Struct("=HBBI")
SOCK_FPROG = struct.Struct("@HP")
BPF_LOAD_BYTE, BPF_JUMP_EQUAL, BPF_RETURN = 0x30, 0x15, 0x06
SKF_AD_PKTTYPE = 0xFFFFF000 + 4  # SKF_AD_OFF is -0x1000
ONLY_OUTGOING = b"".join(
    (
        SOCK_FILTER.pack(BPF_LOAD_BYTE, 0, 0, SKF_AD_PKTTYPE),
        SOCK_FILTER.pack(BPF_JUMP_EQUAL, 0, 1, socket.PACKET_OUTGOING),
        SOCK_FILTER.pack(BPF_RETURN, 0, 0, 1 << 16),
        SOCK_FILTER.pack(BPF_RETURN, 0, 0, 0),
    )
)

#: Where the checksum lies behind the IP header.
CHECKSUM_AT = {socket.IPPROTO_TCP: 16, socket.IPPROTO_UDP: 6}


class Seen(NamedTuple):
    """One packet of a device, perhaps many segments in one."""

    packet: bytes
    partial: bool  # the host was told that the checksum is not complete
    outgoing: bool  # from the host to the device

    @property
    def protocol(self) -> int:
        return self.packet[9]

    @property
    def payload(self) -> bytes:
        """Return what is behind the IP header."""
        return self.packet[(self.packet[0] & 15) * 4 :]

    def fault(self) -> str | None:
        """Say what is wrong with the checksums; None if nothing is (RFC 791, 768, 9293)."""
        packet, payload = self.packet, self.payload
        if checksum(packet[: len(packet) - len(payload)]):
            return "the IP header's checksum"
        at = CHECKSUM_AT.get(self.protocol)
        if at is None or int.from_bytes(packet[6:8], "big") & 0x3FFF:
            return "partial, but neither TCP nor UDP" if self.partial else None
        field = int.from_bytes(payload[at : at + 2], "big")
        pseudo = packet[12:20] + struct.pack("!BBH", 0, self.protocol, len(payload))
        if self.partial:
            left = ~checksum(pseudo) & 0xFFFF
            return None if field == left else f"partial {field:04x}, not {left:04x}"
        if self.protocol == socket.IPPROTO_UDP and not field:
            return None  # none was made
        return f"complete {field:04x}" if checksum(pseudo + payload) else None


class Tap:
    """Sees what crosses a host's virtual device, each way as far as its buffer holds it."""

    def __init__(self, host: Host, device: str = DEVICE) -> None:
        self.sockets = [self._open(host, device), self._open(host, device)]
        incoming, outgoing = self.sockets
        incoming.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        program = ctypes.create_string_buffer(ONLY_OUTGOING, len(ONLY_OUTGOING))
        count = len(ONLY_OUTGOING) // SOCK_FILTER.size
        fprog = SOCK_FPROG.pack(count, ctypes.addressof(program))
        outgoing.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        for tap in self.sockets:
            # Only who asks for every protocol sees what goes out.
            tap.bind((device, ETH_P_ALL))

    @staticmethod
    def _open(host: Host, device: str) -> socket.socket:
        # Of no protocol it sees nothing before it is bound.
        tap = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, TAP_BYTES)
        tap.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        return tap

    def seen(self) -> list[Seen]:
        """Return what the captures hold now and have not told yet, each way in its order."""
        found = []
        for tap in self.sockets:
            while select.select([tap], [], [], 0)[0]:
                room = socket.CMSG_SPACE(TPACKET_AUXDATA.size)
                packet, ancillary, _, source = tap.recvmsg(1 << 16, room)
                status = TPACKET_AUXDATA.unpack(ancillary[0][2])[0]
                outgoing = source[2] == socket.PACKET_OUTGOING
                found.append(Seen(packet, status & TP_STATUS_CSUMNOTREADY != 0, outgoing))
        return found

    def close(self) -> None:
        for tap in self.sockets:
            tap.close()


def refusals(host: Host) -> dict[str, int]:
    """Return how often a host's kernel found something wrong in what it was given."""
    udp, tcp, ip = (host.counters(protocol) for protocol in ("Udp", "Tcp", "Ip"))
    return {
        "Udp InCsumErrors": udp["InCsumErrors"],
        # What found no room is counted as an error, too.
        "Udp InErrors": udp["InErrors"] - udp["RcvbufErrors"] - udp.get("MemErrors", 0),
        "Tcp InCsumErrors": tcp["InCsumErrors"],
        "Tcp InErrs": tcp["InErrs"],
        "Ip InHdrErrors": ip["InHdrErrors"],
    }


class Watch:
    """What crosses the virtual devices of some hosts; faults are found when it ends."""

    def __init__(self, *hosts: Host) -> None:
        self.before = {host: refusals(host) for host in hosts}
        self.taps = {host: Tap(host) for host in hosts}
        self.packets: dict[Host, list[Seen]] = {host: [] for host in hosts}

    def look(self) -> None:
        """Take over what the captures hold, to make room."""
        for host, tap in self.taps.items():
            self.packets[host] += tap.seen()

    def incoming(self, host: Host) -> list[Seen]:
        return [seen for seen in self.packets[host] if not seen.outgoing]

    def largest_outgoing(self, host: Host) -> int:
        return max(len(seen.packet) for seen in self.packets[host] if seen.outgoing)

    def judge(self) -> None:
        self.look()
        assert any(self.incoming(host) for host in self.before)
        for host, before in self.before.items():
            incoming = self.incoming(host)
            faults = [(seen.fault(), seen.packet[:40].hex()) for seen in incoming if seen.fault()]
            assert not faults, f"{len(faults)} of {len(incoming)} at {host.name}: {faults[:5]}"
            assert refusals(host) == before, host.name

    def close(self) -> None:
        for tap in self.taps.values():
            tap.close()


@contextlib.contextmanager
def watched(*hosts: Host) -> Iterator[Watch]:
    watch = Watch(*hosts)
    try:
        yield watch
        watch.judge()
    finally:
        watch.close()
