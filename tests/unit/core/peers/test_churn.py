"""What hosts leave behind that come and go: nothing but that they belong to the network."""

import gc

from tests.bench.many_clients import reachable_bytes
from tests.unit.core.secure_streams import A, B, all_once, stream
from tests.unit.core.secure_world import SecureWorld, link, peer

ROUNDS = 12
#: Until a host that is silent is forgotten, and its session has ended.
GONE_S = 400.0
#: What is remembered of a handshake, of so many at most, so that it is not believed twice.
HANDSHAKE_BYTES = 300


def test_a_host_that_comes_and_goes_leaves_nothing_behind():
    world = SecureWorld()
    router = world.add("r", B, [link(12, "192.168.0.3")], [peer("a", A)])
    sizes = []
    for number in range(ROUNDS):
        # Another interface each time.
        address = f"192.168.0.{20 + number % 3}"
        world.lost = set()
        world.add("a", A, [link(2 + number, address)], [peer("r", B, "192.168.0.3")])
        world.run(2.0)
        assert all_once(stream(world, 0.3, ways=(("a", A, "r", B), ("r", B, "a", A))))
        world.nodes["a"].set_links([], world.now)
        world.lost = {address}
        world.run(GONE_S)
        strand = router.tables.strands[A]
        assert not strand.connections
        assert not strand.sessions.sessions
        assert not router.tables.sessions.by_index
        gc.collect()
        sizes.append(reachable_bytes(router))
    print(sizes)
    half = ROUNDS // 2
    assert (sizes[-1] - sizes[half]) / (ROUNDS - 1 - half) < HANDSHAKE_BYTES
    assert router.tables.strands[A].host == A
