"""Hosts that get their addresses from a router, which is killed now and then."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3

import pytest

from tests.system.bed.agents import DEVICE, Agent
from tests.system.bed.stage import Stage
from tests.system.bed.topology import Host, until
from tests.system.bed.traffic import ping

ROUTER = "10.0.0.1"
NAMES = ("vm1", "vm2", "vm3")
PATIENCE_S = 30.0
#: How often processes of the router are killed, and how long at most between two times.
KILLS = 8
BETWEEN_S = 0.6


class LeaseBed:
    """A router and three hosts without an address of their own, in one LAN."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.topology = stage.topology("net0")
        host = self._host("vm0", 2)
        self.router = stage.agent(
            host, ROUTER, forward=True, leases={"pool": "10.0.0.100-10.0.0.109", "time_s": 60}
        )
        self.clients = [self._client(name, 3 + number) for number, name in enumerate(NAMES)]

    def _host(self, name: str, number: int) -> Host:
        host = self.topology.host(name)
        host.connect("net0", "eth0", f"192.168.0.{number}/24", index=number)
        return host

    def _client(self, name: str, number: int) -> Agent:
        agent = self.stage.agent(self._host(name, number), "lease", router=ROUTER)
        identity = self.stage.identities[name]
        agent.write_key(identity)
        self.router.peer("lease", public_key=identity.public)
        return agent.peer(ROUTER, "192.168.0.2")

    def start(self) -> None:
        self.router.start()
        for client in self.clients:
            client.start()

    def addresses(self) -> list[list[str]]:
        """The addresses that the devices of the clients have."""
        return [
            [
                one["local"]
                for link in client.host.ip_json("address", "show", "dev", DEVICE)
                for one in link["addr_info"]
                if one["family"] == "inet"
            ]
            for client in self.clients
        ]

    def wait_for_all(self) -> list[str]:
        until(
            lambda: all(len(found) == 1 for found in self.addresses()),
            PATIENCE_S,
            lambda: f"each client has an address: {self.addresses()}\n{self.router.log()}",
        )
        return [found[0] for found in self.addresses()]

    def assert_reached(self) -> None:
        for client in self.clients:
            until(
                lambda client=client: (
                    not ping(client.host, ROUTER, count=1, interval_s=0.01, wait_s=0.5).lost
                ),
                PATIENCE_S,
                lambda: f"the router answers\n{self.router.log()}",
            )


@pytest.fixture
def bed(stage: Stage) -> LeaseBed:
    return LeaseBed(stage)


def kept_in(agent: Agent) -> dict[str, bytes]:
    path = agent.state_path / f"{DEVICE}.leases"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT address, public_key FROM leases").fetchall())


def test_hosts_get_addresses_and_reach_each_other(bed: LeaseBed) -> None:
    bed.start()
    addresses = bed.wait_for_all()
    assert len(set(addresses)) == len(NAMES)
    bed.assert_reached()
    assert not ping(bed.clients[0].host, addresses[1], count=5, interval_s=0.05, wait_s=2.0).lost
    assert sorted(kept_in(bed.router)) == sorted(addresses)
    listed = bed.router.cli("leases", "--control", str(bed.router.control_path))
    assert all(address in listed.stdout for address in addresses), listed


def test_a_restart_without_the_router_keeps_the_address(bed: LeaseBed) -> None:
    bed.start()
    addresses = bed.wait_for_all()
    bed.router.terminate()
    client = bed.clients[0]
    client.kill_whole()
    client.start()
    until(
        lambda: bed.addresses()[0] == addresses[:1],
        PATIENCE_S,
        lambda: f"it has its address: {bed.addresses()}\n{client.log()}",
    )


def test_a_released_lease_is_replaced(bed: LeaseBed) -> None:
    bed.start()
    former = bed.wait_for_all()[0]
    done = bed.router.cli("leases", "release", former, "--control", str(bed.router.control_path))
    assert done.returncode == 0, done.stderr
    until(
        lambda: bed.addresses()[0] not in ([], [former]),
        PATIENCE_S,
        lambda: f"it has another address: {bed.addresses()}\n{bed.clients[0].log()}",
    )
    assert len(bed.addresses()[0]) == 1
    bed.assert_reached()


def test_kills_at_any_moment_give_no_address_twice_and_lose_none(bed: LeaseBed) -> None:
    seed = int(os.environ.get("ROPEWAY_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"ROPEWAY_SEED={seed}")
    draw = random.Random(seed)
    bed.start()
    known: dict[int, str] = {}
    for _ in range(KILLS):
        pause_s = draw.random() * BETWEEN_S
        with contextlib.suppress(AssertionError):
            until(lambda: False, pause_s, "a moment passes", every_s=0.01)
        victim = draw.choice(("engine", "steward", "whole"))
        print(f"killing the {victim} after {pause_s:.2f} s")
        with contextlib.suppress(ValueError, ProcessLookupError):
            if victim == "steward":
                os.kill(bed.router.steward_pid, signal.SIGKILL)
            elif victim == "whole":
                bed.router.kill_whole()
            else:
                bed.router.kill()
        if not bed.router.alive:
            bed.router.start()
        for number, found in enumerate(bed.addresses()):
            if found:
                assert known.setdefault(number, found[0]) == found[0]
        assert len(set(known.values())) == len(known), known
    addresses = bed.wait_for_all()
    assert len(set(addresses)) == len(NAMES)
    assert all(addresses[number] == address for number, address in known.items())
    bed.assert_reached()
    assert sorted(kept_in(bed.router)) == sorted(addresses)
