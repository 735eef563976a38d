"""A minute of bad luck on one link at a time: nothing is lost and nothing doubled."""

import dataclasses
import random

import pytest

from tests.unit.core import classic_world, secure_world
from tests.unit.core.classic_world import link, udp
from tests.unit.core.reach import reaching

RATE = 100
# A silent cut is found by silence; the other LAN has its turn when this one is back for sure.
SETTLE_S = 5.0


class Weather:
    """What happens to one of two LANs that connect the same two hosts; the other one is good."""

    def __init__(self, world, randomness, links, lans, hosts):
        self.world, self.random, self.hosts = world, randomness, hosts
        self.links = links  # host -> LAN -> link
        self.bad, self.good = lans
        self.next_at, self.raging = world.now + 1, False

    def blow(self):
        if self.world.now < self.next_at:
            return
        if self.raging:
            self.calm()
            return
        name, other = self.random.sample(self.hosts, 2)
        what = self.random.choice(("silent", "one way", "carrier", "address", "vanishes", "late"))
        here = self.links[name][self.bad]
        address, far = (self.address(host) for host in (name, other))
        if what == "silent":
            self.world.lost.add(address)
        elif what == "one way":
            self.world.cut.add((address, far))
        elif what == "late":
            for where in (self.bad, address, far):
                self.world.late[where] = 3.0
        elif what == "carrier":
            self.put(name, dataclasses.replace(here, up=False))
        elif what == "vanishes":
            self.put(name, None)
            self.world.lost.add(address)
            self.links[name][self.bad] = dataclasses.replace(here, index=here.index + 100)
        elif name != "r":
            changed = f"192.168.{self.bad}.{self.random.randrange(10, 200)}/24"
            self.put(name, reaching(dataclasses.replace(here, addresses=(changed,))))
        self.raging = True
        self.next_at = self.world.now + self.random.choice((0.02, 0.09, 0.5, 1.9, 2.1, 4.0))

    def calm(self):
        for name in self.hosts:
            self.world.lost.discard(self.address(name))
            self.put(name, dataclasses.replace(self.links[name][self.bad], up=True))
        self.world.cut = {way for way in self.world.cut if f".{self.bad}." not in way[0][7:]}
        for where in [where for where in self.world.late if self.bad in (where, _lan(where))]:
            del self.world.late[where]
        self.raging = False
        if self.random.random() < 0.5:
            self.next_at = self.world.now + self.random.choice((0.02, 0.3, 1.0))
        else:
            self.next_at = self.world.now + SETTLE_S
            self.bad, self.good = self.good, self.bad

    def address(self, name):
        return self.links[name][self.bad].addresses[0].partition("/")[0]

    def put(self, name, changed):
        present = dict(self.links[name])
        if changed is None:
            del present[self.bad]
        else:
            present[self.bad] = self.links[name][self.bad] = changed
        self.world.nodes[name].set_links(list(present.values()), self.world.now)


def _lan(where):
    return int(where.split(".")[2]) if isinstance(where, str) else where


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("three", [classic_world.three, secure_world.three])
def test_with_one_good_link_on_each_side_nothing_is_lost_or_doubled(three, seed):
    world = three(seed=seed)
    world.run(2)
    randomness = random.Random(seed)
    links = {
        "a": {lan: link(lan + 2, f"192.168.{lan}.2") for lan in (0, 1)},
        "r": {lan: link(lan + 2, f"192.168.{lan}.3") for lan in range(4)},
        "c": {lan: link(lan, f"192.168.{lan}.2") for lan in (2, 3)},
    }
    weathers = [
        Weather(world, randomness, links, (0, 1), ("a", "r")),
        Weather(world, randomness, links, (2, 3), ("c", "r")),
    ]
    sent = []
    for number in range(60 * RATE):
        for weather in weathers:
            weather.blow()
        payload = number.to_bytes(4, "big") * 4
        sent.append(payload)
        for name, src, dst in (("a", "10.0.0.1", "10.0.0.3"), ("c", "10.0.0.3", "10.0.0.1")):
            world.send(name, udp(src, dst, payload, ident=number & 0xFFFF))
        world.run(1 / RATE)
    for weather in weathers:
        weather.calm()
    world.run(6)
    for name in ("a", "c"):
        arrived = sorted(packet[20:] for packet in world.delivered[name])
        assert arrived == sent, f"seed {seed}"
