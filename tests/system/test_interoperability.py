"""The agent and the first implementation on the same strand, in both roles."""

from __future__ import annotations

import pytest

from tests.system.bed.agents import Agent, Reference
from tests.system.bed.reference_node import Frame
from tests.system.bed.stage import Pair, Stage, Triple
from tests.system.bed.topology import until
from tests.system.bed.traffic import assert_whole, both_ways, drain, ping

PACKETS = 500
ETHERNET_BYTES = 14


@pytest.fixture(params=[1, 2], ids=["one link", "two links"])
def mixed(request: pytest.FixtureRequest, stage: Stage) -> Pair:
    """Give the hosts; vm0 gets the agent, vm1 the reference node."""
    return Pair(stage, request.param, encapsulation="classic")


@pytest.fixture
def pair(classic_pair: Pair) -> Pair:
    return classic_pair


@pytest.fixture
def triple(stage: Stage) -> Triple:
    return Triple(stage, encapsulation="classic")


def agent_that_greets(pair: Pair) -> Agent:
    """Return vm0's agent; an old node answers only to its own index, so it is configured."""
    addresses = [{"address": port.ip, "index": port.index} for port in pair.b.ports.values()]
    return agent_that_waits(pair).peer(pair.b_address, *addresses)


def agent_that_waits(pair: Pair) -> Agent:
    return pair.stage.agent(pair.a, pair.a_address, encapsulation="classic")


def reference_that_greets(pair: Pair) -> Reference:
    reference = pair.stage.reference(pair.b, pair.b_address)
    for port in pair.a.ports.values():
        reference.remote(pair.a_address, port.index, port.ip)
    return reference


def reference_that_waits(pair: Pair) -> Reference:
    return pair.stage.reference(pair.b, pair.b_address)


def wait_joined(pair: Pair, agent: Agent, reference: Reference) -> None:
    """Wait until both ends have every LAN at state 2."""

    def joined() -> bool:
        states = reference.states(pair.a_address)
        return all(
            states.get((pair.b.ports[lan].index, port.index)) == 2
            for lan, port in pair.a.ports.items()
        ) and set(pair.links()) <= agent.carrying(pair.b_address)

    until(
        joined,
        10,
        lambda: (
            f"state 2 on every LAN, reference {reference.states(pair.a_address)}, agent "
            f"{agent.connections(pair.b_address)}"
        ),
    )


def exchange(pair: Pair, agent: Agent, reference: Reference) -> None:
    """Stream both ways, and lose and duplicate nothing."""
    delivered = agent.delivered()
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, rate=500) as verdicts:
        until(
            lambda: agent.delivered() >= delivered + PACKETS,
            15,
            lambda: f"{PACKETS} packets delivered: {agent.status()}",
        )
    assert_whole(verdicts)


def test_reference_that_waits_is_greeted_and_joins(mixed: Pair) -> None:
    reference = reference_that_waits(mixed).start()
    agent = agent_that_greets(mixed).start()
    wait_joined(mixed, agent, reference)
    exchange(mixed, agent, reference)


def test_reference_that_greets_first_is_learnt(mixed: Pair) -> None:
    agent = agent_that_waits(mixed).start()
    reference = reference_that_greets(mixed).start()
    wait_joined(mixed, agent, reference)
    exchange(mixed, agent, reference)


def test_both_greet_at_once(mixed: Pair) -> None:
    agent = agent_that_greets(mixed).start()
    reference = reference_that_greets(mixed).start()
    wait_joined(mixed, agent, reference)
    exchange(mixed, agent, reference)


def passes(pair: Pair) -> bool:
    return not ping(pair.a, pair.b_address, count=1, interval_s=0.01, wait_s=0.1).lost


@pytest.mark.parametrize("greeter", ["agent", "reference"])
def test_reference_that_restarts_is_taken_up_again(mixed: Pair, greeter: str) -> None:
    agent = (agent_that_greets if greeter == "agent" else agent_that_waits)(mixed).start()
    reference = (reference_that_waits if greeter == "agent" else reference_that_greets)(mixed)
    reference.start()
    wait_joined(mixed, agent, reference)
    reference.kill()
    reference.start()
    until(lambda: passes(mixed), 10, lambda: f"pings pass: {agent.connections(mixed.b_address)}")
    wait_joined(mixed, agent, reference)
    exchange(mixed, agent, reference)


@pytest.mark.parametrize("greeter", ["agent", "reference"])
def test_agent_that_restarts_is_taken_up_again(mixed: Pair, greeter: str) -> None:
    agent = (agent_that_greets if greeter == "agent" else agent_that_waits)(mixed).start()
    reference = (reference_that_waits if greeter == "agent" else reference_that_greets)(mixed)
    reference.start()
    wait_joined(mixed, agent, reference)
    agent.kill()
    agent.start()
    if greeter == "reference":
        # It holds the strand for finished and is silent: only its traffic can be heard.
        ping(mixed.b, mixed.a_address, count=3, interval_s=0.05)
    until(lambda: passes(mixed), 10, lambda: f"pings pass: {agent.connections(mixed.b_address)}")
    exchange(mixed, agent, reference)


def test_idle_reference_that_never_keeps_alive_is_still_reached(pair: Pair) -> None:
    reference = reference_that_waits(pair).start()
    agent = agent_that_greets(pair).start()
    wait_joined(pair, agent, reference)
    until(
        lambda: all(
            connection["heard_s"] > 4
            for connection in agent.connections(pair.b_address)
            if connection["routed"]
        ),
        15,
        lambda: f"it was silent for 4 s: {agent.connections(pair.b_address)}",
        every_s=0.2,
    )
    verdict = ping(pair.a, pair.b_address, count=50, interval_s=0.01)
    assert (verdict.lost, verdict.duplicated) == (0, 0), agent.peer_status(pair.b_address)
    exchange(pair, agent, reference)


def test_cut_link_to_a_reference_loses_nothing(pair: Pair) -> None:
    reference = reference_that_waits(pair).start()
    agent = agent_that_greets(pair).start()
    wait_joined(pair, agent, reference)
    with both_ways(pair.a, pair.a_address, pair.b, pair.b_address, rate=500) as verdicts:
        for lan, port in pair.a.ports.items():
            port.block()
            link = (port.ip, pair.b.ports[lan].ip)
            until(
                lambda link=link: link not in agent.carrying(pair.b_address),
                10,
                lambda: f"the cut is noticed: {agent.connections(pair.b_address)}",
            )
            port.unblock()
            wait_joined(pair, agent, reference)
    assert_whole(verdicts)


def test_agent_routes_between_two_reference_nodes(triple: Triple) -> None:
    router = triple.router().start()
    references = []
    for name in ("vm0", "vm2"):
        host = triple.topology.hosts[name]
        reference = triple.stage.reference(host, triple.addresses[name], router=router.address)
        for lan in host.ports:
            port = triple.vm1.ports[lan]
            reference.remote(router.address, port.index, port.ip)
        references.append(reference.start())
    vm0, vm2 = references
    for reference in references:
        reference.wait_states(
            router.address,
            "both LANs at state 2",
            lambda states: list(states.values()).count(2) >= 2,
        )
    with both_ways(triple.vm0, vm0.address, triple.vm2, vm2.address, rate=500) as verdicts:
        until(
            lambda: router.status()["counters"]["forwarded"] >= 2 * PACKETS,
            15,
            lambda: f"{2 * PACKETS} packets forwarded: {router.status()}",
        )
    assert_whole(verdicts)


def test_every_frame_of_the_agent_is_the_published_one_byte_for_byte(pair: Pair) -> None:
    taps = [pair.topology.capture(lan) for lan in pair.a.ports]
    a, b = pair.start()
    ping(pair.a, pair.b_address, count=200, interval_s=0.002)
    packets = [frame[ETHERNET_BYTES:] for tap in taps for frame in drain(tap)]
    for tap in taps:
        tap.close()
    # By connection; while the other end's index is not known yet, 0 stands in its place.
    counted: dict[tuple[int, str], list[Frame]] = {}
    for packet in packets:
        frame = Frame.unpack(packet)
        if frame is None:
            continue
        assert frame.pack() == packet
        counted.setdefault((frame.src_index, frame.destination), []).append(frame)
    for connection, frames in counted.items():
        # The tap sees frames in the order in which they were sent.
        numbers = [frame.identification for frame in frames]
        assert numbers == list(range(1, len(frames) + 1)), (connection, numbers[:10])
        ids = [frame.id for frame in frames if frame.payload is not None]
        assert ids == list(range(ids[0], ids[0] + len(ids))) if ids else True
        assert {frame.id for frame in frames if frame.payload is None} <= {0}
        # Unfinished connections may carry packets, too, so states only never go back.
        states = [frame.state for frame in frames]
        assert states == sorted(states)
    carried = [frames for frames in counted.values() if any(one.payload for one in frames)]
    assert len(carried) == 4, "two links, two ways"
    assert a.alive
    assert b.alive
