"""The programs under test: the agent and the reference node, started inside a host's namespace."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

from tests.system.topology import Host, until

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "ropeway0"
NETWORK = "10.0.0.0/24"
NICE = "-10"  # as the unit runs it
START_S = 10.0
STOP_S = 5.0
REQUEST_S = 5.0
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process:
    """A program in a host's namespace, its output in a file, killed with the test."""

    def __init__(self, host: Host, directory: Path, name: str) -> None:
        self.host = host
        self.log_path = directory / f"{host.name}-{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, *command: str) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'agent'}", "PYTHONUNBUFFERED": "1"}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.host.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
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
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / TICKS_PER_S


class Agent(Process):
    """One ropeway agent with its configuration and control socket."""

    def __init__(
        self, host: Host, address: str, directory: Path, python: str = sys.executable, **keys: Any
    ) -> None:
        super().__init__(host, directory, "agent")
        self.address = address
        self.python = python
        self.config_path = directory / f"{host.name}.yaml"
        self.control_path = directory / f"{host.name}.sock"
        self.config: dict[str, Any] = {
            "encapsulation": "classic",
            "network": NETWORK,
            "address": address,
            "device": {"name": DEVICE, "mtu": "auto"},
            "control": {"path": str(self.control_path), "mode": "0660"},
            **keys,
        }

    def remote(self, host: str, *addresses: str | dict[str, Any]) -> Agent:
        """Configure a remote host and where it is."""
        self.config.setdefault("remotes", []).append({"host": host, "addresses": list(addresses)})
        return self

    def start(self) -> Agent:
        """Start the agent and wait until it answers."""
        self.launch_only()
        until(self.answers, START_S, lambda: f"agent {self.host.name} answers\n{self.log()}")
        return self

    def launch_only(self) -> None:
        """Start the agent without waiting for it."""
        # JSON is YAML, and needs no library to write.
        self.config_path.write_text(json.dumps(self.config, indent=1), encoding="utf-8")
        command = [self.python, "-m", "ropeway", "agent", "--config", str(self.config_path)]
        self.launch("nice", "-n", NICE, *command)

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
            env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
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

    def peer(self, host: str) -> Any:
        """Return what is known about a remote host, or None."""
        return next((peer for peer in self.status()["peers"] if peer["host"] == host), None)

    def connections(self, host: str) -> list[Any]:
        peer = self.peer(host)
        return list(peer["connections"]) if peer else []

    def carrying(self, host: str) -> set[tuple[str, str]]:
        """Return the (source, remote address) pairs that carry traffic to a host at state 2."""
        return {
            (connection["source"], connection["address"])
            for connection in self.connections(host)
            if connection["carries"] and connection["state"] == 2
        }

    def wait_carrying(self, host: str, *pairs: tuple[str, str], deadline_s: float = 10.0) -> None:
        """Wait until exactly these (source, remote address) pairs carry the traffic to a host."""
        until(
            lambda: self.carrying(host) == set(pairs),
            deadline_s,
            lambda: (
                f"{self.host.name} to {host} over {sorted(pairs)}, it is over "
                f"{sorted(self.carrying(host))}\n{json.dumps(self.peer(host))}\n{self.log()}"
            ),
        )

    def delivered(self) -> int:
        return int(self.status()["counters"]["delivered"])


class Reference(Process):
    """One node of the reference implementation."""

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
        self.launch(sys.executable, script, *self.arguments)
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
        deadline_s: float = 10.0,
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
