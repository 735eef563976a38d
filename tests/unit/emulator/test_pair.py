"""Two real nodes over emulated links, against what the links alone must do to a flow."""

import json
import math

import pytest

from tests.emulator import report
from tests.emulator.__main__ import main
from tests.emulator.compare import Plan, run, table
from tests.emulator.flow import LOST, Flow, Usage
from tests.emulator.pair import EmulatedPair
from tests.unit.emulator import traces

Z99 = 2.576


def test_a_flow_over_one_link_has_its_delay_and_its_loss():
    pair = EmulatedPair(["delay_ms=20,loss=0.05"])
    flow = pair.stream(4000, 500, 10)
    assert len(flow.sent_at) == 10_000
    assert flow.lost == pytest.approx(500, abs=Z99 * math.sqrt(10_000 * 0.05 * 0.95))
    assert [flow.percentile_ms(share) for share in (0.01, 0.9)] == pytest.approx([20, 20])
    assert flow.percentile_ms(0.99) == LOST
    assert flow.percentile_ms(1, delivered=True) == pytest.approx(20)
    assert flow.misses() == flow.lost
    assert flow.duplicates == 0


def test_two_links_lose_what_both_lose_and_are_as_quick_as_the_quicker():
    pair = EmulatedPair(["delay_ms=20,loss=0.1", "delay_ms=35,loss=0.1"])
    flow = pair.stream(4000, 500, 10)
    assert flow.lost == pytest.approx(100, abs=Z99 * math.sqrt(10_000 * 0.01 * 0.99))
    quick = sum(latency == pytest.approx(20) for latency in flow.latencies_ms)
    assert quick == pytest.approx(9000, abs=Z99 * math.sqrt(10_000 * 0.1 * 0.9))
    assert flow.percentile_ms(0.98) == pytest.approx(35)
    assert flow.duplicates == 0


def test_bytes_are_those_of_frames_with_their_outer_headers():
    pair = EmulatedPair(["delay_ms=20", "delay_ms=20"])
    flow = pair.stream(4000, 500, 10, back_kbit=0)
    # An IPv4 and a UDP header, the frame's header and its tag, and the packet.
    single = 10_000 * (20 + 8 + 16 + 16 + 500)
    assert [out.data_bytes for out, _ in flow.usage] == [single, single]
    assert [back.data_bytes for _, back in flow.usage] == [0, 0]
    control = sum(out.control_bytes for out, _ in flow.usage)
    assert 0 < control < 0.01 * single
    assert flow.cost == pytest.approx(2 + control / single)
    assert sum(pair.bytes_by_second(0).get(second, 0) for second in range(10)) == pytest.approx(
        single, rel=0.01
    )
    assert pair.model(0).sent_bytes == pair.usage()[0][0].bytes - _before_0(pair, 0)


def _before_0(pair, number):
    return sum(size for second, size in pair.bytes_by_second(number).items() if second < 0)


def test_a_flow_back_goes_the_other_way():
    pair = EmulatedPair(["delay_ms=20 | delay_ms=50"])
    flow = pair.stream(1000, 500, 2, back=True)
    assert flow.percentile_ms(1) == pytest.approx(50)
    assert flow.back.percentile_ms(1) == pytest.approx(20)
    assert flow.usage[0][0].data_bytes > 10 * flow.usage[0][1].data_bytes


def test_a_link_that_dies_with_its_carrier_costs_the_other_nothing():
    pair = EmulatedPair(["delay_ms=10,black_hole=2-8", "delay_ms=30"])
    flow = pair.stream(1000, 500, 10)
    assert flow.lost == 0
    during = [ms for at, ms in zip(flow.sent_at, flow.latencies_ms) if 2 < at < 8]
    assert during == pytest.approx([30] * len(during))
    assert flow.latencies_ms[0] == pytest.approx(10)


def test_all_is_lost_where_the_only_link_carries_nothing_and_comes_again_afterwards():
    pair = EmulatedPair(["delay_ms=10,black_hole=1-9"])
    flow = pair.stream(400, 500, 15)
    assert all(ms == LOST for at, ms in zip(flow.sent_at, flow.latencies_ms) if 1 < at < 9)
    assert flow.longest_gap_ms > 8000
    assert flow.latencies_ms[-1] == pytest.approx(10)


def test_a_change_comes_at_its_time_and_an_interface_may_go_down():
    pair = EmulatedPair(["delay_ms=10", "delay_ms=30"])
    pair.at(1, pair.set_up, 0, False)
    pair.at(2, setattr, pair.model(1), "delay_ms", 80)
    pair.at(4, pair.set_up, 0, True)
    flow = pair.stream(1000, 500, 8)
    # What flies when the interface goes down comes over the other link.
    assert flow.lost == 0
    assert max(flow.latencies_ms) == pytest.approx(80)
    late = {round(ms) for at, ms in zip(flow.sent_at, flow.latencies_ms) if 1 < at < 2}
    assert late == {30}
    assert flow.latencies_ms[-1] == pytest.approx(10)


def test_packets_bear_what_they_are_told():
    pair = EmulatedPair(["delay_ms=10"])
    seen = []
    outbound = pair.nodes[0].outbound
    pair.nodes[0].outbound = lambda packets, now: (seen.extend(packets), outbound(packets, now))
    pair.stream(1000, 500, 0.1, dscp=46, port=4500)
    packet = seen[0]
    assert len(packet) == 500
    assert packet[1] == 46 << 2
    assert packet[20:24] == (4500).to_bytes(2, "big") * 2
    assert int.from_bytes(packet[24:26], "big") == 480
    with pytest.raises(ValueError, match="34 bytes at least"):
        pair.start(1000, 33)


def test_the_same_seed_gives_the_same_figures():
    def figures(seed):
        pair = EmulatedPair(["delay_ms=10,jitter_ms=5,loss=0.2", "delay_ms=15,loss=0.2"], seed)
        return pair.stream(1000, 500, 3).figures()

    assert figures(5) == figures(5)
    assert figures(5) != figures(6)


def test_over_a_real_pair_of_links_a_packet_is_late_if_it_is_late_over_each():
    traces.load("drive-a-starlink")
    links = ["trace=drive-a-starlink,from_s=1020", "trace=drive-a-verizon,from_s=1020"]
    starlink, verizon, both = (
        {
            number
            for number, ms in enumerate(EmulatedPair(over).stream(400, 500, 60).latencies_ms)
            if ms > 100
        }
        for over in ([links[0]], [links[1]], links)
    )
    assert starlink - verizon
    assert verizon - starlink
    assert both == starlink & verizon != set()


def test_what_was_lost_takes_for_ever_and_gaps_are_seen_by_the_receiver():
    flow = Flow(100, 160, sent_at=[0, 1, 2, 3], delivered_at=[0.5, LOST, 2.25, 5])
    assert flow.latencies_ms == [500, LOST, 250, 2000]
    assert flow.percentile_ms(0.5) == 500
    assert flow.percentile_ms(0.76) == LOST
    assert flow.percentile_ms(0.76, delivered=True) == 2000
    assert (flow.lost, flow.misses(400), flow.longest_gap_ms) == (1, 3, 1750)
    flow.usage = [(Usage(640, 10), Usage(1, 1)), (Usage(0, 30), Usage())]
    assert flow.cost == 680 / 640
    assert flow.figures()["p99_ms"] is None


def test_a_table_has_its_numbers_below_each_other():
    assert table([("", "a"), ("long", "1"), ("b", "100")]) == "        a\nlong    1\nb     100"


def test_a_table_may_be_markdown():
    text = table([("", "a"), ("b", "100")], markdown=True)
    assert text == "|   |   a |\n| - | --: |\n| b | 100 |"


def test_quiet_seconds_are_those_that_every_link_alone_carries_and_has_carried():
    plan = Plan("t", ("delay_ms=5,black_hole=7-8", "delay_ms=9,loss=0 | delay_ms=1"), 400, 20, 500)
    result = run(plan, ["redundant"])
    assert result.quiet == {*range(7), *range(13, 20)}
    # While the connection is not used after the black hole, there is one copy, and two else.
    assert result.modes["redundant"].cost_within(result.quiet) == pytest.approx(2, rel=0.05)
    assert result.modes["redundant"].cost_within(set()) is None
    figures = result.figures()
    assert list(figures["flows"]) == [
        "1 delay_ms=5,black_hole=7-8", "2 delay_ms=9,loss=0", "redundant",
    ]  # fmt: skip
    late = figures["flows"]["redundant"]["late"]
    assert (late[0], late[-1]) == (1, 0)


def test_every_mode_is_compared_by_what_it_costs():
    links = ("delay_ms=10", "delay_ms=30")
    result = run(Plan("t", links, 2000, 10, 500), ["redundant", "adaptive", "single"])
    costs = {mode: flow.cost for mode, flow in result.modes.items()}
    assert costs["redundant"] == pytest.approx(2, rel=0.02)
    assert costs["adaptive"] < 1.5
    assert costs["single"] < 1.5
    assert all(flow.lost == 0 for flow in result.modes.values())


def test_the_command_prints_a_line_for_each_link_and_for_all(capsys):
    arguments = ["run", "--link", "delay_ms=5", "--link", "delay_ms=7,loss=1 | delay_ms=7"]
    assert main([*arguments, "--rate", "100", "--seconds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "redundant"]
    assert "times as fast as real time" in lines[4]


def test_the_command_says_what_is_wrong_with_a_link(capsys):
    assert main(["run", "--link", "beauty=1"]) == 2
    assert "no key beauty" in capsys.readouterr().err


def test_the_report_has_each_mode_and_link_over_each_flaw(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "DIRECTORY", tmp_path)
    arguments = ["report", "--only", "flaws", "--seconds", "1", "--jobs", "1"]
    assert main([*arguments, "--mode", "redundant"]) == 0
    assert capsys.readouterr().out.count("| redundant") == len(report.FLAWS)
    written = json.loads((tmp_path / "report.json").read_text())
    assert [result["name"] for result in written["results"]] == list(report.FLAWS)
    assert len(written["results"][0]["flows"]) == 3
