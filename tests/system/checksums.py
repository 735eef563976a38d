"""Which packets a device gives its host, and whether their checksums hold.

A checksum may be left to the receiving host: the kernel then takes the packet for one whose
TCP or UDP checksum covers the pseudo-header only (CHECKSUM_PARTIAL), and a capture is told so.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import Iterator, NamedTuple

from tests.system.agents import DEVICE
from tests.system.topology import Host
from tests.system.traffic import BUFFER_BYTES, SO_RCVBUFFORCE, checksum

# include/uapi/linux/if_ether.h, if_packet.h
#   struct tpacket_auxdata { __u32 tp_status, tp_len, tp_snaplen; __u16 tp_mac, tp_net,
#                            tp_vlan_tci, tp_vlan_tpid; };
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_AUXDATA = 8
TPACKET_AUXDATA = struct.Struct("=IIIHHHH")
TP_STATUS_CSUMNOTREADY = 1 << 3

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
    """Sees what crosses a host's virtual device, as far as its buffer holds it."""

    def __init__(self, host: Host, device: str = DEVICE) -> None:
        # Only who asks for every protocol sees what goes out.
        self.socket = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.bind((device, ETH_P_ALL))

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def seen(self) -> list[Seen]:
        """Return what the capture holds now and has not told yet."""
        found = []
        while select.select([self.socket], [], [], 0)[0]:
            packet, ancillary, _, source = self.socket.recvmsg(
                1 << 16, socket.CMSG_SPACE(TPACKET_AUXDATA.size)
            )
            status = TPACKET_AUXDATA.unpack(ancillary[0][2])[0]
            outgoing = source[2] == socket.PACKET_OUTGOING
            found.append(Seen(packet, status & TP_STATUS_CSUMNOTREADY != 0, outgoing))
        return found


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
            tap.socket.close()


@contextlib.contextmanager
def watched(*hosts: Host) -> Iterator[Watch]:
    watch = Watch(*hosts)
    try:
        yield watch
        watch.judge()
    finally:
        watch.close()
