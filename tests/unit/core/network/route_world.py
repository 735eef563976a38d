"""Hosts that exchange routes, in simulated time, over ways that lose and reorder messages."""

import heapq
import random

from ropeway.core.frame.message import MESSAGE_MAX
from ropeway.core.network.exchange import Exchange
from ropeway.core.packet.prefix import of_host, parse

NETWORK = parse("10.0.0.0/16")


def address(number):
    return bytes((10, 0, number >> 8, number & 255))


class Way:
    """A way between two hosts: what it costs, and what becomes of messages there."""

    def __init__(self, cost, loss=0.0, delay_s=0.02):
        self.cost = cost
        self.loss = loss
        self.delay_s = delay_s


class World:
    """Hosts by number, each the origin of its own address."""

    def __init__(self, seed, clients=()):
        self.random = random.Random(seed)
        self.now = 1000.0
        self.clients = set(clients)
        self.hosts = {}
        self.ways = {}
        self.allowed = {}
        self._flying = []
        self._serial = 0
        self.epochs = {}
        #: Called after each step that may have changed a table.
        self.watch = lambda: None

    def add(self, *numbers):
        for number in numbers:
            self.epochs[number] = self.epochs.get(number, 0) + 1
            host = self.hosts[number] = Exchange(
                address(number),
                self.epochs[number],
                number not in self.clients,
                lambda prefix: not NETWORK.covers(prefix),
                lambda _: True,
                self.random,
            )
            host.announce([of_host(address(number))], self.now)

    def restart(self, number):
        """End a host at once, and begin it anew; its neighbours notice nothing by themselves."""
        self.add(number)
        for one, other in list(self.ways):
            if number in (one, other):
                peer = other if one == number else one
                self._up(number, peer, self.ways[one, other].cost)

    def connect(self, one, other, way):
        pair = (min(one, other), max(one, other))
        self.ways[pair] = way
        self._up(one, other, way.cost)
        self._up(other, one, way.cost)

    def _up(self, one, other, cost):
        trusted = other not in self.clients
        allowed = self.allowed.get(other, ())
        self.hosts[one].neighbour_up(address(other), trusted, allowed, cost, self.now)

    def disconnect(self, one, other):
        del self.ways[min(one, other), max(one, other)]
        self.hosts[one].neighbour_down(address(other), self.now)
        self.hosts[other].neighbour_down(address(one), self.now)

    def set_cost(self, one, other, cost):
        self.ways[min(one, other), max(one, other)].cost = cost
        self.hosts[one].set_cost(address(other), cost, self.now)
        self.hosts[other].set_cost(address(one), cost, self.now)

    def send(self, one, other, body):
        way = self.ways.get((min(one, other), max(one, other)))
        if way is None or self.random.random() < way.loss:
            return
        # Up to five times as long: so messages overtake each other.
        delay_s = way.delay_s * (1 + 4 * self.random.random())
        self._serial += 1
        heapq.heappush(self._flying, (self.now + delay_s, self._serial, one, other, body))

    def run(self, for_s):
        """Let time pass, with all that falls due."""
        end = self.now + for_s
        while True:
            self._flush()
            due = min(host.due for host in self.hosts.values())
            if self._flying:
                due = min(due, self._flying[0][0])
            if due > end:
                break
            self.now = max(self.now, due)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, one, other, body = heapq.heappop(self._flying)
                if (min(one, other), max(one, other)) in self.ways:
                    assert self.hosts[other].receive(address(one), body, self.now)
                    self.watch()
        self.now = end

    def _flush(self):
        for number, host in self.hosts.items():
            for to, body in host.take_messages(lambda _: MESSAGE_MAX, self.now):
                assert len(body) <= MESSAGE_MAX
                self.send(number, to[2] << 8 | to[3], body)

    def hops(self, number, prefix):
        """Return the numbers of the hosts that lead to a prefix, best first."""
        hops = self.hosts[number].table.hops.get(prefix, ())
        return [hop[2] << 8 | hop[3] for hop in hops]

    def loop(self, prefix):
        """Return a host from which some sequence of next hops leads back to it; None if none."""
        done, on_way = set(), set()
        for start in self.hosts:
            stack = [(start, iter(self.hops(start, prefix)))]
            on_way.add(start)
            while stack:
                number, rest = stack[-1]
                hop = next(rest, None)
                if hop is None:
                    stack.pop()
                    on_way.discard(number)
                    done.add(number)
                elif hop in on_way:
                    return hop
                elif hop not in done:
                    on_way.add(hop)
                    stack.append((hop, iter(self.hops(hop, prefix))))
            on_way.clear()
        return None

    def reached(self, one, other):
        """Return whether a packet gets from one host to another by best next hops."""
        prefix = of_host(address(other))
        for _ in range(len(self.hosts)):
            if one == other:
                return True
            hops = self.hops(one, prefix)
            if not hops or (min(one, hops[0]), max(one, hops[0])) not in self.ways:
                return False
            one = hops[0]
        return False

    def component(self, number):
        """Return the hosts that a host can reach; clients pass nothing on."""
        found, todo = {number}, [number]
        while todo:
            here = todo.pop()
            if here in self.clients and here != number:
                continue
            for pair in self.ways:
                if here in pair:
                    other = pair[0] if pair[1] == here else pair[1]
                    if other not in found:
                        found.add(other)
                        todo.append(other)
        return found
