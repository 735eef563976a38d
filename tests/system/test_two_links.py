"""Two hosts on two LANs: what the strand promises while its links are cut, change and return."""

from __future__ import annotations

import time

import pytest

from tests.system.bed.agents import DEVICE, Agent
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Host, Port, until
from tests.system.bed.traffic import assert_whole, both_ways, drain, is_icmp, ping

CUTS = {
    "carrier lost": (Port.unplug, Port.plug),
    "silently blocked": (Port.block, Port.unblock),
    "interface down": (Port.disable, Port.enable),
    "address gone": (Port.flush_address, Port.add_address),
    "one way only": (lambda port: port.drop(100), lambda port: port.drop(0)),
}
FALL_BACK_S = 6.0
RESTORE_S = 8.0
#: Secure probes a path before it trusts it with larger packets, and without data at leisure.
MTU_S = 10.0
STORM = 60
OVERHEAD = {"secure": 60, "classic": 34}

PATIENCE_S = 30.0


def wait_cut(pair: Pair, a: Agent, b: Agent, lan: str) -> None:
    """Wait until neither end sends its packets over a LAN any more."""
    dead = pair.a.ports[lan].ip, pair.b.ports[lan].ip
    left = [link for link in pair.links() if link != dead]
    b.wait_carrying(pair.a_address, *(link[::-1] for link in left), deadline_s=FALL_BACK_S)
    a.wait_carrying(pair.b_address, *left, deadline_s=FALL_BACK_S)


def test_two_hosts_ping_each_other_over_two_links(pair: Pair) -> None:
    a, b = pair.start()
    verdict = ping(pair.a, pair.b_address, count=100, interval_s=0.005)
    assert (verdict.lost, verdict.duplicated) == (0, 0), verdict
    for agent, other in ((a, pair.b_address), (b, pair.a_address)):
        peer = agent.peer_status(other)
        assert peer["delivered"] == 100
        for connection in peer["connections"]:
            # The connections across LANs have no route and stay out of it.
            assert (connection["received"] >= 100) == (connection["state"] == 2)


def test_kernel_answers_no_frame_with_icmp(each_pair: Pair) -> None:
    pair = each_pair
    pair.start()
    # What the kernels said while one agent was not there yet does not count.
    before = [host.counters("Icmp")["OutParmProbs"] for host in (pair.a, pair.b)]
    taps = [pair.topology.capture(lan) for lan in pair.a.ports]
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        pair.a.ports["net0"].block()
        ping(pair.a, pair.b_address, count=200, interval_s=0.005)
        pair.a.ports["net0"].unblock()
    assert_whole(verdicts)
    frames = [frame for tap in taps for frame in drain(tap)]
    for tap in taps:
        tap.close()
    # The pings themselves travel inside of frames, so there is no ICMP on the LANs at all.
    assert len(frames) > 400
    assert [frame.hex() for frame in frames if is_icmp(frame)] == []
    after = [host.counters("Icmp")["OutParmProbs"] for host in (pair.a, pair.b)]
    assert after == before


@pytest.mark.parametrize(
    ("encapsulation", "cut"), [("classic", "silently blocked"), *(("secure", cut) for cut in CUTS)]
)
def test_cutting_and_restoring_either_link_loses_and_duplicates_nothing(
    stage: Stage, encapsulation: str, cut: str
) -> None:
    pair = Pair(stage, encapsulation=encapsulation)
    sever, heal = CUTS[cut]
    a, b = pair.start()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        for lan, port in pair.a.ports.items():
            sever(port)
            wait_cut(pair, a, b, lan)
            heal(port)
            pair.wait_whole(a, b)
    assert_whole(verdicts)


def test_links_that_die_in_opposite_directions_lose_nothing(each_pair: Pair) -> None:
    pair = each_pair
    pair.start()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        pair.a.ports["net0"].drop(100)
        pair.b.ports["net1"].drop(100)
        end = time.monotonic() + 2 * FALL_BACK_S
        until(lambda: time.monotonic() >= end, 3 * FALL_BACK_S, "both have fallen", every_s=0.2)
    assert_whole(verdicts)


def test_flapping_link_disturbs_nothing(pair: Pair) -> None:
    a, b = pair.start()
    port = pair.a.ports["net1"]
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        flaps = 0

        def flap() -> bool:
            nonlocal flaps
            (port.plug if flaps % 2 else port.unplug)()
            flaps += 1
            return flaps == 30

        until(flap, 30, "30 flaps", every_s=0.2)
        port.plug()
        pair.wait_whole(a, b)
    assert_whole(verdicts)


def test_new_address_of_a_link_is_used_at_once_and_the_other_link_does_not_notice(
    pair: Pair,
) -> None:
    a, b = pair.start()
    port = pair.a.ports["net0"]
    other = ("192.168.1.2", "192.168.1.3")
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        port.change_address("192.168.0.77/24")

        def moved() -> bool:
            carrying = a.carrying(pair.b_address)
            assert other in carrying
            assert other[::-1] in b.carrying(pair.a_address)
            return carrying == set(pair.links())

        until(moved, RESTORE_S, lambda: f"{port.ip} carries: {a.connections(pair.b_address)}")
        pair.wait_whole(a, b)
    assert_whole(verdicts)


def test_remote_that_changes_its_address_is_followed(pair: Pair) -> None:
    a, b = pair.start()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        pair.b.ports["net1"].change_address("192.168.1.78/24")
        pair.wait_whole(a, b)
    assert_whole(verdicts)


def test_second_address_on_a_link_does_not_disturb(pair: Pair) -> None:
    a, b = pair.start()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        pair.a.ip("address", "add", "192.168.0.99/24", "dev", "eth0")
        until(
            lambda: "192.168.0.99/24" in a.status()["links"][0]["addresses"],
            RESTORE_S,
            lambda: f"the second address is known: {a.status()['links']}",
        )
        pair.wait_whole(a, b)
        pair.a.ip("address", "del", "192.168.0.99/24", "dev", "eth0")
        until(
            lambda: "192.168.0.99/24" not in a.status()["links"][0]["addresses"],
            RESTORE_S,
            lambda: f"the second address is forgotten: {a.status()['links']}",
        )
        pair.wait_whole(a, b)
    assert_whole(verdicts)


def test_interface_that_appears_late_joins(pair: Pair) -> None:
    port = pair.a.ports["net1"]
    port.delete()
    a, b = pair.a_agent().start(), pair.b_agent().start()
    first = pair.links()[0]
    a.wait_carrying(pair.b_address, first)
    b.wait_carrying(pair.a_address, first[::-1])
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        port.create(index=7)
        pair.wait_whole(a, b)
    assert_whole(verdicts)
    assert {link["index"] for link in a.status()["links"]} == {2, 7}


def test_interface_that_gets_its_address_late_joins(pair: Pair) -> None:
    port = pair.a.ports["net1"]
    port.flush_address()
    a, b = pair.a_agent().start(), pair.b_agent().start()
    first = pair.links()[0]
    a.wait_carrying(pair.b_address, first)
    port.add_address()
    pair.wait_whole(a, b)


def test_interface_that_vanishes_and_returns_under_another_index_carries_again(
    pair: Pair,
) -> None:
    a, b = pair.start()
    port = pair.a.ports["net0"]
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        port.delete()
        wait_cut(pair, a, b, "net0")
        assert {link["index"] for link in a.status()["links"]} == {3}
        port.create(index=32)
        pair.wait_whole(a, b)
    assert_whole(verdicts)
    assert {link["index"] for link in a.status()["links"]} == {3, 32}


def test_interface_renamed_while_in_use_is_still_one_link(pair: Pair) -> None:
    a, b = pair.start()
    port = pair.a.ports["net1"]
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        port.disable()
        pair.a.ip("link", "set", port.interface, "name", "uplink1")
        port.interface = "uplink1"
        port.enable()
        pair.wait_whole(a, b)
        until(
            lambda: {link["name"] for link in a.status()["links"]} == {"eth0", "uplink1"},
            RESTORE_S,
            lambda: f"the new name is known: {a.status()['links']}",
        )
    assert_whole(verdicts)


def test_storm_of_interface_events_ends_in_the_truth(pair: Pair) -> None:
    a, b = pair.start()
    port = pair.a.ports["net1"]
    # More events than a netlink socket holds, so that some are missed.
    storm = [
        command
        for number in range(STORM)
        for command in (
            ["link", "add", f"storm{number}", "type", "veth", "peer", "name", f"wind{number}"],
            ["address", "add", f"10.77.{number}.1/24", "dev", f"storm{number}"],
            ["link", "set", f"storm{number}", "up"],
            ["link", "set", f"wind{number}", "up"],
            ["link", "delete", f"storm{number}"],
        )
    ]
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address) as verdicts:
        pair.a.batch(*storm, ["link", "set", port.interface, "down"])
        wait_cut(pair, a, b, "net1")
        pair.a.batch(*storm, ["link", "set", port.interface, "up"])
        pair.wait_whole(a, b)
        until(
            lambda: {link["name"] for link in a.status()["links"]} == {"eth0", "eth1"},
            RESTORE_S,
            lambda: f"the storm is over: {a.status()['links']}",
        )
    assert_whole(verdicts)


def test_device_mtu_follows_the_smallest_link(each_pair: Pair) -> None:
    pair = each_pair
    a, _ = pair.start()
    overhead = OVERHEAD[pair.encapsulation]

    def device_mtu() -> int:
        return int(pair.a.ip_json("link", "show", "dev", DEVICE)[0]["mtu"])

    assert device_mtu() == a.status()["device"]["mtu"] == 1500 - overhead
    for mtu in (1400, 1500):
        pair.a.ip("link", "set", "eth1", "mtu", str(mtu))
        until(lambda mtu=mtu: device_mtu() == mtu - overhead, MTU_S, lambda: f"{device_mtu()}")
    assert ping(pair.a, pair.b_address, count=20, interval_s=0.01).lost == 0


def test_excluded_interface_and_loopback_take_no_part(pair: Pair) -> None:
    a = pair.a_agent(interfaces={"include": ["*"], "exclude": ["eth1"]}).start()
    b = pair.b_agent().start()
    first = pair.links()[0]
    a.wait_carrying(pair.b_address, first)
    b.wait_carrying(pair.a_address, first[::-1])
    assert [link["name"] for link in a.status()["links"]] == ["eth0"]
    assert sorted(link["name"] for link in b.status()["links"]) == ["eth0", "eth1"]


def test_start_without_any_link_waits_for_one(pair: Pair) -> None:
    for port in pair.a.ports.values():
        port.unplug()
    a, b = pair.a_agent().start(), pair.b_agent().start()
    for port in pair.a.ports.values():
        port.plug()
    pair.wait_whole(a, b)
    verdict = ping(pair.a, pair.b_address, count=20, interval_s=0.01)
    assert (verdict.lost, verdict.duplicated) == (0, 0), verdict


class OneLan:
    """Two hosts that have both their interfaces in one LAN, with the kernel's defaults."""

    def __init__(self, stage: Stage, encapsulation: str) -> None:
        topology = stage.topology("net0")
        self.a, self.b = topology.host("vm0"), topology.host("vm1")
        self.a_ports = self._ports(self.a, "192.168.0.2/24", "192.168.0.4/24")
        self.b_ports = self._ports(self.b, "192.168.0.3/24", "192.168.0.5/24")
        self.a_agent = stage.agent(self.a, "10.0.0.1", encapsulation=encapsulation)
        self.a_agent.peer("10.0.0.2", "192.168.0.3", "192.168.0.5")
        self.b_agent = stage.agent(self.b, "10.0.0.2", encapsulation=encapsulation)
        self.b_agent.peer("10.0.0.1")
        self.pairs = [(one.ip, other.ip) for one in self.a_ports for other in self.b_ports]

    def _ports(self, host: Host, *addresses: str) -> list[Port]:
        ports = [
            Port(host, "net0", f"eth{number}", address, f"{host.name}-{number}")
            for number, address in enumerate(addresses)
        ]
        for port in ports:
            port.create()
        return ports

    def cross(self) -> None:
        """Have each host send to either address of the other one by the card of its other one."""
        for host, far in ((self.a, self.b_ports), (self.b, self.a_ports)):
            macs = [port.mac for port in far]
            host.batch(
                *(
                    ["neigh", "replace", port.ip, "lladdr", mac, "nud", "permanent", "dev", device]
                    for port, mac in zip(far, macs[::-1])
                    for device in ("eth0", "eth1")
                )
            )

    def flush(self) -> None:
        """Have both hosts ask anew which card has which address."""
        for host in (self.a, self.b):
            host.batch(["neigh", "flush", "all"])

    def start(self) -> None:
        self.a_agent.start()
        self.b_agent.start()
        self.wait_whole()

    def wait_whole(self) -> None:
        self.a_agent.wait_carrying("10.0.0.2", *self.pairs)
        self.b_agent.wait_carrying("10.0.0.1", *(pair[::-1] for pair in self.pairs))

    def assert_all_carry(self) -> None:
        """See that packets arrive whole, and copies of them by each way."""
        ends = ((self.a_agent, "10.0.0.2"), (self.b_agent, "10.0.0.1"))
        before = [self.received(agent, far) for agent, far in ends]
        with both_ways(self.a, "10.0.0.1", self.b, "10.0.0.2") as verdicts:
            for (agent, far), earlier in zip(ends, before):
                until(
                    lambda agent=agent, far=far, earlier=earlier: all(
                        count >= earlier.get(way, 0) + 200
                        for way, count in self.received(agent, far).items()
                    ),
                    RESTORE_S,
                    lambda agent=agent, far=far: f"each way carries: {agent.connections(far)}",
                )
        assert_whole(verdicts)
        self.wait_whole()

    def received(self, agent: Agent, far: str) -> dict[tuple[int, str], int]:
        """Return how much came by each way, by link and remote address."""
        return {
            (connection["link"], connection["address"]): connection["received"]
            for connection in agent.connections(far)
        }


@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_two_interfaces_on_one_lan_are_two_links(stage: Stage, encapsulation: str) -> None:
    lan = OneLan(stage, encapsulation)
    lan.start()
    lan.assert_all_carry()
    lan.flush()
    lan.assert_all_carry()


@pytest.mark.parametrize("encapsulation", ["secure", "classic"])
def test_frames_that_come_by_another_card_of_the_lan_count(
    stage: Stage, encapsulation: str
) -> None:
    lan = OneLan(stage, encapsulation)
    lan.cross()
    lan.start()
    lan.assert_all_carry()
    assert [agent.status()["warnings"] for agent in (lan.a_agent, lan.b_agent)] == [[], []]


def test_second_agent_finds_the_port_taken_for_all_interfaces(stage: Stage) -> None:
    lan = OneLan(stage, "secure")
    lan.start()
    second = stage.agent(lan.a, "10.0.0.3", instance="second", device={"name": "ropeway1"})
    second.start()
    links = second.status()["links"]
    assert [link["name"] for link in links] == ["eth0", "eth1"]
    assert all("second agent" in link["unusable"] for link in links), links
    lan.assert_all_carry()


def test_card_of_the_lan_that_takes_no_part_is_named_on_a_classic_network(stage: Stage) -> None:
    lan = OneLan(stage, "classic")
    lan.a_agent.config["interfaces"] = {"exclude": ["eth1"]}
    lan.a_agent.start()
    sentence = (
        "eth0({}) and eth1({}) are both in 192.168.0.0/24, and eth1 answers ARP for 192.168.0.2"
        " too: frames for eth0 that come by eth1 are lost, because eth1 takes no part: set"
        " net.ipv4.conf.all.arp_ignore to 1"
    ).format(*(port.index for port in lan.a_ports))
    log = lan.a_agent.log
    until(lambda: lan.a_agent.status()["warnings"] == [sentence], PATIENCE_S, log)
    assert lan.a_agent.log().count(sentence) == 1
    lan.a.sysctl("net/ipv4/conf/all/arp_ignore", 1)
    until(lambda: lan.a_agent.status()["warnings"] == [], PATIENCE_S, log)
