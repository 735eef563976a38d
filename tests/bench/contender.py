"""What is compared: each a way from one host to another, in namespaces of its own.

All of them run the whole time, so that they can be measured in turn within a round. The programs
have the niceness that ropeway's unit gives the agent, all alike, and otherwise their own defaults.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar, Sequence

from tests.system.bed.agents import NICE, ROOT, Agent, Process
from tests.system.bed.stage import Pair, Stage, Triple
from tests.system.bed.topology import Host, run, until

IPERF_PORT = 5201
START_S = 15.0
TUNNEL_MTU = "1420"  # what WireGuard takes on Ethernet; the same for OpenVPN
WIREGUARD_PREFIX = "rwb"
WIREGUARD_SOCKETS = Path("/var/run/wireguard")
WIREGUARD_PORT = "51820"
OPENVPN_PORT = "1194"


def agent_python() -> str:
    """Return the interpreter for agents: the system's own, as the package uses, if it is set up."""
    system = ROOT / "build" / "venv-agent" / "bin" / "python"
    return str(system) if system.exists() else sys.executable


class Contender:
    """Nothing but one link."""

    name = "bare"
    title = "bare veth"
    #: What it needs: program to Debian package.
    programs: ClassVar[dict[str, str]] = {"iperf3": "iperf3", "ip": "iproute2"}
    links = 1
    #: What it is compared in; see Contest.
    measures: Sequence[str] = ("tcp", "udp 1200", "udp 200", "idle", "load")

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.near, self.far = self._hosts()
        #: Where the far host is, by this way.
        self.address = self._address()
        #: The programs at the two ends whose processor time and memory is counted.
        self.processes: list[Process] = []

    def _hosts(self) -> tuple[Host, Host]:
        pair = Pair(self.stage, self.links)
        return pair.a, pair.b

    def _address(self) -> str:
        return next(iter(self.far.ports.values())).ip

    @property
    def program(self) -> str:
        """Which version of what it is, for the record."""
        return "Linux " + os.uname().release

    def start(self) -> None:
        """Start it and wait until it carries."""
        serve(self.stage, self.far)

    def settled(self) -> None:
        """Fail if it does not carry any more as it should."""
        for process in self.processes:
            assert process.alive, f"{self.name} ended by itself:\n{process.log()}"

    def cpu_s(self) -> float:
        """Return the processor time that its programs used up to now, user and system."""
        return sum(process.cpu_s() for process in self.processes)

    def memory_mib(self) -> float:
        """Return the resident memory of the largest program."""
        return max(process.rss_kib() for process in self.processes) / 1024

    def _wait_ping(self) -> None:
        command = self.near.command("ping", "-c", "1", "-W", "1", "-q", self.address)

        def answered() -> bool:
            self.settled()
            try:
                run(command)
            except RuntimeError:
                return False
            return True

        until(answered, START_S, lambda: f"{self.name} carries\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(process.log()[-2000:] for process in self.processes)


class WireGuard(Contender):
    """wireguard-go, the implementation of WireGuard outside the kernel, over one link."""

    name = "wireguard"
    title = "wireguard-go"
    programs: ClassVar[dict[str, str]] = {"wireguard-go": "wireguard-go", "wg": "wireguard-tools"}

    def _address(self) -> str:
        return "10.9.0.2"

    @property
    def program(self) -> str:
        return run(["wireguard-go", "--version"]).splitlines()[0]

    def start(self) -> None:
        super().start()
        ends = [(self.near, "10.9.0.1"), (self.far, self.address)]
        private = [run(["wg", "genkey"]).strip() for _ in ends]
        public = [run(["wg", "pubkey"], key).strip() for key in private]
        for number, (host, address) in enumerate(ends):
            # Its control socket is named after the device, in a folder that all namespaces share.
            device = f"{WIREGUARD_PREFIX}{os.getpid()}{number}"
            process = Process(host, self.stage.directory, "wireguard")
            self.stage.process(process)
            self.processes.append(process)
            process.launch(
                "env", "LOG_LEVEL=error", "nice", "-n", NICE, "wireguard-go", "-f", device
            )
            until((WIREGUARD_SOCKETS / f"{device}.sock").exists, START_S, process.log)
            key = self.stage.directory / f"wireguard-{number}.key"
            key.touch(mode=0o600)
            key.write_text(private[number], encoding="ascii")
            there = next(iter(ends[1 - number][0].ports.values())).ip
            far = ["peer", public[1 - number], "allowed-ips", "10.9.0.0/24"]
            far += ["endpoint", f"{there}:{WIREGUARD_PORT}"]
            host.run("wg", "set", device, "private-key", str(key), "listen-port", WIREGUARD_PORT)
            host.run("wg", "set", device, *far)
            host.add_address(device, f"{address}/24")
            host.kernel.link("set", ifname=device, mtu=int(TUNNEL_MTU), state="up")
        self._wait_ping()


class OpenVpn(Contender):
    """OpenVPN over one link, UDP, AES-256-GCM, all outside the kernel."""

    name = "openvpn"
    title = "OpenVPN"
    programs: ClassVar[dict[str, str]] = {"openvpn": "openvpn", "openssl": "openssl"}

    def _address(self) -> str:
        return "10.8.0.2"

    @property
    def program(self) -> str:
        # "openvpn --version" ends with status 1.
        return " ".join(run(["sh", "-c", "openvpn --version || :"]).split()[:2])

    def start(self) -> None:
        super().start()
        # One certificate that both ends have and trust: who they are is not what is measured.
        key, certificate = (self.stage.directory / name for name in ("vpn.key", "vpn.pem"))
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        made = ["-keyout", str(key), "-out", str(certificate), "-days", "2"]
        run(["openssl", "req", "-x509", *kind, *made, "-subj", "/CN=benchmark"])
        common = ["--dev", "vpn0", "--dev-type", "tun", "--proto", "udp", "--port", OPENVPN_PORT]
        common += ["--ca", str(certificate), "--cert", str(certificate), "--key", str(key)]
        common += ["--tun-mtu", TUNNEL_MTU, "--verb", "3", "--ping", "10", "--cipher"]
        common += [
            "AES-256-GCM",
            *_known("--data-ciphers", "AES-256-GCM"),
            *_known("--disable-dco"),
        ]
        ends = [
            (self.far, self.near, [self.address, "10.8.0.1"], ["--tls-server", "--dh", "none"]),
            (self.near, self.far, ["10.8.0.1", self.address], ["--tls-client"]),
        ]
        for host, other, addresses, role in ends:
            process = Process(host, self.stage.directory, "openvpn")
            self.stage.process(process)
            self.processes.append(process)
            there = ["--remote", next(iter(other.ports.values())).ip]
            tunnel = ["--ifconfig", *addresses, *there, *role]
            process.launch("nice", "-n", NICE, "openvpn", *common, *tunnel)
        self._wait_ping()


def _known(option: str, *values: str) -> list[str]:
    """Return an option of openvpn with its values, or nothing where this version lacks it."""
    known = run(["sh", "-c", "openvpn --help || :"])
    return [option, *values] if f"{option} " in known else []


class Ropeway(Contender):
    """Two agents and some links between them."""

    programs: ClassVar[dict[str, str]] = {"nft": "nftables"}
    #: Of the agents' configuration.
    keys: ClassVar[dict[str, Any]] = {}

    def __init__(self, stage: Stage, links: int, encapsulation: str) -> None:
        self.links = links
        self.encapsulation = encapsulation
        self.name = f"ropeway-{links}"
        self.title = f"ropeway, {links} link{'s' if links > 1 else ''}"
        super().__init__(stage)
        self.agents: list[Agent] = []

    def _hosts(self) -> tuple[Host, Host]:
        self.pair = Pair(self.stage, self.links, self.encapsulation)
        return self.pair.a, self.pair.b

    def _address(self) -> str:
        return self.pair.b_address

    @property
    def program(self) -> str:
        return f"ropeway {self.agents[0].status()['version']}, {self.encapsulation}"

    def start(self) -> None:
        super().start()
        self.agents = self._start_agents()
        self.processes = list(self.agents)
        self._wait_ping()

    def _start_agents(self) -> list[Agent]:
        return list(self.pair.start(python=agent_python(), **self.keys))

    def settled(self) -> None:
        super().settled()
        if self.agents:
            self._wait_whole()

    def _wait_whole(self) -> None:
        self.pair.wait_whole(*self.agents)


class RoutedRopeway(Ropeway):
    """Two clients that reach each other through the router: three agents, two hops."""

    def __init__(self, stage: Stage, encapsulation: str) -> None:
        super().__init__(stage, 2, encapsulation)
        self.name += "-routed"
        self.title += ", two hops"

    def _hosts(self) -> tuple[Host, Host]:
        self.triple = Triple(self.stage, self.encapsulation)
        return self.triple.vm0, self.triple.vm2

    def _address(self) -> str:
        return self.triple.addresses["vm2"]

    def _start_agents(self) -> list[Agent]:
        return list(self.triple.start(python=agent_python(), **self.keys))

    def _wait_whole(self) -> None:
        near, router, far = self.agents
        for client in (near, far):
            self.triple.wait_whole(client, router)


class AwakeRopeway(Ropeway):
    """Two agents that keep the processors from sleep while packets pass."""

    keys: ClassVar[dict[str, Any]] = {"cpu_latency_us": 0}
    measures = ("idle", "load")

    def __init__(self, stage: Stage, links: int, encapsulation: str) -> None:
        super().__init__(stage, links, encapsulation)
        self.name += "-awake"
        self.title += ", cpu_latency_us 0"

    def start(self) -> None:
        super().start()
        for agent in self.agents:
            granted = agent.status()["process"]["cpu_latency_us"]
            assert granted == 0, f"the processors of this machine cannot be kept awake: {granted}"


def serve(stage: Stage, host: Host, port: int = IPERF_PORT) -> None:
    """Start iperf3's server in a host and wait until it listens."""
    server = Process(host, stage.directory, f"iperf3-{port}")
    stage.process(server)
    server.launch("iperf3", "--server", "--forceflush", "--port", str(port))
    until(lambda: "listening" in server.log(), START_S, "the iperf3 server listens")


def sweep_sockets() -> None:
    """Remove the control sockets of wireguard-go that runs which are no more left behind."""
    for path in WIREGUARD_SOCKETS.glob(f"{WIREGUARD_PREFIX}*.sock"):
        owner = path.stem[len(WIREGUARD_PREFIX) : -1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            path.unlink()
