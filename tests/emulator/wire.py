"""A cable between two network namespaces with an emulated link in it, in real time.

Each end becomes an interface in its namespace. The other halves lie in a namespace of this process
alone, where every frame that comes out of one is put into the other when the model says so. The
kernel removes all of it when the process ends, however it ends.

Rates and sizes count IP packets, without the Ethernet header. ARP is delayed and never lost: the
kernel would hold or drop whole bursts for one lost ARP packet. Every frame passes by itself, so
the kernel cuts what it would pass on as one.
"""

from __future__ import annotations

import ctypes
import heapq
import json
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from pyroute2.iproute.linux import IPRoute

from tests.emulator.link import LinkModel
from tests.emulator.spec import BothWays, SpecWrong
from tests.system.bed.topology import CLONE_NEWNET, IFA_F_NODAD, open_kernel

ETH_P_ALL = 0x0003  # linux/if_ether.h
ETH_P_ARP = 0x0806
ETHERNET_SIZE = 14
SOL_PACKET = 263  # linux/socket.h
PACKET_VNET_HDR = 15  # linux/if_packet.h
PACKET_QDISC_BYPASS = 20
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
PR_SET_TIMERSLACK = 29  # linux/prctl.h

#: struct virtio_net_hdr: says which checksum is yet to be completed; passed on as it came.
VNET_SIZE = 10
BUFFER_BYTES = 16 << 20
FRAME_MAX = 65536 + VNET_SIZE
#: Frames read of one end before the other end and what is due are looked at.
BATCH = 64
#: A signal that comes just before the wait is looked at after so many seconds.
LOOK_S = 0.1
#: What a frame may leave later than its model says without being counted as late.
LATE_S = 0.001


@dataclass(frozen=True)
class End:
    """An interface that the wire makes in a namespace, with its addresses."""

    netns: str
    interface: str
    addresses: Tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> End:
        """Return the end that ``NETNS:INTERFACE=ADDRESS/LENGTH,...`` describes."""
        place, _, addresses = text.partition("=")
        netns, colon, interface = place.partition(":")
        if not (colon and netns and interface and addresses):
            raise SpecWrong(f"{text!r} is no NETNS:INTERFACE=ADDRESS/LENGTH")
        return cls(netns, interface, tuple(addresses.split(",")))

    def make(self, far: str) -> None:
        """Make the interface, whose other half is ``far`` in this process' namespace."""
        try:
            kernel = open_kernel(self.netns)
        except FileNotFoundError:
            raise SpecWrong(
                f"there is no namespace {self.netns}: make it with ip netns add"
            ) from None
        with kernel:
            kernel.link(
                "add",
                ifname=self.interface,
                kind="veth",
                gso_max_segs=1,
                peer={"ifname": far, "net_ns_pid": os.getpid()},
            )
            (index,) = kernel.link_lookup(ifname=self.interface)
            for address in self.addresses:
                # Nobody else is on the wire, so there is no need to ask around.
                how = {"flags": IFA_F_NODAD} if ":" in address else {"broadcast": True}
                kernel.addr("add", index=index, address=address, **how)
            kernel.link("set", index=index, state="up")


class _Side:
    """One end's half in this namespace: what comes out of it, and waits for the other half."""

    def __init__(self, name: str, model: LinkModel) -> None:
        self.model = model
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK)
        for option in (PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, PACKET_QDISC_BYPASS):
            self.socket.setsockopt(SOL_PACKET, option, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.socket.bind((name, ETH_P_ALL))
        self.to: _Side = self
        #: Frames that fly: when each is due, a number, the frame.
        self.flying: List[Tuple[float, int, bytes]] = []
        self.late = self.refused = 0
        self.latest_s = 0.0

    def figures(self) -> Dict[str, Any]:
        model = self.model
        return {
            "sent": model.sent,
            "sent_bytes": model.sent_bytes,
            "arrived": model.arrived,
            "lost": {where.value: count for where, count in model.lost.items()},
            "late": self.late,
            "latest_ms": round(self.latest_s * 1000, 3),
            "refused": self.refused,
        }


class Wire:
    """Both directions; :meth:`run` carries frames until :meth:`stop`."""

    def __init__(self, ends: Tuple[End, End], link: BothWays, seed: int, begun: bool) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise SpecWrong("a wire needs a namespace of its own: run it as root")
        # A frame is due at a moment: the kernel must not save wake-ups by being late.
        libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._sides: List[_Side] = []
        # This namespace has nothing to say on the wire itself.
        no_ipv6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
        if no_ipv6.exists():
            no_ipv6.write_text("1", encoding="ascii")
        with IPRoute(ext_ack=True) as kernel:
            for number, (end, spec) in enumerate(zip(ends, link)):
                name = f"half{number}"
                end.make(name)
                kernel.link("set", ifname=name, state="up")
                self._sides.append(_Side(name, spec.model(seed + number)))
        one, other = self._sides
        one.to, other.to = other, one
        self._serial = 0
        self._stopped = False
        #: When the models are at 0 s; None while the link is still as it is at 0 s, and loses none.
        self._began_at: Optional[float] = None
        if begun:
            self.begin()

    def begin(self) -> None:
        """Have traces and black holes begin now."""
        if self._began_at is None:
            self._began_at = time.monotonic()

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> Dict[str, Any]:
        """Carry frames until :meth:`stop`; return figures of both directions."""
        sockets = [side.socket for side in self._sides]
        while not self._stopped:
            due = min((side.flying[0][0] for side in self._sides if side.flying), default=None)
            wait_s = LOOK_S if due is None else min(max(due - time.monotonic(), 0.0), LOOK_S)
            readable = select.select(sockets, [], [], wait_s)[0]
            for side in self._sides:
                self._deliver(side)
                if side.socket in readable:
                    self._read(side)
        return {name: side.figures() for name, side in zip(("out", "back"), self._sides)}

    def _read(self, side: _Side) -> None:
        for _ in range(BATCH):
            try:
                frame = side.socket.recv(FRAME_MAX)
            except BlockingIOError:
                return
            due = self._arrival(side.model, frame, time.monotonic())
            if due is not None:
                self._serial += 1
                heapq.heappush(side.flying, (due, self._serial, frame))

    def _arrival(self, model: LinkModel, frame: bytes, now: float) -> Optional[float]:
        began_at = self._began_at
        kind = int.from_bytes(frame[VNET_SIZE + 12 : VNET_SIZE + 14], "big")
        size = len(frame) - VNET_SIZE - ETHERNET_SIZE
        if began_at is None or kind == ETH_P_ARP:
            return now + model.quiet_delay_ms(size) / 1000
        arrival = model.send(now - began_at, size)
        return None if arrival is None else began_at + arrival

    def _deliver(self, side: _Side) -> None:
        flying = side.flying
        while flying:
            now = time.monotonic()
            if flying[0][0] > now:
                return
            due, _, frame = heapq.heappop(flying)
            late_s = now - due
            side.latest_s = max(side.latest_s, late_s)
            side.late += late_s > LATE_S
            try:
                side.to.socket.send(frame)
            except OSError:  # the interface at the other end is down, or has no room
                side.refused += 1


def carry(ends: Tuple[End, End], link: BothWays, seed: int, wait: bool) -> None:
    """Be a wire until SIGTERM or SIGINT; SIGUSR1 begins one that waits. Prints what it does."""
    wire = Wire(ends, link, seed, begun=not wait)
    signal.signal(signal.SIGUSR1, lambda *_: wire.begin())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: wire.stop())
    print("ready", flush=True)
    print(json.dumps(wire.run()), flush=True)
