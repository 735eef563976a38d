"""The search for the path MTU, over modelled paths with a clock of their own."""

from __future__ import annotations

import heapq
import random
from itertools import count
from typing import Any, Callable, List, Optional, Tuple

import pytest

from ropeway.core import events
from ropeway.core.strand import path_mtu
from ropeway.core.strand.path_mtu import PathMtu
from tests.unit.core.classic_world import udp
from tests.unit.core.secure_world import pair

FLOOR = 576


class Path:
    """Two ends of one connection, of which one searches; the other answers as the protocol says.

    The other end answers each probe at once, sends a frame every ``pause_s`` besides, and repeats
    the last size that it heard in each of them. Everything is lost with the chance ``loss`` either
    way, probes larger than ``carries`` always, and all of it while ``cut``.
    """

    def __init__(
        self,
        link: int = 1500,
        carries: int = 1500,
        *,
        floor: int = FLOOR,
        loss: float = 0.0,
        rtt_s: float = 0.05,
        seed: int = 1,
        active: bool = True,
        pause_s: float = 0.5,
        told_rtt: bool = True,
    ) -> None:
        self.random = random.Random(seed)
        self.carries, self.loss, self.rtt_s, self.active = carries, loss, rtt_s, active
        self.pause_s = pause_s
        self.cut = False
        self.now = 0.0
        self.search = PathMtu(link, floor, self.now)
        if told_rtt:
            self.search.set_rtt(rtt_s * 1000)
        self.far_heard = 0
        self.sent: List[Tuple[float, int]] = []
        self.changes: List[Tuple[float, int]] = [(0.0, self.search.mtu)]
        self._serial = count()
        self._queue: List[Tuple[float, int, Callable[[Any], None], Any]] = []
        self._at(pause_s, self._far_speaks, None)
        self._look()

    def _at(self, due: float, what: Callable[[Any], None], value: Any) -> None:
        heapq.heappush(self._queue, (due, next(self._serial), what, value))

    def _arrives(self) -> bool:
        return not self.cut and self.random.random() >= self.loss

    def _far_speaks(self, _: None) -> None:
        self._answer()
        self._at(self.now + self.pause_s, self._far_speaks, None)

    def _answer(self) -> None:
        if self._arrives():
            self._at(self.now + self.rtt_s / 2, self._hear, self.far_heard)

    def _far_hears(self, size: int) -> None:
        self.far_heard = size
        self._answer()

    def _hear(self, size: int) -> None:
        self.search.alive(self.now)
        if size:
            self.search.heard(size, self.now)

    def _look(self) -> None:
        size = self.search.probe(self.now, self.active)
        if size:
            self.sent.append((self.now, size))
            if size <= self.carries and self._arrives():
                self._at(self.now + self.rtt_s / 2, self._far_hears, size)
        if self.search.mtu != self.changes[-1][1]:
            self.changes.append((self.now, self.search.mtu))

    def run(self, seconds: float, until: Optional[Callable[[], bool]] = None) -> float:
        """Let time pass, or until something holds; return the time then."""
        end = self.now + seconds
        while not (until and until()):
            due = self.search.deadline()
            upcoming = self._queue[0][0]
            if min(due, upcoming) > end:
                self.now = end
                return end
            if due <= upcoming:
                self.now = max(self.now, due)
            else:
                self.now, _, what, value = heapq.heappop(self._queue)
                what(value)
            self._look()
        return self.now

    @property
    def mtu(self) -> int:
        return self.search.mtu


def test_data_uses_the_link_mtu_from_the_start_and_one_probe_proves_it():
    path = Path()
    assert path.mtu == 1500
    assert path.run(10, lambda: path.search.settled) == pytest.approx(path.rtt_s)
    assert [size for _, size in path.sent] == [1500]
    assert path.changes == [(0.0, 1500)]


@pytest.mark.parametrize(
    ("link", "carries", "found"),
    [
        (1500, 1492, 1492),
        (1500, 1420, 1420),
        (1500, 1400, 1400),
        (1500, 1377, 1358),  # 1380 is too much: it ends at the likely size before
        (1500, 1280, 1280),
        (1500, 900, 898),
        (1500, 576, 576),
        (1500, 1499, 1492),
        (9000, 9000, 9000),
        (9000, 1500, 1500),
        (9000, 8000, 7993),
        (65535, 9000, 9000),
        (65535, 65535, 65535),
        (100_000, 65535, 65535),
        (1400, 1400, 1400),
        (1280, 1280, 1280),
        (1280, 600, 595),
        (500, 500, 500),
    ],
)
def test_the_search_ends_near_what_the_path_carries(link: int, carries: int, found: int):
    path = Path(link, carries)
    path.run(20, lambda: path.search.settled)
    assert (path.mtu, path.search.settled) == (found, True)
    assert path.now < 12
    assert carries - found <= path_mtu.LIKELY_RESOLUTION


def test_ipv6_never_goes_below_what_it_promises():
    path = Path(1500, 1280, floor=1280)
    path.run(20)
    assert min(mtu for _, mtu in path.changes) == 1280
    assert path.mtu == 1280


def test_a_failed_start_costs_three_timeouts_then_the_base_is_used_and_the_rest_is_gained():
    path = Path(1500, 1492, rtt_s=0.02)
    path.run(5, lambda: path.search.settled)
    assert path.changes[0] == (0.0, 1500)
    assert path.changes[1] == (pytest.approx(3 * path_mtu.TIMEOUT_MIN_S), path_mtu.BASE_MTU)
    grown = [mtu for _, mtu in path.changes[1:]]
    assert grown == sorted(grown)
    assert path.mtu == 1492
    assert path.changes[-1][0] < 1.0


def test_the_timeout_follows_the_round_trip_time():
    path = Path(1500, 1400, rtt_s=0.6)
    path.run(2, lambda: len(path.sent) == 2)
    assert path.sent[1][0] - path.sent[0][0] == pytest.approx(1.8)


def test_a_proof_that_comes_late_counts_all_the_same():
    path = Path(1500, 1500, rtt_s=1.4, told_rtt=False)
    path.run(5)
    assert path.mtu == 1500
    assert path.search.settled


def test_twenty_percent_loss_makes_nearly_no_search_end_low():
    """docs/decisions/path-mtu.md has the figures."""
    after_search = after_retry = wrong_seconds = runs = 0
    for carries in (1500, 1492, 1400, 1280):
        for seed in range(60):
            path = Path(1500, carries, loss=0.2, seed=seed)
            path.run(30, lambda p=path: p.search.settled)  # type: ignore[misc]
            runs += 1
            after_search += path.mtu == carries
            path.run(30 - path.now)
            after_retry += path.mtu == carries
            before = len(path.changes)
            path.run(120)
            wrong_seconds += len(path.changes) - before
    print(f"{runs} runs: {after_search} right at first, {after_retry} after 30 s, "
          f"{wrong_seconds} changes in {120 * runs} s")  # fmt: skip
    assert after_search >= 0.99 * runs
    assert after_retry >= 0.995 * runs
    # Loss is not taken for a black hole.
    assert wrong_seconds <= 0.05 * runs


def test_a_search_that_loss_ended_low_is_put_right_after_ten_seconds():
    path = Path()
    path.cut = True
    path.active = False  # no frame in between that would show that all is lost
    path.run(7, lambda: path.search.settled)
    assert path.search.settled
    assert path.mtu == FLOOR
    path.cut, path.active = False, True
    path.run(path_mtu.RAISE_SOON_S + path.pause_s + 1)
    assert path.mtu == 1500


def test_a_path_that_grows_is_noticed_within_a_minute():
    path = Path(1500, 1400)
    path.run(30)
    assert path.mtu == 1400
    path.carries = 1492
    path.run(path_mtu.RAISE_S + 5)
    assert path.mtu == 1492
    assert path.search.settled


def test_a_black_hole_is_found_while_data_flows():
    path = Path()
    path.run(30)
    path.carries = 1400
    began = path.now
    noticed = path.run(30, lambda: path.mtu < 1500) - began
    assert path.mtu == path_mtu.BASE_MTU
    assert noticed < path_mtu.VERIFY_S + 4 * path_mtu.TIMEOUT_MIN_S
    path.run(10)
    assert path.mtu == 1400


def test_a_cut_link_is_no_black_hole():
    path = Path()
    path.run(30)
    path.cut = True
    path.run(20)
    path.cut = False
    path.run(20)
    assert path.changes == [(0.0, 1500)]


def test_a_link_that_is_cut_during_the_search_does_not_end_it_low():
    path = Path()
    path.cut = True
    path.run(5)
    path.cut = False
    path.run(1)
    assert path.changes == [(0.0, 1500)]
    assert path.search.settled


def test_an_echo_of_an_older_probe_proves_nothing():
    path = Path()
    path.run(10)
    assert path.far_heard in (1500, 1499)
    path.carries = 1400
    path.run(4)
    # All the while the other end said that it heard 1500 last.
    assert path.mtu < 1500
    assert path.search.settled is False or path.mtu == 1400


def test_another_path_is_probed_from_what_the_former_carried():
    path = Path(1500, 1400)
    path.run(10)
    path.search.restart(path.now)
    assert path.mtu == 1400
    assert not path.search.settled
    path.carries = 1500
    path.run(1)
    assert path.mtu == 1500
    path.search.restart(path.now)
    path.carries = 1300
    path.run(10)
    assert path.mtu == 1300


def test_restarts_before_the_first_search_is_over_stay_optimistic():
    path = Path(1500, 1400)
    path.run(1.5)
    assert path.mtu == path_mtu.BASE_MTU
    path.search.restart(path.now)
    assert path.mtu == 1500


def test_the_link_mtu_is_followed():
    path = Path(1500, 9000)
    path.run(5)
    path.search.set_link_mtu(1400, path.now)
    assert (path.mtu, path.search.settled) == (1400, True)
    path.run(5)
    assert max(size for at, size in path.sent if at > 5) <= 1400
    path.search.set_link_mtu(9000, path.now)
    assert path.mtu == 1400
    path.run(1)
    assert path.mtu == 9000


def test_the_link_mtu_of_a_new_connection_is_followed_at_once():
    search = PathMtu(1500, FLOOR, 0.0)
    search.set_link_mtu(9000, 0.0)
    assert search.mtu == 9000
    search.set_link_mtu(1400, 0.0)
    assert search.mtu == 1400
    assert search.probe(0.0) == 1400


def test_while_data_flows_the_size_in_use_is_probed_every_second():
    path = Path()
    path.run(20.5)
    assert len(path.sent) in (20, 21)
    assert {size for _, size in path.sent} == {1500, 1499}


def test_without_data_the_search_still_ends_and_then_wakes_nobody():
    path = Path(1500, 1400, active=False, pause_s=5.0)
    path.run(20, lambda: path.search.settled)
    assert path.mtu == 1400
    assert path.search.deadline() == float("inf")
    probes = len(path.sent)
    path.run(600)
    # Called with every frame of the other end it probes once a minute, and for more once or twice.
    assert len(path.sent) - probes < 30
    path.active = True
    path.run(6)
    assert path.search.deadline() <= path.now + path_mtu.VERIFY_S


def test_what_the_other_end_makes_up_changes_nothing():
    search = PathMtu(1500, FLOOR, 0.0)
    for size in (1, 65535, 1499, 1400):
        search.heard(size, 0.0)
    assert search.mtu == 1500
    assert not search.settled


def test_whatever_happens_the_mtu_stays_in_bounds_and_the_memory_small():
    chance = random.Random(1)
    for _ in range(100):
        floor, link = chance.choice([(576, 1500), (1280, 1500), (576, 9000), (576, 500)])
        search, now, bound = PathMtu(link, floor, 0.0), 0.0, link
        for _ in range(400):
            now += chance.choice([0.0, 0.01, 0.3, 1.5, 70.0])
            what = chance.randrange(7)
            if what == 0:
                search.restart(now)
            elif what == 1:
                bound = chance.choice([1280, 1400, 1500, 9000, 65535])
                search.set_link_mtu(bound, now)
            elif what == 2:
                search.set_rtt(chance.choice([0.1, 50.0, 60_000.0]))
            elif what == 3:
                search.alive(now)
            else:
                size = search.probe(now, chance.random() < 0.7)
                assert 0 <= size <= bound
                if size and chance.random() < 0.5:
                    search.heard(size, now)
            assert min(floor, bound) <= search.mtu <= bound
            assert search.deadline() > -1.0
            assert len(search._sent) < 400


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize(("carries", "found"), [(1400, 1400), (1280, 1280), (700, 696)])
def test_lost_probes_do_not_silence_a_connection(carries: int, found: int, active: bool):
    world = pair()
    world.mtu["192.168.0.2"] = carries
    for _ in range(60):
        if active:
            for name, ends in (("a", ("10.0.0.1", "10.0.0.2")), ("b", ("10.0.0.2", "10.0.0.1"))):
                world.send(name, udp(*ends, b"x"))
        world.run(0.25)
    for name, host in (("a", "10.0.0.2"), ("b", "10.0.0.1")):
        mtus = {c["mtu"] for c in world.peer(name, host)["connections"] if c["state"] == 2}
        assert mtus == {found, 1500}
        assert not [e for e in world.events[name] if isinstance(e, events.ConnectionLost)]
