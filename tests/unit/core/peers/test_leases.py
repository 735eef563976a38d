"""Leases between a router and hosts without an address of their own, in the world of nodes."""

import pytest

from ropeway.core.address_range import range_of
from ropeway.core.frame.lease import Grant, encode_lease
from ropeway.core.frame.message import Kind
from ropeway.core.packet import ipv4
from ropeway.core.settings import UNASSIGNED, Leases, PeerSettings, Tenant
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import PORT, SecureWorld, link, public

ROUTER = "10.0.0.1"
TIME_S = 60.0


class LeaseWorld(SecureWorld):
    """A router that gives leases, its disk, and hosts that have none yet."""

    def __init__(self, names=("b", "c"), pool="10.0.0.100-10.0.0.101"):
        super().__init__()
        self.disk = {}
        self.pool = pool
        self.tenants = [Tenant(public(name)) for name in names]
        self.disk_works = True
        self.start_router()
        for number, name in enumerate(names):
            self.start_host(name, number)

    def start_router(self):
        self.add(
            "r",
            ROUTER,
            [link(1, "192.168.1.1")],
            forward=True,
            tenants=tuple(self.tenants),
            leases=Leases((range_of(self.pool),), TIME_S, 1300),
        )
        self.nodes["r"].lease_server.load(list(self.disk.items()), self.now)

    def start_host(self, name, number, router_key="r"):
        router = PeerSettings(ROUTER, (public(router_key),), endpoints=(("192.168.1.1", PORT),))
        node = self.add(
            name, UNASSIGNED, [link(1, f"192.168.1.{10 + number}")], [router], router=ROUTER
        )
        node.lease_client.changed = lambda lease, now: node.set_address(
            UNASSIGNED if lease is None else lease.address
        )
        return node

    def write(self):
        """Do what the engine and its steward do: changes go to the disk, then they count."""
        server = self.nodes["r"].lease_server
        if not self.disk_works:
            return
        changes = server.take_changes(4096)
        for address, owner in changes:
            if owner is None:
                self.disk.pop(address, None)
            else:
                self.disk[address] = owner
        server.written(changes, self.now)

    def pass_time(self, seconds, step_s=0.1):
        end = self.now + seconds
        while self.now < end:
            self.run(step_s)
            self.write()

    def address(self, name):
        return self.nodes[name].settings.address


@pytest.fixture
def world():
    world = LeaseWorld()
    world.pass_time(3.0)
    return world


def test_hosts_without_an_address_get_one_each_and_reach_each_other(world):
    assert sorted([world.address("b"), world.address("c")]) == ["10.0.0.100", "10.0.0.101"]
    packet = udp(world.address("b"), world.address("c"), b"hello")
    world.send("b", packet)
    world.pass_time(0.5)
    assert [ipv4.text(one[12:16]) for one in world.delivered["c"]] == [world.address("b")]


def test_the_mtu_of_the_lease_bounds_the_device(world):
    assert world.nodes["b"].device_mtu == 1300


def test_nobody_gets_an_address_that_is_not_on_disk():
    world = LeaseWorld()
    world.disk_works = False
    world.pass_time(5.0)
    assert world.address("b") == UNASSIGNED
    assert list(world.nodes["r"].tables.strands) == []
    world.disk_works = True
    world.pass_time(5.0)
    assert world.address("b") in ("10.0.0.100", "10.0.0.101")


def test_a_lease_is_renewed_for_as_long_as_the_router_answers(world):
    before = world.address("b")
    world.pass_time(5 * TIME_S, step_s=0.5)
    assert world.address("b") == before
    assert world.nodes["r"].lease_server.status()["free"] == 0


def test_a_lease_ends_at_its_host_before_another_host_can_have_it(world):
    former = world.address("b")
    world.lost.add("192.168.1.10")
    world.tenants.append(Tenant(public("d")))
    ended_at = given_at = None
    settings = world.nodes["r"].settings
    world.nodes["r"].reload(
        type(settings)(**{**vars(settings), "tenants": tuple(world.tenants)}), world.now
    )
    world.start_host("d", 2)
    for _ in range(1200):
        world.pass_time(0.1)
        if ended_at is None and world.address("b") == UNASSIGNED:
            ended_at = world.now
        if given_at is None and world.address("d") == former:
            given_at = world.now
    assert ended_at is not None
    assert given_at is not None
    assert ended_at < given_at
    lost = [str(event) for event in world.events["b"] if "lease" in str(event)]
    assert any("is over, because 10.0.0.1 has not answered" in text for text in lost)


def test_a_host_that_starts_anew_gets_the_address_that_it_had(world):
    before = world.address("b")
    world.start_host("b", 0)
    world.pass_time(20.0)
    assert world.address("b") == before


def test_a_router_that_starts_anew_knows_who_has_which_address(world):
    before = world.address("b"), world.address("c")
    world.start_router()
    world.pass_time(30.0)
    assert (world.address("b"), world.address("c")) == before
    assert len(set(world.disk.values())) == 2


def test_a_released_lease_leaves_its_address_closed_until_its_time_is_over():
    world = LeaseWorld(("b",), "10.0.0.100-10.0.0.102")
    world.pass_time(3.0)
    former = world.address("b")
    world.nodes["r"].lease_server.release(former, world.now)
    world.pass_time(30.0)
    assert world.address("b") not in (former, UNASSIGNED)
    assert world.disk[former] == b""
    world.pass_time(2 * TIME_S, step_s=0.5)
    assert former not in world.disk


def test_a_host_with_an_entry_of_its_own_gets_that_address():
    world = LeaseWorld(("b",))
    world.pass_time(3.0)
    settings = world.nodes["r"].settings
    reserved = PeerSettings("10.0.0.50", (public("d"),))
    world.nodes["r"].reload(type(settings)(**{**vars(settings), "peers": (reserved,)}), world.now)
    world.start_host("d", 3)
    world.pass_time(5.0)
    assert world.address("d") == "10.0.0.50"
    assert "10.0.0.50" not in world.disk


def test_a_configured_address_is_taken_out_of_the_pool():
    world = LeaseWorld(("b",), "10.0.0.100-10.0.0.101")
    settings = world.nodes["r"].settings
    fixed = PeerSettings("10.0.0.100", (public("d"),))
    world.nodes["r"].reload(type(settings)(**{**vars(settings), "peers": (fixed,)}), world.now)
    world.pass_time(5.0)
    assert world.address("b") == "10.0.0.101"


def test_a_full_pool_is_reported_and_harms_nobody_else():
    world = LeaseWorld(("b", "c", "d"))
    world.pass_time(10.0)
    had = [world.address(name) for name in "bcd"]
    assert had.count(UNASSIGNED) == 1
    assert any("all 2 addresses" in str(event) for event in world.events["r"])


def test_a_stranger_gets_no_address():
    world = LeaseWorld(("b",))
    world.start_host("x", 5)
    world.pass_time(5.0)
    assert world.address("x") == UNASSIGNED
    assert len(world.disk) == 1


def test_a_handshake_that_was_held_back_gets_no_address():
    world = LeaseWorld()
    world.lost.add("192.168.1.10")
    world.pass_time(10.0)
    held_back = [one for one in world.captured if one[1][0] == "192.168.1.10"]
    world.lost.clear()
    world.pass_time(20.0)
    assert world.nodes["r"].lease_server.status()["held"] == 2
    world.lost.add("192.168.1.10")
    world.pass_time(2 * TIME_S, step_s=0.5)
    for _, _, endpoint, datagram in held_back:
        world.arrive(datagram, ("192.168.1.66", PORT), endpoint)
    world.pass_time(1.0)
    assert world.nodes["r"].lease_server.status()["held"] == 1


def test_packets_with_the_address_of_another_lease_go_nowhere(world):
    thief = world.nodes["b"]
    stolen = world.address("c")
    thief.set_address(stolen)
    world.run(0.5)
    world.send("b", udp(stolen, ROUTER, b"forged"))
    world.run(0.5)
    assert world.delivered["r"] == []
    assert world.dropped("r")["spoofed"] == 1


@pytest.mark.parametrize(
    "grant",
    [
        Grant(b"none", ipv4.pack("10.0.0.9"), 60),
        Grant(b"none", ipv4.pack("10.9.0.9"), 60),
        Grant(b"none", ipv4.pack(ROUTER), 60),
        Grant(b"none", bytes(4), 0),
    ],
)
def test_a_grant_that_nothing_asked_for_changes_nothing(world, grant):
    before = world.address("b")
    router = world.nodes["r"]
    router._peers.messages.send(router.tables.strands[before], Kind.LEASES, encode_lease(grant))
    world.collect()
    world.run(0.5)
    assert world.address("b") == before


@pytest.mark.parametrize("body", [b"\x01", b"\x02short", b"\x09" * 40, b"\x01" + bytes(1000)])
def test_any_body_does_no_harm(world, body):
    for name, host in (("r", world.address("b")), ("b", ROUTER)):
        node = world.nodes[name]
        node._peers.messages.send(node.tables.strands[host], Kind.LEASES, body)
    world.collect()
    world.pass_time(1.0)
    assert world.address("b") != UNASSIGNED


def test_one_host_cannot_use_up_the_answers_of_others(world):
    greedy = world.nodes["b"]
    sent = []
    transmit = world.transmit
    world.transmit = lambda *datagram: (sent.append(datagram), transmit(*datagram))
    for _ in range(500):
        greedy.lease_client._ask(world.now)
    world.collect()
    world.run(0.2)
    answers = [one for one in sent if one[0][0] == 8 and one[1][0] == "192.168.1.1"]
    assert 1 <= len(answers) <= 7
