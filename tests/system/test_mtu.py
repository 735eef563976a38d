"""Links that carry less than the others, and a path that says nothing about what it drops."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any, Iterator

from tests.system.bed.agents import DEVICE, Agent
from tests.system.bed.bulk import wait_readable
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Host, Port, run, until
from tests.system.bed.traffic import assert_whole, both_ways

OVERHEAD = 60
FULL, SMALLER, HIDDEN = 1500, 1400, 1300
PROBED_S = 20.0
STALL_S = 1.0
START_STALL_S = 2.5
TCP_PORT = 4321
SILENT_ROUTER = """
table ip silent {
    chain out {
        type filter hook output priority 0
        ip protocol icmp drop
    }
}
"""


class MtuPair(Pair):
    """Two hosts on one LAN; a smaller link, and one through a router that drops what is too big."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        # The second LAN of a pair comes late here, and is smaller.
        self.smaller = [host.ports["net1"] for host in (self.a, self.b)]
        for port in self.smaller:
            port.delete()
        for lan in ("far0", "far1"):
            self.topology.add_lan(lan)
        self.middle = self.topology.host("middle")
        self.middle.sysctl("net/ipv4/ip_forward", 1)
        self.hidden = []
        for number, host in enumerate((self.a, self.b)):
            lan, network = f"far{number}", f"172.2{number}.0"
            inside = self.middle.connect(lan, f"eth{number}", f"{network}.1/24")
            self.middle.ip("link", "set", inside.interface, "mtu", str(HIDDEN))
            port = host.connect(lan, "eth2", f"{network}.2/24", late=True)
            there = f"172.2{1 - number}.0.0/24"
            port.afterwards = [["route", "add", there, "via", f"{network}.1"]]
            self.hidden.append(port)
        run(self.middle.command("nft", "-f", "-"), stdin=SILENT_ROUTER)

    def join(self, ports: list[Port], mtu: int) -> None:
        for port in ports:
            port.create()
            port.host.ip("link", "set", port.interface, "mtu", str(mtu))

    def paths(self, *names: str) -> list[tuple[str, str]]:
        """Return the real addresses of the ways of some LANs."""
        ends = {
            "net0": [host.ports["net0"] for host in (self.a, self.b)],
            "net1": self.smaller,
            "far": self.hidden,
        }
        return [(ends[name][0].ip, ends[name][1].ip) for name in names]


def device_mtu(host: Host) -> int:
    return int(host.ip_json("link", "show", "dev", DEVICE)[0]["mtu"])


def wait_mtu(pair: MtuPair, link_mtu: int) -> float:
    """Wait until both devices have the MTU that suits a link's; return how long that took."""
    began = time.monotonic()
    until(
        lambda: [device_mtu(host) for host in (pair.a, pair.b)] == [link_mtu - OVERHEAD] * 2,
        PROBED_S,
        lambda: f"{link_mtu - OVERHEAD}, it is {[device_mtu(h) for h in (pair.a, pair.b)]}",
    )
    return time.monotonic() - began


class Transfer:
    """A TCP connection through the rope that always has something to send."""

    def __init__(self, sender: Host, receiver: Host, address: str) -> None:
        self.listener = receiver.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((address, TCP_PORT))
        self.listener.listen(1)
        self.out = sender.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.out.settimeout(30)
        self.out.connect((address, TCP_PORT))
        self.into, _ = self.listener.accept()
        self.received = 0
        self.stall_s = 0.0
        self.threads = [threading.Thread(target=self._send), threading.Thread(target=self._take)]
        for thread in self.threads:
            thread.start()

    def _send(self) -> None:
        block = bytes(16384)
        with contextlib.suppress(OSError):  # it ends when the socket is shut down
            while True:
                self.out.sendall(block)
                # Some 2 MB/s: enough to have full packets under way at all times.
                time.sleep(0.008)

    def _take(self) -> None:
        while True:
            waited_s = wait_readable(self.into)
            data = self.into.recv(1 << 16)
            if not data:
                break
            self.stall_s = max(self.stall_s, waited_s)
            self.received += len(data)

    def stop(self) -> None:
        self.out.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        for one in (self.out, self.into, self.listener):
            one.close()


@contextlib.contextmanager
def transfer(sender: Host, receiver: Host, address: str) -> Iterator[Transfer]:
    made = Transfer(sender, receiver, address)
    try:
        yield made
    finally:
        made.stop()


def start(pair: MtuPair) -> tuple[Agent, Agent]:
    a = pair.stage.agent(pair.a, pair.a_address)
    a.peer(pair.b_address, *(other for _, other in pair.paths("net0", "net1", "far")))
    b = pair.stage.agent(pair.b, pair.b_address).peer(pair.a_address)
    a.start()
    b.start()
    wait_carrying(pair, a, b, "net0")
    return a, b


def wait_carrying(pair: MtuPair, a: Agent, b: Agent, *names: str) -> None:
    paths = pair.paths(*names)
    a.wait_carrying(pair.b_address, *paths)
    b.wait_carrying(pair.a_address, *(path[::-1] for path in paths))


def test_smaller_links_join_and_leave_a_running_strand_without_harm(stage: Stage) -> None:
    pair = MtuPair(stage)
    a, b = start(pair)
    full = device_mtu(pair.a)
    assert full == FULL - OVERHEAD
    took: dict[str, float] = {}
    with both_ways(
        pair.a, pair.a_address, pair.b, pair.b_address, rate=300, size=full - 28
    ) as verdicts, transfer(pair.a, pair.b, pair.b_address) as tcp:
        until(lambda: b.delivered() > 300, 10, "traffic flows")
        pair.join(pair.smaller, SMALLER)
        wait_carrying(pair, a, b, "net0", "net1")
        took[f"{SMALLER} joined"] = wait_mtu(pair, SMALLER)
        pair.join(pair.hidden, FULL)
        wait_carrying(pair, a, b, "net0", "net1", "far")
        took[f"hidden {HIDDEN} joined"] = wait_mtu(pair, HIDDEN)
        for port in pair.hidden:
            port.delete()
        wait_carrying(pair, a, b, "net0", "net1")
        took[f"hidden {HIDDEN} left"] = wait_mtu(pair, SMALLER)
        for port in pair.smaller:
            port.delete()
        wait_carrying(pair, a, b, "net0")
        took[f"{SMALLER} left"] = wait_mtu(pair, FULL)
        received = tcp.received
        until(lambda: tcp.received > received + (1 << 16), 5, "the transfer goes on")
    shown = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in took.items())
    print(f"the MTU follows: {shown}; TCP {tcp.received} bytes, stalled {tcp.stall_s:.2f} s")
    assert_whole(verdicts)
    assert tcp.stall_s < STALL_S


def test_strand_over_nothing_but_a_silent_black_hole_carries_tcp(stage: Stage) -> None:
    pair = MtuPair(stage)
    pair.join(pair.hidden, FULL)
    for host in (pair.a, pair.b):
        host.ports["net0"].unplug()
    a = pair.stage.agent(pair.a, pair.a_address)
    a.peer(pair.b_address, *(other for _, other in pair.paths("far")))
    b = pair.stage.agent(pair.b, pair.b_address).peer(pair.a_address)
    a.start()
    b.start()
    wait_carrying(pair, a, b, "far")
    # What begins at the same moment as the strand may meet the search for the path's MTU.
    for limit_s in (START_STALL_S, STALL_S):
        with transfer(pair.a, pair.b, pair.b_address) as tcp:
            until(
                lambda tcp=tcp: tcp.received > 1 << 20,
                PROBED_S,
                lambda tcp=tcp: f"1 MiB, not {tcp.received}",
            )
        print(f"stalled {tcp.stall_s:.2f} s; device MTU {device_mtu(pair.a)}")
        assert tcp.stall_s < limit_s


def test_what_leads_to_no_peer_and_what_is_stacked_on_the_device_leave_its_mtu_alone(
    stage: Stage,
) -> None:
    pair = Pair(stage)
    a, _ = pair.start()
    assert device_mtu(pair.a) == FULL - OVERHEAD
    for command in (
        "link add br9 type bridge",
        "link set br9 mtu 576 up",
        "address add 172.30.0.1/24 dev br9",
        f"link add vx0 type vxlan id 7 remote {pair.b_address} dev {DEVICE} dstport 4789",
        "address add 172.31.0.1/24 dev vx0",
        "link set vx0 up",
    ):
        pair.a.ip(*command.split())
    for _ in range(3):
        # As a script does that follows the device.
        pair.a.ip("link", "set", "vx0", "mtu", str(device_mtu(pair.a) - 50))
        pair.a.ip("link", "set", "br9", "alias", "changed")
        until(lambda: "br9" in names(a.status()["links"]), PROBED_S, a.log)
        until(lambda: "vx0" in names(a.status()["not_taking_part"]), PROBED_S, a.log)
    assert "vx0" not in names(a.status()["links"])
    assert device_mtu(pair.a) == a.status()["device"]["mtu"] == FULL - OVERHEAD
    assert "has MTU 516" not in a.log()


def names(interfaces: list[dict[str, Any]]) -> list[str]:
    return [str(interface["name"]) for interface in interfaces]
