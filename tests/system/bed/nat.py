"""A client whose every link is behind a NAT of its own, and the router that it calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.system.bed.agents import Agent
from tests.system.bed.stage import Stage
from tests.system.bed.topology import Host, Port, run, until

CLIENT, ROUTER = "10.0.0.1", "10.0.0.2"
CLIENT_INDICES = (2, 3)
PORTS_EACH = 1000


class Nat:
    """A host that masquerades what comes in from a LAN at home; its flows can be forgotten."""

    def __init__(self, host: Host, inside: Port, outside: Port) -> None:
        self.host = host
        self.inside = inside
        self.outside = outside
        self.first_port = 20000
        host.sysctl("net/ipv4/ip_forward", 1)
        self._apply()

    def rebind(self) -> range:
        """Forget every flow and give new ones ports of another range; return that range."""
        self.first_port = 20000 + (self.first_port - 20000 + PORTS_EACH) % (30 * PORTS_EACH)
        self._apply()
        self.host.forget_flows()
        return range(self.first_port, self.first_port + PORTS_EACH)

    def flows(self) -> list[str]:
        """Return the flows from within, as the connection tracking table shows them."""
        with self.host.inside():
            table = Path("/proc/thread-self/net/nf_conntrack").read_text(encoding="ascii")
        network = self.inside.ip.rpartition(".")[0]
        return [line for line in table.splitlines() if f"src={network}." in line]

    def hold_flows(self, seconds: int) -> None:
        """Forget a UDP flow that was quiet for so long, answered or not."""
        for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
            self.host.sysctl(f"net/netfilter/{name}", seconds)

    def _apply(self) -> None:
        last_port = self.first_port + PORTS_EACH - 1
        rules = f"""
table ip nat
delete table ip nat
table ip nat {{
    chain source {{
        type nat hook postrouting priority srcnat; policy accept
        oifname "{self.outside.interface}" ip protocol udp \\
            masquerade to :{self.first_port}-{last_port} fully-random
    }}
    chain guard {{
        type filter hook forward priority filter; policy accept
        iifname "{self.outside.interface}" ct state new drop
    }}
}}
"""
        run(self.host.command("nft", "-f", "-"), stdin=rules)


class NatPair:
    """vm0 behind a NAT on each of its links; the router has an address per LAN, or one for all."""

    def __init__(self, stage: Stage, one_address: bool = False) -> None:
        self.stage = stage
        lans = ["home0", "home1", "net0"] + ([] if one_address else ["net1"])
        self.topology = stage.topology(*lans)
        self.client, self.router = self.topology.host("vm0"), self.topology.host("vm1")
        for number in range(1 if one_address else 2):
            lan, address = f"net{number}", f"192.168.{number}.3/24"
            self.router.connect(lan, f"eth{number}", address, index=12 + number)
        self.nats = [self._nat(number, one_address) for number in (0, 1)]

    def _nat(self, number: int, one_address: bool) -> Nat:
        home, wan = f"home{number}", "net0" if one_address else f"net{number}"
        network = 0 if one_address else number
        host = self.topology.host(f"nat{number}")
        inside = host.connect(home, "in0", f"172.16.{number}.1/24")
        outside = host.connect(wan, "out0", f"192.168.{network}.{11 + number}/24")
        port = self.client.connect(
            home, f"eth{number}", f"172.16.{number}.2/24", index=CLIENT_INDICES[number]
        )
        # As a host with several uplinks has them: a default route each, one preferred.
        way = {"gateway": inside.ip, "oif": port.index, "priority": 100 + number}
        self.client.kernel.route("add", dst="default", **way)
        return Nat(host, inside, outside)

    def client_agent(self, **keys: Any) -> Agent:
        agent = self.stage.agent(self.client, CLIENT, router=ROUTER, **keys)
        return agent.peer(ROUTER, *(port.ip for port in self.router.ports.values()))

    def router_agent(self, **keys: Any) -> Agent:
        return self.stage.agent(self.router, ROUTER, forward=True, **keys).peer(CLIENT)

    def start(self) -> tuple[Agent, Agent]:
        client, router = self.client_agent().start(), self.router_agent().start()
        self.wait_whole(client, router)
        return client, router

    def wait_whole(self, client: Agent, router: Agent) -> None:
        """Wait until each link of the client carries, both ways, through its own NAT."""
        publics = {nat.outside.ip for nat in self.nats}
        sources = {nat_port.ip for nat_port in self.client.ports.values()}
        until(
            lambda: {source for source, _ in client.carrying(ROUTER)} == sources,
            10,
            lambda: f"vm0 uses both links: {client.connections(ROUTER)}\n{client.log()}",
        )
        until(
            lambda: {address for _, address in router.carrying(CLIENT)} == publics,
            10,
            lambda: f"vm1 uses both links: {router.connections(CLIENT)}\n{router.log()}",
        )
