"""Packets between hosts of a secure world, and what came of them."""

from ropeway.core.frame.control import Control, decode_control, encode_control
from ropeway.core.frame.data import (
    CONTROL,
    CONTROL_AD,
    INITIATION,
    LINK_PART,
)
from ropeway.core.session.messages import INITIATION_SIZE
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import (
    PORT,
    frames,
)

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def number(packet):
    return int.from_bytes(packet[28:32], "big")


def numbered(src, dst, count):
    return udp(src, dst, bytes(8) + count.to_bytes(4, "big") + b"x" * 60)


def stream(world, seconds, rate=1000, ways=(("a", A, "b", B), ("b", B, "a", A)), each=None):
    """Send numbered packets; give the numbers that came, by receiver."""
    for name in world.delivered:
        world.collect()
        world.delivered[name].clear()
    total = int(seconds * rate)
    for count in range(total):
        if each is not None:
            each(count)
        for name, source, _, destination in ways:
            world.send(name, numbered(source, destination, count))
        world.run(1 / rate)
    world.run(1.0)
    return {to: [number(p) for p in world.delivered[to]] for _, _, to, _ in ways}, total


def all_once(result):
    came, total = result
    return all(sorted(numbers) == list(range(total)) for numbers in came.values())


def said(world, name, kind):
    return [event for event in world.events[name] if isinstance(event, kind)]


AT = ("192.168.0.9", PORT)


def sent_by(node):
    """What a node has to send, without copies."""
    return list(dict.fromkeys(frames(train for t in node.take_trains().values() for train in t)))


def asked(world):
    """The initiation of a that b is yet to answer."""
    world.nodes["a"].tick(world.now)
    (initiation,) = (d for d in sent_by(world.nodes["a"]) if d[0] == INITIATION)
    assert len(initiation) == INITIATION_SIZE
    return initiation


class Hostile:
    """A host of the network that says what it likes, from wherever it likes, to ``target``.

    It has a valid key and session, and receives at its own address only.
    """

    OWN, AT = "192.168.0.66", ("192.168.0.3", PORT)

    def __init__(self, world, name="a", host=B, target=("192.168.0.3", 12)):
        self.world = world
        self.session = world.nodes[name].tables.strands[host].session
        del world.nodes[name]
        self.address, self.link = target
        self.marks = [0]
        self.said = {}  # source -> bytes sent from there
        self.seen = 0

    def say(self, source, **fields):
        control = Control(
            **{"state": 0, "src_index": 2, "dst_index": self.link, "way": 1, **fields}
        )
        body = self.session.seal(CONTROL_AD, encode_control(control))
        frame = LINK_PART.pack(CONTROL, 0, 0) + body
        self.said[source] = self.said.get(source, 0) + len(frame)
        self.world.arrive(frame, source, (self.address, PORT))
        self.world.collect()

    def listen(self):
        """Read the marks in what was sent to its own address."""
        captured = self.world.captured
        for _, _, endpoint, datagram in captured[self.seen :]:
            if endpoint[0] == self.OWN and datagram[0] == CONTROL:
                body = self.session.open(datagram)
                control = decode_control(body) if isinstance(body, bytes) else None
                if control is not None:
                    self.marks.append(control.mark)
        self.seen = len(captured)
