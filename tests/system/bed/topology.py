"""Hosts and LANs made of network namespaces, and the ways in which their links can be cut.

A topology is one "switch" namespace that holds a bridge per LAN, and one namespace per host. A
host's interface is one end of a veth pair whose other end, the port, is enslaved to the LAN's
bridge. All names begin with PREFIX and the process id of the test run, so that two runs do not
meet, and ``sweep`` can tell what a killed run left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Sequence

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, nla, nlmsg
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket
from pyroute2.netlink.nlsocket import NetlinkSocket

PREFIX = "rwsys-"
SWEEPING = "rwsys.lock"
NETNS_DIRECTORY = Path("/run/netns")
#: Has, by namespace, files that its programs see in /etc: see ip-netns(8).
OWN_FILES_DIRECTORY = Path("/etc/netns")
CLONE_NEWNET = 0x40000000  # linux/sched.h
DROP_ALL = 100
LATE_S = 0.25

LOOPBACK_INDEX = 1  # in every network namespace
IFA_F_NODAD = 0x2  # linux/if_addr.h
IFF_PROMISC = 0x100  # linux/if.h

NETLINK_SOCK_DIAG = 4  # linux/netlink.h
SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
PACKET_SHOW_INFO_AND_MEMORY = 0x1 | 0x10  # linux/packet_diag.h


class PacketDiagRequest(nlmsg):
    """struct packet_diag_req of linux/packet_diag.h, which pyroute2 does not have."""

    fields = (
        *(("sdiag_family", "B"), ("sdiag_protocol", "B"), ("pad", "H")),
        *(("pdiag_ino", "I"), ("pdiag_show", "I"), ("pdiag_cookie", "Q")),
    )


class PacketDiagMessage(nlmsg):
    """struct packet_diag_msg of linux/packet_diag.h, and those of its attributes that are read."""

    fields = (
        *(("pdiag_family", "B"), ("pdiag_type", "B"), ("pdiag_num", "H")),
        *(("pdiag_ino", "I"), ("pdiag_cookie", "Q")),
    )
    nla_map = ((0, "PACKET_DIAG_INFO", "info"), (6, "PACKET_DIAG_MEMINFO", "meminfo"))

    class info(nla):
        fields = (("pdi_index", "I"),)

    class meminfo(nla):
        # SK_MEMINFO_VARS of linux/sock_diag.h, of which SK_MEMINFO_DROPS is the last that counts
        fields = tuple((name, "I") for name in (*"01234567", "drops"))


_counter = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def run(command: Sequence[str], stdin: str | None = None) -> str:
    """Run a program to its end, return what it printed; a failure shows what it complained of."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)!r} failed: {done.stderr.strip()}\n{stdin or ''}")
    return done.stdout


@contextlib.contextmanager
def namespace(name: str) -> Iterator[None]:
    """Move the calling thread into a network namespace; sockets opened meanwhile stay there."""
    with open("/proc/thread-self/ns/net", "rb") as home, open(NETNS_DIRECTORY / name, "rb") as away:
        _setns(away.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def enter(name: str) -> None:
    """Move the calling thread into a network namespace for good: going back takes privileges."""
    with open(NETNS_DIRECTORY / name, "rb") as away:
        _setns(away.fileno())


def open_kernel(name: str) -> IPRoute:
    """Return a socket that asks and changes the network settings of a network namespace.

    The namespace lasts at least until it is closed.
    """
    with namespace(name):
        return IPRoute(ext_ack=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sweep() -> None:
    """Remove the namespaces and temporary directories of runs that are no more."""
    # One at a time: all workers of a run begin with this, and would find the same.
    with open(Path(tempfile.gettempdir(), SWEEPING), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for namespace_file in _abandoned(NETNS_DIRECTORY):
            remove_namespace(namespace_file.name)
        for directory in _abandoned(Path(tempfile.gettempdir())):
            shutil.rmtree(directory)


def _abandoned(parent: Path) -> list[Path]:
    """Return what is called PREFIX, the id of a process that is no more, a dash, and more."""
    found = []
    for path in sorted(parent.glob(f"{PREFIX}*")):
        owner, dash, _ = path.name[len(PREFIX) :].partition("-")
        if owner.isdigit() and dash and not Path("/proc", owner).exists():
            found.append(path)
    return found


def remove_namespace(name: str) -> None:
    """Kill whatever still runs in a namespace of ours, then delete it."""
    for pid in run(["ip", "netns", "pids", name]).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run(["ip", "netns", "delete", name])
    shutil.rmtree(OWN_FILES_DIRECTORY / name, ignore_errors=True)


def until(condition: Any, deadline_s: float, what: str, every_s: float = 0.02) -> Any:
    """Poll ``condition`` until it is true and return its value; fail with ``what`` at the deadline.

    ``what`` may be a callable that describes the state of things at that moment.
    """
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            described = what() if callable(what) else what
            raise AssertionError(f"not within {deadline_s} s: {described}")
        time.sleep(every_s)


class Stopwatch:
    """Counts what passes between looks, but of a look that comes late no more than LATE_S.

    Whoever looks did not run for the rest of that, as where the whole machine stood still, and
    nothing is known of what was measured meanwhile.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._looked_at = time.monotonic()

    def look(self) -> float:
        """Return the seconds up to now."""
        now = time.monotonic()
        self.seconds += min(now - self._looked_at, LATE_S)
        self._looked_at = now
        return self.seconds


@dataclass
class Port:
    """One host's place on one LAN: the host's interface and the bridge port at its other end."""

    host: Host
    lan: str
    interface: str
    address: str  # A.B.C.D/N, or an IPv6 one
    port: str  # the bridge port's name
    #: What is done with the interface whenever it has been made, as arguments of ``ip``.
    afterwards: list[list[str]] = field(default_factory=list)

    @property
    def ip(self) -> str:
        return self.address.split("/")[0]

    @property
    def index(self) -> int:
        return int(self.host.link(self.interface)["index"])

    @property
    def mac(self) -> str:
        return str(self.host.link(self.interface).get_attr("IFLA_ADDRESS"))

    # --- ways to cut it -----------------------------------------------------------------------

    def block(self) -> None:
        """Stop the bridge from forwarding; nobody sees the carrier go."""
        run(["bridge", "-n", self._switch, "link", "set", "dev", self.port, "state", "0"])

    def unblock(self) -> None:
        run(["bridge", "-n", self._switch, "link", "set", "dev", self.port, "state", "3"])

    def unplug(self) -> None:
        """Take the far end of the cable away; the host's interface loses its carrier."""
        self.host.topology.kernel.link("set", ifname=self.port, state="down")

    def plug(self) -> None:
        self.host.topology.kernel.link("set", ifname=self.port, state="up")

    def disable(self) -> None:
        """Take the host's interface down, as an administrator would."""
        self.host.kernel.link("set", ifname=self.interface, state="down")

    def enable(self) -> None:
        self.host.kernel.link("set", ifname=self.interface, state="up")

    def flush_address(self) -> None:
        self.host.ip("address", "flush", "dev", self.interface)

    def add_address(self, address: str | None = None) -> None:
        if address is not None:
            self.address = address
        self.host.add_address(self.interface, self.address)

    def change_address(self, address: str) -> None:
        self.flush_address()
        self.add_address(address)

    def drop(self, percent: int) -> None:
        """Lose this share of the IP packets that the host sends here; 0 ends it.

        Only IP: a lost ARP packet would make the kernel hold or drop whole bursts, and the loss
        that a test asks for would not be the loss that it gets.
        """
        table = f"loss_{self.port.replace('-', '_')}"
        lose = "drop" if percent >= DROP_ALL else f"numgen random mod 100 < {percent} drop"
        rules = f"add table netdev {table}\ndelete table netdev {table}\n"
        if percent:
            rules += f"""
table netdev {table} {{
    chain incoming {{
        type filter hook ingress device "{self.port}" priority 0
        policy accept
        meta protocol ip {lose}
    }}
}}
"""
        run(["ip", "netns", "exec", self._switch, "nft", "-f", "-"], stdin=rules)

    # --- coming and going ---------------------------------------------------------------------

    def create(self, index: int | None = None) -> None:
        """Make the veth pair, plug it in, address it and bring it up."""
        self.host.cable(self.interface, self._switch, self.port, index or 0)
        self.host.topology.plug_in(self.port, self.lan)
        if ":" in self.address:
            self.host.sysctl(f"net/ipv6/conf/{self.interface}/disable_ipv6", 0)
        self.add_address()
        self.enable()
        if self.afterwards:
            self.host.batch(*self.afterwards)

    def delete(self) -> None:
        """Delete the interface, as if the card were pulled."""
        self.host.kernel.link("del", ifname=self.interface)

    @property
    def _switch(self) -> str:
        return self.host.topology.switch


def _batch(commands: Sequence[Sequence[str]]) -> str:
    return "".join(" ".join(command) + "\n" for command in commands)


class Host:
    """A network namespace that plays one machine."""

    def __init__(self, topology: Topology, name: str) -> None:
        self.topology = topology
        self.name = name
        self.netns = f"{topology.prefix}-{name}"
        self.kernel = add_namespace(self.netns)
        self.ports: dict[str, Port] = {}  # by LAN

    def connect(
        self, lan: str, interface: str, address: str, index: int | None = None, late: bool = False
    ) -> Port:
        """Plug an interface into a LAN; a late one is described only and made by ``create``."""
        port = Port(self, lan, interface, address, f"{self.name}-{lan}")
        self.ports[lan] = port
        if not late:
            port.create(index)
        return port

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return namespace(self.netns)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.inside():
            return socket.socket(family, kind, protocol)

    def link(self, interface: str) -> Any:
        """Return what the kernel says of an interface, with the attributes of rtnetlink(7)."""
        return self.kernel.link("get", ifname=interface)[0]

    def cable(self, interface: str, netns: str, far_end: str, index: int = 0) -> None:
        """Make an interface, with this index unless it is 0, whose other end is elsewhere."""
        peer = {"ifname": far_end, "net_ns_fd": netns}
        self.kernel.link("add", ifname=interface, index=index, kind="veth", peer=peer)

    def add_address(self, interface: str, address: str) -> None:
        """Give an interface an address ("A.B.C.D/N", or an IPv6 one) that works at once."""
        # Nobody else on the LAN can have it, so there is no need to ask around.
        how = {"flags": IFA_F_NODAD} if ":" in address else {"broadcast": True}
        self.kernel.addr("add", index=self.link(interface)["index"], address=address, **how)

    def ip(self, *arguments: str) -> None:
        run(["ip", "-n", self.netns, *arguments])

    def ip_json(self, *arguments: str) -> Any:
        return json.loads(run(["ip", "-n", self.netns, "-j", *arguments]) or "[]")

    def batch(self, *commands: Sequence[str]) -> None:
        run(["ip", "-n", self.netns, "-batch", "-"], stdin=_batch(commands))

    def command(self, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self.netns, *arguments]

    def run(self, *arguments: str) -> str:
        return run(self.command(*arguments))

    def sysctl(self, name: str, value: int) -> None:
        """Set a kernel parameter of this namespace; the name has slashes."""
        with self.inside():
            Path("/proc/sys", name).write_text(str(value), encoding="ascii")

    def ask_names_of(self, *servers: str) -> None:
        """Have programs that are started here from now on ask these name servers, and no other."""
        own = OWN_FILES_DIRECTORY / self.netns
        own.mkdir(parents=True, exist_ok=True)
        lines = [f"nameserver {server}\n" for server in servers]
        lines.append("options timeout:1 attempts:1\n")
        (own / "resolv.conf").write_text("".join(lines), encoding="ascii")
        # Else a resolver of the machine could be asked over its unix socket.
        (own / "nsswitch.conf").write_text("hosts: files dns\n", encoding="ascii")

    def forget_flows(self) -> None:
        """Delete every entry of the connection tracking table, as a NAT that restarts does."""
        with self.inside(), NFCTSocket(socket.AF_UNSPEC) as flows:
            flows.flush()

    def nft(self) -> list[dict[str, Any]]:
        """Return the ruleset of the namespace, without nft's own preamble."""
        ruleset = json.loads(self.run("nft", "--json", "list", "ruleset"))["nftables"]
        return [item for item in ruleset if "metainfo" not in item]

    def counters(self, protocol: str) -> dict[str, int]:
        """Return the kernel's own counters of a protocol, such as ``Icmp`` (RFC 2011 names)."""
        with self.inside():
            lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
        names, values = (line.split()[1:] for line in lines if line.startswith(protocol + ":"))
        return dict(zip(names, map(int, values)))

    def packet_socket_drops(self) -> dict[int, int]:
        """Return what packet sockets dropped for want of room, by the index they are bound to."""
        request = PacketDiagRequest()
        request["sdiag_family"] = socket.AF_PACKET
        request["pdiag_show"] = PACKET_SHOW_INFO_AND_MEMORY
        drops: dict[int, int] = {}
        with self.inside(), NetlinkSocket(NETLINK_SOCK_DIAG) as diag:
            diag.register_policy(SOCK_DIAG_BY_FAMILY, PacketDiagMessage)
            for found in diag.nlm_request(request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP):
                index = found.get_attr("PACKET_DIAG_INFO")["pdi_index"]
                dropped = found.get_attr("PACKET_DIAG_MEMINFO")["drops"]
                drops[index] = drops.get(index, 0) + dropped
        return drops


def add_namespace(name: str) -> IPRoute:
    """Make a network namespace whose new interfaces have no IPv6; return a socket to its kernel."""
    run(["ip", "netns", "add", name])
    with namespace(name):
        # Router solicitations and the like would only be noise in captures.
        # "all" would undo what an interface of its own is set to.
        no_ipv6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
        if no_ipv6.exists():
            no_ipv6.write_text("1")
    kernel = open_kernel(name)
    kernel.link("set", index=LOOPBACK_INDEX, state="up")
    return kernel


class Topology:
    """A switch with LANs, and the hosts around it; everything goes with ``close``."""

    def __init__(self, *lans: str) -> None:
        self.prefix = f"{PREFIX}{os.getpid()}-{next(_counter)}"
        self.switch = f"{self.prefix}-switch"
        self.hosts: dict[str, Host] = {}
        self.kernel = add_namespace(self.switch)
        self._bridges: dict[str, int] = {}  # indices by LAN
        for lan in lans:
            self.add_lan(lan)

    def add_lan(self, name: str) -> None:
        options = {"br_forward_delay": 0, "br_mcast_snooping": 0, "state": "up"}
        self.kernel.link("add", ifname=name, kind="bridge", **options)
        self._bridges[name] = self.kernel.link("get", ifname=name)[0]["index"]

    def host(self, name: str) -> Host:
        self.hosts[name] = Host(self, name)
        return self.hosts[name]

    def plug_in(self, port: str, lan: str) -> None:
        """Put an interface of the switch on a LAN and set it up."""
        self.kernel.link("set", ifname=port, master=self._bridges[lan], state="up")

    def capture(self, lan: str) -> socket.socket:
        """Return a packet socket that sees every frame on a LAN, in both directions, once."""
        with namespace(self.switch):
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            tap.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
            tap.bind((lan, 0x0003))
        # A bridge device itself only sees what is for it, unless it is promiscuous.
        self.kernel.link("set", ifname=lan, flags=IFF_PROMISC, change=IFF_PROMISC)
        return tap

    def hub(self, lan: str) -> None:
        """Let a LAN carry every frame to everybody, as a hub or an open radio network does."""
        self.kernel.link("set", ifname=lan, kind="bridge", br_ageing_time=0)

    def close(self) -> None:
        for host in self.hosts.values():
            host.kernel.close()
            remove_namespace(host.netns)
        self.hosts.clear()
        self.kernel.close()
        remove_namespace(self.switch)
