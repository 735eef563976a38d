"""The programs under test: the agent and the reference node, started inside a host's namespace."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.lab.process import children_of
from tests.system.bed.topology import Host, until

ROOT = Path(__file__).resolve().parents[3]
DEVICE = "ropeway0"
NETWORK = "10.0.0.0/24"
NICE = "-10"  # as the unit runs it
# Bounds on waiting, not bars: what has to be quick, its own test measures.
START_S = 30.0
STOP_S = 20.0
REQUEST_S = 20.0
#: Starts ``ropeway`` with constants of its modules replaced, ``{"module:NAME": value}``, and more.
TUNED = """
import importlib, json, sys
for name, value in json.loads(sys.argv.pop(1)).items():
    module, _, constant = name.partition(":")
    assert hasattr(importlib.import_module(module), constant), name
    setattr(importlib.import_module(module), constant, value)
exec(sys.argv.pop(1))
from ropeway.app.cli import main
sys.exit(main())
"""
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process:
    """A program in a host's namespace, its output in a file, killed with the test."""

    def __init__(self, host: Host, directory: Path, name: str) -> None:
        self.host = host
        self.log_path = directory / f"{host.name}-{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": f"{ROOT / 'agent'}", "PYTHONUNBUFFERED": "1"}

    def launch(self, *command: str) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.host.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd="/",
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.log_path.stem} was never started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def terminate(self) -> int:
        """Ask it to stop and return its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """Kill it as ``kill -9`` does."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(STOP_S)

    def rss_kib(self) -> int:
        fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * PAGE_KIB

    def cpu_s(self) -> float:
        """Return the processor time that it used up to now."""
        return cpu_s(self.pid)


@dataclass(frozen=True)
class Use:
    """What a process takes; ``pss_kib`` counts a page that several share in parts (proc(5))."""

    rss_kib: int
    pss_kib: int
    cpu_s: float

    @classmethod
    def of(cls, pid: int) -> Use:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
        return cls(sizes["Rss"], sizes["Pss"], cpu_s(pid))


def cpu_s(pid: int) -> float:
    """Return the processor time that a process used up to now."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / TICKS_PER_S


def descendants_of(pid: int) -> list[int]:
    """Return the process IDs of a process's children, and of theirs."""
    return [found for child in children_of(pid) for found in (child, *descendants_of(child))]


@dataclass(frozen=True)
class Identity:
    """A host's key pair, each half in base64 as the configuration has it."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"Identity({self.public})"

    @classmethod
    def generate(cls) -> Identity:
        """Make a new key pair (X25519, RFC 7748)."""
        key = X25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.Raw,
            serialization.PrivateFormat.Raw,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return cls(*(base64.b64encode(half).decode("ascii") for half in (private, public)))


class Identities(dict):  # type: ignore[type-arg]
    """The key pairs of a test's hosts, by virtual address; each is made when first asked for."""

    def __missing__(self, address: str) -> Identity:
        self[address] = made = Identity.generate()
        return made


class Agent(Process):
    """One ropeway agent with its configuration, key, state and control socket.

    Each is the host's own; ``instance`` tells apart several agents of one host.
    """

    def __init__(
        self,
        host: Host,
        address: str,
        directory: Path,
        identities: Identities,
        encapsulation: str = "secure",
        instance: str = "",
        python: str = sys.executable,
        **keys: Any,
    ) -> None:
        name = f"{host.name}-{instance}" if instance else host.name
        super().__init__(host, directory, f"{instance}-agent" if instance else "agent")
        self.address = address
        self.python = python
        self.identities = identities
        self.encapsulation = encapsulation
        self.config_path = directory / f"{name}.yaml"
        self.control_path = directory / f"{name}.sock"
        self.key_path = directory / f"{name}.key"
        self.state_path = directory / f"{name}-state"
        #: Constants of the agent that a test shortens, ``module:NAME`` to value.
        self.tuning: dict[str, float] = {}
        #: Where Python keeps what it compiled, instead of nowhere.
        self.bytecode_path: Path | None = None
        #: Python that the agent runs before it starts, to break rules that it would keep.
        self.cheat = ""
        self.config: dict[str, Any] = {
            "encapsulation": encapsulation,
            "network": NETWORK,
            "address": address,
            "device": {"name": DEVICE, "mtu": "auto"},
            "control": {"path": str(self.control_path), "mode": "0660"},
            **keys,
        }
        if self.secure:
            self.config["private_key_file"] = str(self.key_path)
            self.write_key(identities[address])

    @property
    def secure(self) -> bool:
        return self.encapsulation == "secure"

    @property
    def device(self) -> str:
        return str(self.config["device"]["name"])

    def environment(self) -> dict[str, str]:
        """Return the environment that systemd would give it: a folder of its own for its state."""
        self.state_path.mkdir(mode=0o700, exist_ok=True)
        environment = {**super().environment(), "STATE_DIRECTORY": str(self.state_path)}
        if self.bytecode_path is not None:
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            environment["PYTHONPYCACHEPREFIX"] = str(self.bytecode_path)
        return environment

    def write_key(self, identity: Identity) -> None:
        """Put a private key where the configuration says, readable by its owner only."""
        self.key_path.unlink(missing_ok=True)
        self.key_path.touch(mode=0o600)
        self.key_path.write_text(identity.private + "\n", encoding="ascii")

    def peer(self, host: str, *addresses: str | dict[str, Any], **keys: Any) -> Agent:
        """Configure another host, and where it is if that is known.

        A classic agent without the addresses of a host needs no entry: it learns them.
        """
        entry: dict[str, Any] = {"host": host, **keys}
        if addresses:
            entry["addresses"] = list(addresses)
        if self.secure:
            entry.setdefault("public_key", self.identities[host].public)
        if self.secure or addresses:
            self.config.setdefault("peers", []).append(entry)
        return self

    def entry(self, host: str) -> dict[str, Any]:
        """Return what the configuration says about another host, to be changed."""
        return next(entry for entry in self.config["peers"] if entry["host"] == host)

    def remove_peer(self, host: str) -> None:
        self.config["peers"].remove(self.entry(host))

    @property
    def keeper_pid(self) -> int:
        """The process that starts the steward."""
        (keeper,) = children_of(self.pid)
        return keeper

    @property
    def steward_pid(self) -> int:
        """The steward's process."""
        (steward,) = children_of(self.keeper_pid)
        return steward

    def kill_whole(self) -> None:
        """Kill all its processes, so that none removes what they made."""
        keeper, steward = self.keeper_pid, self.steward_pid
        for pid in (keeper, steward):
            os.kill(pid, signal.SIGKILL)
        self.kill()

    def start(self) -> Agent:
        """Start the agent and wait until it answers."""
        self.launch_only()
        until(self.answers, START_S, lambda: f"agent {self.host.name} answers\n{self.log()}")
        return self

    def launch_only(self) -> None:
        """Start the agent without waiting for it."""
        self.write_config()
        start = ["-m", "ropeway"]
        if self.tuning or self.cheat:
            start = ["-c", TUNED, json.dumps(self.tuning), self.cheat]
        command = [self.python, *start, "agent", "--config", str(self.config_path)]
        self.launch("nice", "-n", NICE, *command)

    def write_config(self) -> None:
        # JSON is YAML, and needs no library to write.
        self.config_path.write_text(json.dumps(self.config, indent=1), encoding="utf-8")

    def reload(self) -> subprocess.CompletedProcess[str]:
        """Write the configuration as it is now and have the running agent read it."""
        self.write_config()
        return self.cli("reload", "--control", str(self.control_path))

    def answers(self) -> bool:
        assert self.alive, f"agent {self.host.name} ended by itself:\n{self.log()}"
        try:
            self.request("status")
        except OSError:
            return False
        return True

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another ``ropeway`` command on this host."""
        return subprocess.run(
            self.host.command(self.python, "-m", "ropeway", *arguments),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def request(self, command: str, **keys: Any) -> Any:
        """Send one request over the control socket and return its result."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(REQUEST_S)
            connection.connect(str(self.control_path))
            connection.sendall(json.dumps({"command": command, **keys}).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
        assert answer["ok"], answer
        return answer["result"]

    def status(self) -> Any:
        return self.request("status")

    def peer_status(self, host: str) -> Any:
        """Return what is known about another host, or None."""
        return next((peer for peer in self.status()["peers"] if peer["host"] == host), None)

    def connections(self, host: str) -> list[Any]:
        peer = self.peer_status(host)
        return list(peer["connections"]) if peer else []

    def carrying(self, host: str) -> set[tuple[str, str]]:
        """Return the (source, remote address) pairs that carry traffic to a host at state 2."""
        return {
            (connection["source"], address_of(connection))
            for connection in self.connections(host)
            if connection["carries"] and connection["state"] == 2
        }

    def wait_carrying(self, host: str, *pairs: tuple[str, str], deadline_s: float = 30.0) -> None:
        """Wait until exactly these (source, remote address) pairs carry the traffic to a host."""
        until(
            lambda: self.carrying(host) == set(pairs),
            deadline_s,
            lambda: (
                f"{self.host.name} to {host} over {sorted(pairs)}, it is over "
                f"{sorted(self.carrying(host))}\n{json.dumps(self.peer_status(host))}\n{self.log()}"
            ),
        )

    def rollovers(self, host: str) -> int:
        """Return how many sessions with another host took the place of an earlier one."""
        return int(self.peer_status(host)["session"]["rollovers"])

    def processes(self) -> dict[str, Use]:
        """Return what each of the agent's processes takes, by name; its own is "engine"."""
        uses = {"engine": Use.of(self.pid)}
        for pid in descendants_of(self.pid):
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            uses[name] = Use.of(pid)
        return uses

    def delivered(self) -> int:
        return int(self.status()["counters"]["delivered"])


def address_of(connection: dict[str, Any]) -> str:
    """Return where a connection sends, without the port."""
    return endpoint_of(connection)[0]


def endpoint_of(connection: dict[str, Any]) -> tuple[str, int]:
    """Return address and UDP port where a connection sends; the port is 0 in classic."""
    text = str(connection["address"])
    if text.startswith("["):
        address, _, port = text[1:].partition("]:")
        return address, int(port or 0)
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return address, int(port)
    return text, int(connection.get("port", 0))


class Reference(Process):
    """One node of the first implementation."""

    device = "ref0"

    def __init__(self, host: Host, address: str, directory: Path, **options: Any) -> None:
        super().__init__(host, directory, "reference")
        self.address = address
        self.status_path = directory / f"{host.name}-reference.json"
        self.arguments = ["--host", address, "--network", NETWORK, "--device", self.device]
        self.arguments += ["--status", str(self.status_path)]
        for port in host.ports.values():
            self.arguments += ["--interface", port.interface]
        for option, value in options.items():
            self.arguments += [f"--{option.replace('_', '-')}", str(value)]

    def remote(self, host: str, index: int, address: str) -> Reference:
        self.arguments += ["--remote", f"{host},{index},{address}"]
        return self

    def start(self) -> Reference:
        self.status_path.unlink(missing_ok=True)
        script = str(Path(__file__).with_name("reference_node.py"))
        self.launch("nice", "-n", NICE, sys.executable, script, *self.arguments)
        until(self._answers, START_S, lambda: f"reference {self.host.name}\n{self.log()}")
        return self

    def _answers(self) -> bool:
        assert self.alive, f"reference node {self.host.name} ended by itself:\n{self.log()}"
        return self.status_path.exists()

    def status(self) -> Any:
        return json.loads(self.status_path.read_text(encoding="ascii"))

    def states(self, host: str) -> dict[tuple[int, int], int]:
        """Return the state of each connection to a host, by (local index, remote index)."""
        connections = self.status().get(host, {"connections": []})["connections"]
        return {(known["local"], known["remote"]): known["state"] for known in connections}

    def wait_states(
        self,
        host: str,
        what: str,
        condition: Callable[[dict[tuple[int, int], int]], bool],
        deadline_s: float = 30.0,
    ) -> None:
        until(
            lambda: condition(self.states(host)),
            deadline_s,
            lambda: f"reference {self.host.name} to {host}: {what}, it has {self.states(host)}",
        )


def stop_all(processes: list[Process]) -> None:
    """End every process that a test started, politely first."""
    for process in processes:
        if process.alive:
            os.kill(process.pid, signal.SIGTERM)
    for process in processes:
        if process.process is None:
            continue
        try:
            process.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
