"""The firewall's table beside a bridge: datagrams that pass by arrive, and no kernel complains.

The machine under test, vm2, has a bridge to which vm0 and vm1 are plugged, an address of its own on
it, and a cable to vm0 besides. With br_netfilter its prerouting hook sees every bridged frame, if
it is so told, and before the packet sockets do.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import time
from pathlib import Path

import pytest

from ropeway.kernel.classic_sockets import LinkSockets, open_pair
from ropeway.steward import firewall
from tests.system.bed.agents import DEVICE
from tests.system.bed.reference_node import Frame
from tests.system.bed.stage import Stage
from tests.system.bed.topology import Host, Topology, until
from tests.system.bed.traffic import drain, is_icmp

BRIDGE, CABLE = "br0", "eth1"
ASKED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
ARRIVAL_LIMIT_S = 20.0
#: Virtual addresses whose bytes the kernel takes for options of different kinds: one that ends
#: them, one whose length is wrong, one that is well formed.
HOSTS = ("0.0.0.1", "10.0.0.1", "10.12.0.1")
#: Interface indices that stand in the rest of the header.
INDICES = ((0, 0), (2, 12), (0x09090909, 0x09090909))


class Bridged:
    """vm0 and vm1 on the bridge of vm2, and a second cable from vm0 to vm2."""

    def __init__(self, topology: Topology) -> None:
        self.vm0, self.vm1, self.vm2 = (topology.host(name) for name in ("vm0", "vm1", "vm2"))
        self.vm2.kernel.link("add", ifname=BRIDGE, kind="bridge")
        for number, host in enumerate((self.vm0, self.vm1)):
            plug = f"port{number}"
            host.cable("eth0", self.vm2.netns, plug)
            bridge = self.vm2.link(BRIDGE)["index"]
            self.vm2.kernel.link("set", ifname=plug, master=bridge, state="up")
            up(host, "eth0", f"192.168.0.{2 + number}/24")
        up(self.vm2, BRIDGE, "192.168.0.4/24")
        self.vm0.cable(CABLE, self.vm2.netns, CABLE)
        up(self.vm0, CABLE, "192.168.1.2/24")
        up(self.vm2, CABLE, "192.168.1.4/24")
        for host in (self.vm1, self.vm2):
            # Every complaint is to be seen, not one a second.
            with host.inside():
                Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0")
                firewall.replace(firewall.table_of(DEVICE))
        self.ways = {
            "bridged": (self.vm1, "eth0", "192.168.0.3"),
            "to the bridge": (self.vm2, BRIDGE, "192.168.0.4"),
            "to the cable": (self.vm2, CABLE, "192.168.1.4"),
        }


def up(host: Host, interface: str, address: str) -> None:
    host.add_address(interface, address)
    host.kernel.link("set", ifname=interface, state="up")


def call_iptables(host: Host, value: int) -> None:
    """Let the IP hooks of a host see bridged frames, or not; skip where the kernel can't."""
    with host.inside():
        if ASKED.exists():
            ASKED.write_text(str(value))
        elif value:
            pytest.skip("the kernel has no br_netfilter")


@pytest.mark.parametrize("asked", [0, 1], ids=["hooks off", "hooks on"])
def test_datagrams_cross_and_reach_a_bridge_without_icmp(stage: Stage, asked: int) -> None:
    scene = Bridged(stage.topology())
    call_iptables(scene.vm2, asked)
    for name, (receiver, interface, destination) in scene.ways.items():
        network = destination.rpartition(".")[0]
        frames = [
            Frame(f"{network}.2", destination, host, one, other, 0).pack()
            for host, (one, other) in itertools.product(HOSTS, INDICES)
        ]
        with contextlib.ExitStack() as open_sockets:
            with receiver.inside():
                index = socket.if_nametoindex(interface)
                link = LinkSockets(index, interface, *open_pair(index, interface))
            open_sockets.callback(link.close)
            out = open_sockets.enter_context(
                scene.vm0.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            )
            tap = open_sockets.enter_context(
                scene.vm0.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            )
            for frame in frames:
                out.sendto(frame, (destination, 0))
            arrived = receive(link, len(frames))
            # Behind the datagrams, in the same queues: after its answer no complaint can come.
            ask_for_an_answer(scene.vm0, destination)
            complaints = [frame.hex() for frame in drain(tap) if is_icmp(frame)]
        assert arrived == frames, f"{name}: {len(arrived)} of {len(frames)} arrived"
        assert complaints == [], name


def test_the_scene_shows_the_complaints_where_the_table_is_missing(stage: Stage) -> None:
    scene = Bridged(stage.topology())
    with scene.vm2.inside():
        assert firewall.delete(firewall.table_of(DEVICE))
    bad = Frame("192.168.1.2", "192.168.1.4", "10.0.0.1", 2, 12, 0).pack()
    with contextlib.ExitStack() as open_sockets:
        out = open_sockets.enter_context(
            scene.vm0.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        )
        tap = open_sockets.enter_context(
            scene.vm0.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        )
        out.sendto(bad, ("192.168.1.4", 0))
        until(
            lambda: any(is_icmp(frame) for frame in drain(tap)),
            ARRIVAL_LIMIT_S,
            "a parameter problem is sent",
        )


def receive(link: LinkSockets, count: int) -> list[bytes]:
    """Return the first `count` datagrams, or those that arrive in time."""
    arrived: list[bytes] = []
    end = time.monotonic() + ARRIVAL_LIMIT_S
    while len(arrived) < count and (left := end - time.monotonic()) > 0:
        if select.select([link], [], [], left)[0]:
            arrived += link.receive_batch(count)
    return arrived


def ask_for_an_answer(host: Host, address: str) -> None:
    """Wait for a TCP reset, which is no ICMP: nobody listens on the port."""
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as asking:
        asking.settimeout(ARRIVAL_LIMIT_S)
        with pytest.raises(ConnectionRefusedError):
            asking.connect((address, 9))
