"""What is said of parity is true of a short run as well."""

from ropeway.core.packet.traffic_class import Mode
from tests.emulator.parity import COVERED, PLANS, flow, rows


def test_parity_repairs_most_losses_of_a_lone_link_for_its_share_of_bytes():
    links = ("rtt_ms=40,loss=0.02",)
    without, parity = (flow(links, Mode.SINGLE, covered, 10.0) for covered in (0, 8))
    assert without.lost > 20
    assert parity.lost < without.lost / 3
    assert without.cost + 0.1 < parity.cost < without.cost + 0.15


def test_beside_a_link_that_cannot_carry_all_it_costs_less_than_copies_and_loses_less():
    links = ("rtt_ms=40,loss=0.01", "rtt_ms=60,rate_kbit=1000")
    copies, parity = (flow(links, Mode.ADAPTIVE, covered, 15.0) for covered in (0, 4))
    assert parity.lost < copies.lost
    assert parity.cost < 0.8 * copies.cost


def test_the_table_has_a_line_for_each_number_of_packets():
    lines = rows(PLANS[0], 1.0, 1)
    assert [line[0] for line in lines] == [f"single, {covered or 'none'}" for covered in COVERED]
