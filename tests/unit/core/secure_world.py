"""Secure nodes back to back: LANs and NATs without sockets, a clock that is turned by hand."""

import hashlib
import heapq
import itertools
import random
from dataclasses import replace

from ropeway.core.frame.outer import outer_size
from ropeway.core.link import Link
from ropeway.core.node import SecureNode
from ropeway.core.packet import ipv4
from ropeway.core.session.noise import KeyPair
from ropeway.core.settings import PeerSettings, SecureSettings
from tests.unit.core.reach import reaching

PORT = 51840
NETWORK = "10.0.0.0/24"


def key(name):
    """The private key of a host, the same in every run."""
    return hashlib.sha256(b"private " + name.encode()).digest()


def public(name):
    return KeyPair.of(key(name)).public


def lan(address):
    return address.rpartition(".")[0] if "." in address else address.rpartition("::")[0]


def link(index, address, mtu=1500, up=True, routes=()):
    return reaching(Link(index, f"eth{index}", (f"{address}/24",), mtu, up), routes)


def link6(index, address, mtu=1500):
    return reaching(Link(index, f"eth{index}", (), mtu, True, (f"{address}/64",)), ("::/0",))


def received(datagram, source):
    """One datagram as a socket gives it."""
    return (datagram, source, len(datagram) or 1)


def frames(trains):
    """The frames of trains, apart."""
    return [frame for train in trains for frame in train.frames()]


class Nat:
    """Translates what one address sends; a mapping ends when nothing has used it for a while."""

    def __init__(self, inside, outside, timeout_s=1000.0, first_port=20000):
        self.inside = inside
        self.outside = outside
        self.timeout_s = timeout_s
        self._ports = itertools.count(first_port)
        self._mappings = {}  # (inside port, far endpoint) -> [outside port, used at]

    def rebind(self):
        """Forget all mappings, as a restarted modem does."""
        self._mappings.clear()

    def out(self, port, far, now):
        mapping = self._mappings.get((port, far))
        if mapping is None or now - mapping[1] >= self.timeout_s:
            mapping = self._mappings[port, far] = [next(self._ports), now]
        mapping[1] = now
        return (self.outside, mapping[0])

    def back(self, outside_port, far, now):
        for (port, to), mapping in self._mappings.items():
            if mapping[0] == outside_port and to == far and now - mapping[1] < self.timeout_s:
                mapping[1] = now
                return (self.inside, port)
        return None


class SecureWorld:
    """Hosts on networks; whoever has an address can be reached from every link with a route."""

    def __init__(self, seed=1):
        print(f"seed {seed}")
        self.now = 100.0
        self.random = random.Random(seed)
        self.nodes = {}
        self.names = {}
        self.delivered = {}
        self.events = {}
        self.epoch = itertools.count(1000)
        self.reset_keys = {}  # of all starts of a host, the last one first
        self.lost = set()  # addresses that neither send nor receive
        self.cut = set()  # (source, destination): ways that carry nothing
        self.mtu = {}  # address -> largest packet that passes to or from it
        self.nats = {}  # inside address -> Nat
        self.late = {}  # source address -> longest delay in s
        self.loss = 0.0
        self.twice = 0.0  # share of datagrams that arrive twice
        self.delay_s = 0.0005
        self.jitter_s = 0.0
        self.captured = []
        self._flying = []
        self._serial = itertools.count()

    def add(
        self, name, address, links, peers=(), router=None, forward=False, routers=(), **settings
    ):
        """Start a host, or start it anew; ``peers`` are PeerSettings."""
        fresh = random.Random(f"resets {name} {self.now}").getrandbits(256).to_bytes(32, "little")
        self.reset_keys[name] = (fresh, *self.reset_keys.get(name, ()))
        settings.setdefault("epoch", next(self.epoch))
        node = SecureNode(
            SecureSettings(
                address,
                NETWORK,
                (router,) if router else tuple(routers),
                forward,
                private_key=settings.pop("private_key", key(name)),
                port=PORT,
                peers=tuple(peers),
                reset_keys=self.reset_keys[name],
                **settings,
            ),
            self.now,
            random.Random(f"{name} {len(self.captured)}"),
            self._entropy(name),
        )
        self.nodes[name] = node
        self.delivered.setdefault(name, [])
        self.events.setdefault(name, [])
        node.set_links(links, self.now)
        return node

    def _entropy(self, name):
        source = random.Random(f"entropy {name} {self.now}")
        return lambda size: bytes(source.randrange(256) for _ in range(size))

    def _owner(self, address):
        for node in self.nodes.values():
            for one in node._peers.links:
                own = [a.partition("/")[0] for a in (*one.addresses, *one.addresses6)]
                if one.up and address in own:
                    return node, one
        return None

    def links(self, name):
        """The links that a host has now."""
        return list(self.nodes[name]._peers.links)

    def collect(self):
        for name, node in self.nodes.items():
            self.delivered[name].extend(node.take_packets())
            self.delivered[name].extend(ipv4.complete(p) for p in node.take_partial_packets())
            self.events[name].extend(node.take_events())
            for ((_, source), endpoint), trains in node.take_trains().items():
                for datagram in frames(trains):
                    self.captured.append((self.now, (source, PORT), endpoint, datagram))
                    self.transmit(datagram, (source, PORT), endpoint)

    def transmit(self, datagram, source, endpoint):
        """Send a datagram through NATs, losses and delays."""
        address = source[0]
        size = len(datagram) + outer_size(endpoint[0])
        if {address, endpoint[0]} & self.lost or (address, endpoint[0]) in self.cut:
            return
        if any(size > self.mtu.get(end, 65535) for end in (address, endpoint[0])):
            return
        if self.random.random() < self.loss:
            return
        nat = self.nats.get(address)
        if nat is not None:
            source = nat.out(source[1], endpoint, self.now)
        outside = [back for back in self.nats.values() if back.outside == endpoint[0]]
        if outside:
            inside = [back.back(endpoint[1], source, self.now) for back in outside]
            endpoint = next(filter(None, inside), None)
        if endpoint is None or endpoint[0] in self.lost or (source[0], endpoint[0]) in self.cut:
            return
        if size > self.mtu.get(endpoint[0], 65535):
            return
        copies = 2 if self.random.random() < self.twice else 1
        for _ in range(copies):
            jitter_s = self.late.get(address, self.jitter_s)
            self.fly(datagram, source, endpoint, self.delay_s + self.random.random() * jitter_s)

    def fly(self, datagram, source, endpoint, delay_s=0.0):
        entry = (self.now + delay_s, next(self._serial), datagram, source, endpoint)
        heapq.heappush(self._flying, entry)

    def run(self, seconds):
        """Let time pass, in the order in which things are due."""
        until = self.now + seconds
        turns = 0
        while True:
            self.collect()
            due = [node.deadline() for node in self.nodes.values()]
            if self._flying:
                due.append(self._flying[0][0])
            following = max(min(due), self.now)
            if following > until:
                break
            turns += 1
            assert turns < 400_000, "the nodes do not come to rest"
            self.now = following
            while self._flying and self._flying[0][0] <= self.now:
                _, _, datagram, source, endpoint = heapq.heappop(self._flying)
                self.arrive(datagram, source, endpoint)
            for node in self.nodes.values():
                if node.deadline() <= self.now:
                    node.tick(self.now)
        self.now = until

    def arrive(self, datagram, source, endpoint):
        """Hand a datagram to whoever has the address it is for."""
        owner = self._owner(endpoint[0])
        if owner and endpoint[1] == PORT:
            key = (owner[1].index, endpoint[0])
            owner[0].inbound([received(datagram, source)], key, self.now)

    def call(self, name, host, *addresses):
        """Have a host call another one at these addresses from now on, and nowhere else."""
        node = self.nodes[name]
        endpoints = tuple((address, PORT) for address in addresses)
        peers = tuple(
            replace(one, endpoints=endpoints) if one.host == host else one
            for one in node.settings.peers
        )
        node.reload(replace(node.settings, peers=peers), self.now)

    def send(self, name, *packets):
        self.nodes[name].outbound(packets, self.now)

    def peer(self, name, host):
        return next(p for p in self.nodes[name].status(self.now)["peers"] if p["host"] == host)

    def states(self, name, host):
        """(link, remote) -> state of the connections that have a route."""
        peer = self.peer(name, host)
        return {(c["link"], c["remote"]): c["state"] for c in peer["connections"] if c["routed"]}

    def dropped(self, name):
        dropped = self.nodes[name].status(self.now)["counters"]["dropped"]
        return {reason: count for reason, count in dropped.items() if count}


def peer(name, host, *addresses, names=(), **keys):
    return PeerSettings(
        host,
        keys.pop("public_keys", (public(name),)),
        endpoints=tuple((address, PORT) for address in addresses),
        names=tuple((name, PORT) for name in names),
        **keys,
    )


def pair(seed=1, **settings):
    """Hosts a (10.0.0.1) and b (10.0.0.2), two LANs; a knows where b is."""
    world = SecureWorld(seed)
    world.add(
        "a",
        "10.0.0.1",
        [link(2, "192.168.0.2"), link(3, "192.168.1.2")],
        [peer("b", "10.0.0.2", "192.168.0.3", "192.168.1.3")],
        **settings,
    )
    world.add(
        "b",
        "10.0.0.2",
        [link(12, "192.168.0.3"), link(13, "192.168.1.3")],
        [peer("a", "10.0.0.1")],
        **settings,
    )
    return world


def three(seed=1, **settings):
    """The specification's network: a - r - c over two LANs each, r forwards."""
    world = SecureWorld(seed)
    world.add(
        "r",
        "10.0.0.2",
        [link(n + 2, f"192.168.{n}.3") for n in range(4)],
        [peer("a", "10.0.0.1"), peer("c", "10.0.0.3")],
        forward=True,
        **settings,
    )
    for name, host, lans in (("a", "10.0.0.1", (0, 1)), ("c", "10.0.0.3", (2, 3))):
        world.add(
            name,
            host,
            [link(2 + n, f"192.168.{n}.2") for n in lans],
            [peer("r", "10.0.0.2", *(f"192.168.{n}.3" for n in lans))],
            router="10.0.0.2",
            **settings,
        )
    return world
