"""Peers and keys that change while the agent runs: nobody else notices."""

from __future__ import annotations

from tests.system.bed.agents import Agent, Identity
from tests.system.bed.stage import Triple
from tests.system.bed.topology import until
from tests.system.bed.traffic import ANSWER_S, assert_whole, both_ways, ping

CUT_OFF_S = 5.0
EXIT_RESTART = 3


def reaches(agent: Agent, address: str, wait_s: float = 0.1) -> bool:
    return not ping(agent.host, address, count=1, interval_s=0.01, wait_s=wait_s).lost


def wait_reaches(agent: Agent, address: str) -> None:
    until(
        lambda: reaches(agent, address),
        10,
        lambda: f"{agent.host.name} reaches {address}: {agent.status()['peers']}\n{agent.log()}",
    )


def reload(agent: Agent) -> None:
    done = agent.reload()
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{agent.log()}"
    assert "Traceback" not in done.stderr


def test_peers_come_and_go_without_a_loss_for_the_others(triple: Triple) -> None:
    router, vm0, vm2 = triple.router(), triple.client("vm0"), triple.client("vm2")
    entry = router.entry(vm2.address)
    router.remove_peer(vm2.address)
    for agent in (router, vm0, vm2):
        agent.start()
    triple.wait_whole(vm0, router)
    session = router.peer_status(vm0.address)["session"]
    with both_ways(triple.vm0, vm0.address, triple.vm1, router.address) as verdicts:
        assert not reaches(vm2, router.address), "a stranger got in"
        router.config["peers"].append(entry)
        reload(router)
        wait_reaches(vm2, router.address)
        wait_reaches(vm2, vm0.address)
        router.remove_peer(vm2.address)
        reload(router)
        until(lambda: not reaches(vm2, router.address), CUT_OFF_S, "vm2 is cut off")
        assert router.peer_status(vm2.address) is None
        # It stays so, although it goes on calling.
        for _ in range(10):
            assert not reaches(vm2, router.address)
        router.config["peers"].append(entry)
        reload(router)
        wait_reaches(vm2, router.address)
    assert_whole(verdicts)
    after = router.peer_status(vm0.address)["session"]
    assert after["peer_key"] == session["peer_key"]
    assert after["age_s"] > session["age_s"], "the reloads cost vm0 its session"


def test_clients_key_is_rotated_without_a_loss_for_anybody(triple: Triple) -> None:
    """The router learns the next key, the client takes it, and the router forgets the old one."""
    vm0, router, vm2 = triple.start()
    old, new = triple.stage.identities[vm2.address], Identity.generate()
    with both_ways(triple.vm0, vm0.address, triple.vm2, vm2.address) as verdicts:
        router.entry(vm2.address)["next_public_key"] = new.public
        reload(router)
        vm2.write_key(new)
        reload(vm2)
        until(
            lambda: router.peer_status(vm2.address)["session"]["peer_key"] == new.public,
            10,
            lambda: f"the new key is used: {router.peer_status(vm2.address)}\n{vm2.log()}",
        )
        router.entry(vm2.address).pop("next_public_key")
        router.entry(vm2.address)["public_key"] = new.public
        reload(router)
        triple.wait_whole(vm2, router)
        wait_reaches(vm2, router.address)
    assert_whole(verdicts)
    # Who has nothing but the old key is a stranger now.
    vm2.terminate()
    vm2.write_key(old)
    vm2.start()
    for _ in range(10):
        assert not reaches(vm2, router.address)


def test_routers_key_is_rotated_without_a_loss(triple: Triple) -> None:
    vm0, router, vm2 = triple.start()
    new = Identity.generate()
    with both_ways(triple.vm0, vm0.address, triple.vm2, vm2.address) as verdicts:
        for client in (vm0, vm2):
            client.entry(router.address)["next_public_key"] = new.public
            reload(client)
        router.write_key(new)
        reload(router)
        for client in (vm0, vm2):
            until(
                lambda client=client: (
                    client.peer_status(router.address)["session"]["peer_key"] == new.public
                ),
                10,
                lambda client=client: f"the new key is used: {client.status()['peers']}",
            )
            client.entry(router.address).pop("next_public_key")
            client.entry(router.address)["public_key"] = new.public
            reload(client)
            triple.wait_whole(client, router)
    assert_whole(verdicts)


def test_change_that_needs_a_restart_is_named_and_nothing_of_it_is_applied(triple: Triple) -> None:
    vm0, router, vm2 = triple.start()
    router.config["port"] = 51999
    router.remove_peer(vm2.address)
    done = router.reload()
    assert done.returncode == EXIT_RESTART, done
    assert "port" in done.stderr
    assert router.peer_status(vm2.address) is not None
    for client in (vm0, vm2):
        assert reaches(client, router.address, ANSWER_S)


def test_configuration_with_errors_is_refused_and_nothing_of_it_is_applied(triple: Triple) -> None:
    vm0, router, _ = triple.start()
    router.entry(vm0.address)["public_key"] = "not a key"
    done = router.reload()
    assert done.returncode not in (0, EXIT_RESTART), done
    assert "public_key" in done.stdout + done.stderr + router.log()
    assert "Traceback" not in done.stderr + router.log()
    assert reaches(vm0, router.address, ANSWER_S)
