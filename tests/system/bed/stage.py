"""What a test starts with: the lab's addresses in namespaces, agents, and an orderly end."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.system.bed.agents import Agent, Identities, Process, Reference, stop_all
from tests.system.bed.topology import PREFIX, Host, Topology


class Stage:
    """One test's topology and processes."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: the path of a unix socket has room for 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.topologies: list[Topology] = []
        self.processes: list[Process] = []
        self.identities = Identities()

    def topology(self, *lans: str) -> Topology:
        topology = Topology(*lans)
        self.topologies.append(topology)
        return topology

    def agent(self, host: Host, address: str, **keys: Any) -> Agent:
        agent = Agent(host, address, self.directory, self.identities, **keys)
        self.processes.append(agent)
        return agent

    def reference(self, host: Host, address: str, **options: Any) -> Reference:
        reference = Reference(host, address, self.directory, **options)
        self.processes.append(reference)
        return reference

    def process(self, process: Process) -> Process:
        self.processes.append(process)
        return process

    def show_logs(self) -> None:
        for process in self.processes:
            if process.log_path.exists():
                print(f"--- {process.log_path.stem}, its last lines\n{process.log()[-4000:]}")

    def close(self) -> None:
        """End the processes and remove everything."""
        stop_all(self.processes)
        for topology in self.topologies:
            topology.close()
        shutil.rmtree(self.directory)


class Pair:
    """Two hosts on two LANs: vm0 10.0.0.1 and vm1 10.0.0.2, as in the lab."""

    a_address = "10.0.0.1"
    b_address = "10.0.0.2"

    def __init__(self, stage: Stage, lans: int = 2, encapsulation: str = "secure") -> None:
        self.stage = stage
        self.encapsulation = encapsulation
        self.topology = stage.topology(*(f"net{lan}" for lan in range(lans)))
        self.a = self.topology.host("vm0")
        self.b = self.topology.host("vm1")
        for lan in range(lans):
            # Other indices at the other end, so that a swapped pair of indices shows.
            self.a.connect(f"net{lan}", f"eth{lan}", f"192.168.{lan}.2/24", index=2 + lan)
            self.b.connect(f"net{lan}", f"eth{lan}", f"192.168.{lan}.3/24", index=12 + lan)

    def a_agent(self, **keys: Any) -> Agent:
        """Return the agent of vm0, which knows where vm1 is."""
        addresses = [port.ip for port in self.b.ports.values()]
        keys.setdefault("encapsulation", self.encapsulation)
        return self.stage.agent(self.a, self.a_address, **keys).peer(self.b_address, *addresses)

    def b_agent(self, **keys: Any) -> Agent:
        """Return the agent of vm1, which knows vm0's key at most."""
        keys.setdefault("encapsulation", self.encapsulation)
        return self.stage.agent(self.b, self.b_address, **keys).peer(self.a_address)

    def links(self) -> list[tuple[str, str]]:
        """Return the (vm0 address, vm1 address) pair of each LAN."""
        return [(port.ip, self.b.ports[lan].ip) for lan, port in self.a.ports.items()]

    def start(self, **keys: Any) -> tuple[Agent, Agent]:
        """Start both agents and wait until every LAN carries both ways."""
        a, b = self.a_agent(**keys).start(), self.b_agent(**keys).start()
        self.wait_whole(a, b)
        return a, b

    def wait_whole(self, a: Agent, b: Agent) -> None:
        a.wait_carrying(self.b_address, *self.links())
        b.wait_carrying(self.a_address, *(link[::-1] for link in self.links()))


class TwoFamilies(Pair):
    """Two hosts on a LAN with IPv4 alone and one with IPv6 alone."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.encapsulation = "secure"
        self.topology = stage.topology("net4", "net6")
        self.a = self.topology.host("vm0")
        self.b = self.topology.host("vm1")
        for number, host in enumerate((self.a, self.b)):
            host.connect("net4", "eth0", f"192.168.0.{2 + number}/24", index=2 + 10 * number)
            host.connect("net6", "eth1", f"2001:db8:1::{2 + number}/64", index=3 + 10 * number)


class Triple:
    """The lab's three hosts: vm0 and vm2 share no LAN, vm1 is the router between them."""

    def __init__(self, stage: Stage, encapsulation: str = "secure") -> None:
        self.stage = stage
        self.encapsulation = encapsulation
        self.addresses = {"vm0": "10.0.0.1", "vm1": "10.0.0.2", "vm2": "10.0.0.3"}
        self.topology = stage.topology("net0", "net1", "net2", "net3")
        self.vm0, self.vm1, self.vm2 = (self.topology.host(name) for name in self.addresses)
        self.vm0.connect("net0", "enp0s3", "192.168.0.2/24", index=2)
        self.vm0.connect("net1", "enp0s8", "192.168.1.2/24", index=3)
        self.vm1.connect("net0", "enp0s3", "192.168.0.3/24", index=12)
        self.vm1.connect("net1", "enp0s8", "192.168.1.3/24", index=13)
        self.vm1.connect("net2", "enp0s9", "192.168.2.3/24", index=14)
        self.vm1.connect("net3", "enp0s10", "192.168.3.3/24", index=15)
        self.vm2.connect("net2", "enp0s3", "192.168.2.2/24", index=22)
        self.vm2.connect("net3", "enp0s8", "192.168.3.2/24", index=23)

    def client(self, name: str, **keys: Any) -> Agent:
        """Return the agent of a client, which knows the router and nobody else."""
        host = self.topology.hosts[name]
        router = self.addresses["vm1"]
        keys.setdefault("encapsulation", self.encapsulation)
        agent = self.stage.agent(host, self.addresses[name], router=router, **keys)
        return agent.peer(router, *(self.vm1.ports[lan].ip for lan in host.ports))

    def router(self, **keys: Any) -> Agent:
        keys.setdefault("encapsulation", self.encapsulation)
        router = self.stage.agent(self.vm1, self.addresses["vm1"], forward=True, **keys)
        return router.peer(self.addresses["vm0"]).peer(self.addresses["vm2"])

    def start(self, **keys: Any) -> tuple[Agent, Agent, Agent]:
        """Start all three and wait until each client has both its links to the router."""
        router = self.router(**keys).start()
        vm0, vm2 = self.client("vm0", **keys).start(), self.client("vm2", **keys).start()
        for client in (vm0, vm2):
            self.wait_whole(client, router)
        return vm0, router, vm2

    def wait_whole(self, client: Agent, router: Agent) -> None:
        """Wait until a client's links to the router all carry, both ways."""
        links = [(port.ip, self.vm1.ports[lan].ip) for lan, port in client.host.ports.items()]
        client.wait_carrying(router.address, *links)
        router.wait_carrying(client.address, *(link[::-1] for link in links))
