"""The router by itself: it needs the tables, and nothing of the control side."""

import pytest

from ropeway.core.data.router import Router
from ropeway.core.drops import Drop
from ropeway.core.network.routes import Routes
from ropeway.core.packet import ipv4
from ropeway.core.settings import Settings
from ropeway.core.strand.strand import Strand
from ropeway.core.tables import Tables
from tests.unit.core.classic_world import udp

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class Scene:
    """A router with one other host, whose packets are noted instead of sent."""

    def __init__(self):
        self.tables = Tables()
        self.sent = []
        settings = Settings(address=A, network="10.0.0.0/24", forward=True)
        routes = Routes(settings.network, settings.address, settings.routers, self.tables)
        self.router = Router(settings, self.tables, routes, self.send_over, 0.0)
        self.strand = Strand(B)
        self.strand.carrying = ("a connection", "another one")
        self.strand.limit = 1400

    def send_over(self, strand, connections, run, now, partial):
        self.sent.append((strand.host, connections, list(run), partial))


@pytest.fixture
def scene():
    return Scene()


@pytest.mark.parametrize("out", ["outbound", "outbound_own"])
@pytest.mark.parametrize("partial", [False, True])
def test_packets_go_over_what_carries_the_strand_that_the_tables_name(scene, out, partial):
    scene.tables.next_hops[ipv4.pack(B)] = scene.strand
    packets = [udp(A, B, bytes(100)), udp(A, B, bytes(100))]
    getattr(scene.router, out)(packets, 0.0, partial)
    assert scene.sent == [(B, scene.strand.carrying, packets, partial)]
    assert scene.router.carried == 2
    assert not scene.tables.dropped


def test_a_destination_that_the_tables_do_not_name_is_looked_up_once(scene):
    scene.tables.strands[B] = scene.strand
    scene.router.outbound([udp(A, B)], 0.0)
    assert scene.tables.next_hops == {ipv4.pack(B): scene.strand}
    assert len(scene.sent) == 1


def test_what_waited_is_sent_once_it_is_released(scene):
    scene.tables.next_hops[ipv4.pack(B)] = scene.strand
    packet = udp(A, B)
    scene.tables.released.append((packet, None, 0.0))
    scene.router.send_released(1.0)
    scene.router.send_released(2.0)
    assert [run for _, _, run, _ in scene.sent] == [[packet]]


def test_what_waited_in_vain_is_counted_and_its_sender_is_answered(scene):
    scene.tables.given_up.append((udp(A, B), None, 0.0))
    scene.router.send_released(1.0)
    scene.router.send_released(2.0)
    assert scene.tables.dropped == {Drop.UNREACHABLE: 1}
    (answer,) = scene.router.take_packets()
    assert answer[12:20] == ipv4.pack(B) + ipv4.pack(A)
    assert answer[20] == ipv4.ICMP_UNREACHABLE


def test_own_packets_alone_leave_a_host_of_a_secure_network(scene):
    scene.tables.next_hops[ipv4.pack(B)] = scene.strand
    scene.router.outbound_own([udp(C, B), udp(A, B)], 0.0, False)
    assert [run for _, _, run, _ in scene.sent] == [[udp(A, B)]]
    assert scene.tables.dropped == {Drop.FOREIGN_SOURCE: 1}


def test_a_packet_that_is_too_large_for_some_goes_over_the_others(scene):
    class Path:
        def __init__(self, mtu):
            self.mtu = mtu

    narrow, wide = Path(1000), Path(1400)
    scene.strand.carrying, scene.strand.limit = (narrow, wide), 1000
    scene.tables.next_hops[ipv4.pack(B)] = scene.strand
    packet = udp(A, B, bytes(1200), word=0x4000)
    scene.router.outbound([packet], 0.0)
    assert scene.sent == [(B, [wide], [packet], False)]
    (answer,) = scene.router.take_packets()
    assert answer[20:22] == bytes((ipv4.ICMP_UNREACHABLE, ipv4.CODE_TOO_BIG))
