"""Traces of real links: what they could carry, or how long a probe took, at each moment.

The files have format 1 of the folder's README: lines with ``#``, the header
``t_ms,rate_kbit,rtt_ms,loss``, and a row for each sample. A row holds until the next one. Not all
of them may be passed on, so the folder is no part of the checkout.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

VARIABLE = "ROPEWAY_TRACES"
HEADER = "t_ms,rate_kbit,rtt_ms,loss"
CAPACITY, RTT = "capacity", "rtt"

#: Round-trip time in ms of a capacity trace, which has none itself. Starlink: the median of
#: rtt-starlink. Cellular: the middle of 20 to 50 ms that the folder's README names.
STARLINK_RTT_MS = 34.0
CELLULAR_RTT_MS = 40.0


class TraceAbsent(Exception):
    """The folder of traces, or one of them, is not there; a sentence."""


class TraceBroken(Exception):
    """A file is not what its format says; a sentence."""


def folder() -> Path:
    """Return the folder of traces: ROPEWAY_TRACES, else ``../shared/traces`` of the checkout."""
    named = os.environ.get(VARIABLE)
    checkout = Path(__file__).resolve().parents[2]
    found = Path(named) if named else checkout.parent / "shared" / "traces"
    if not found.is_dir():
        where = named or "../shared/traces, seen from the checkout"
        raise TraceAbsent(f"There is no folder of traces at {where}: set {VARIABLE} to one.")
    return found


def names() -> List[str]:
    """Return the names of all traces that are there."""
    return sorted(file.stem for file in folder().glob("*.csv"))


def load(name: str) -> Trace:
    """Return the trace of this name. Raises TraceAbsent or TraceBroken."""
    file = folder() / f"{name}.csv"
    if not file.is_file():
        raise TraceAbsent(f"There is no trace {name}; there are {', '.join(names()) or 'none'}.")
    return parse(name, file.read_text(encoding="ascii"))


def parse(name: str, text: str) -> Trace:
    """Return the trace that the text of a file holds. Raises TraceBroken."""
    facts: Dict[str, str] = {}
    rows: List[Tuple[float, Optional[float], Optional[float], Optional[float]]] = []
    headed = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            words = (word.partition("=") for word in line[1:].split())
            facts.update({key: value for key, equals, value in words if equals})
        elif not headed:
            if line != HEADER:
                raise TraceBroken(f"{name}, line {number}: the header has to be {HEADER}.")
            headed = True
        else:
            try:
                t_ms, rate, rtt, loss = (float(c) if c else None for c in line.split(","))
            except ValueError:
                raise TraceBroken(f"{name}, line {number}: not four numbers.") from None
            if t_ms is None or (rows and t_ms <= rows[-1][0]):
                raise TraceBroken(f"{name}, line {number}: t_ms has to rise.")
            rows.append((t_ms, rate, rtt, loss))
    if facts.get("kind") not in (CAPACITY, RTT) or "step_ms" not in facts or not rows:
        raise TraceBroken(f"{name}: a kind, step_ms and at least one row are needed.")
    origin_ms = rows[0][0]
    times = [(row[0] - origin_ms) / 1000 for row in rows]
    length_s = times[-1] + float(facts["step_ms"]) / 1000
    if facts["kind"] == CAPACITY:
        rates = [row[1] for row in rows]
        if any(rate is None or rate < 0 for rate in rates):
            raise TraceBroken(f"{name}: a row of a capacity trace has no rate_kbit.")
        return Trace(name, length_s, times, rate_kbit=[rate or 0.0 for rate in rates])
    losses = [row[3] or 0.0 for row in rows]
    delays: List[float] = []
    for (_, _, rtt, _), loss in zip(rows, losses):
        if rtt is None and loss < 1:
            raise TraceBroken(f"{name}: a row of an rtt trace has neither rtt_ms nor loss 1.")
        # What is partly lost needs a delay; what is lost whole has none, and takes the last one.
        delays.append(rtt if rtt is not None else delays[-1] if delays else 0.0)
    return Trace(name, length_s, times, rtt_ms=delays, loss=losses)


def steps(rates: Sequence[Tuple[float, float]], length_s: float) -> Trace:
    """Return a capacity trace from (from_s, rate_kbit) pairs; the first is from 0 s."""
    if not rates or rates[0][0] != 0:
        raise ValueError("the first rate has to be from 0 s")
    times = [at for at, _ in rates]
    return Trace("steps", length_s, times, rate_kbit=[rate for _, rate in rates])


class Trace:
    """What a link was like over ``length_s`` seconds; after its end it begins anew.

    A capacity trace has ``rate_kbit``, an rtt trace ``rtt_ms`` and ``loss`` (0..1), each one value
    for each of ``times`` (seconds, from 0, rising). A beginning that does not fit the end is an
    artefact: keep runs shorter than the trace, or cut one that loops.
    """

    def __init__(
        self,
        name: str,
        length_s: float,
        times: Sequence[float],
        rate_kbit: Sequence[float] = (),
        rtt_ms: Sequence[float] = (),
        loss: Sequence[float] = (),
    ) -> None:
        self.name = name
        self.length_s = length_s
        self.times = list(times)
        self.rate_kbit = list(rate_kbit)
        self.rtt_ms = list(rtt_ms)
        self.loss = list(loss)
        self._bits = [0.0]  # carried up to each of the times, and to the end
        ends = [*self.times[1:], length_s]
        for start_s, end_s, rate in zip(self.times, ends, self.rate_kbit):
            self._bits.append(self._bits[-1] + rate * 1000 * (end_s - start_s))
        if self.rate_kbit and not self._bits[-1]:
            raise ValueError(f"the trace {name} carries nothing from its start to its end")

    @property
    def kind(self) -> str:
        return CAPACITY if self.rate_kbit else RTT

    @property
    def base_rtt_ms(self) -> float:
        """The round-trip time that a capacity trace is played with unless told otherwise."""
        if self.kind == RTT:
            return 0.0
        return STARLINK_RTT_MS if "starlink" in self.name else CELLULAR_RTT_MS

    @property
    def mean_kbit(self) -> float:
        """The mean rate of a capacity trace."""
        return self._bits[-1] / self.length_s / 1000

    def cut(self, start_s: float, duration_s: float) -> Trace:
        """Return a part, counted from 0. ValueError if it is not all there."""
        end_s = start_s + duration_s
        if start_s < 0 or duration_s <= 0 or end_s > self.length_s + 1e-9:
            raise ValueError(
                f"the trace {self.name} is {self.length_s:.1f} s long and has no part "
                f"from {start_s:g} to {end_s:g} s"
            )
        first = self.row(start_s)
        last = bisect_left(self.times, end_s)
        times = [max(at - start_s, 0.0) for at in self.times[first:last]]
        parts = (self.rate_kbit, self.rtt_ms, self.loss)
        return Trace(self.name, duration_s, times, *(part[first:last] for part in parts))

    def row(self, at_s: float) -> int:
        """Return the index of the row that holds at a time."""
        return bisect_right(self.times, at_s % self.length_s) - 1

    def carried(self, at_s: float) -> float:
        """Return the bits that a capacity trace could have carried from 0 s to this time."""
        rounds, rest_s = divmod(at_s, self.length_s)
        row = bisect_right(self.times, rest_s) - 1
        part = self.rate_kbit[row] * 1000 * (rest_s - self.times[row])
        return rounds * self._bits[-1] + self._bits[row] + part

    def begins(self, bits: float) -> float:
        """Return when the bit after this many begins to be carried: an outage is over by then."""
        rounds, rest = divmod(bits, self._bits[-1])
        row = bisect_right(self._bits, rest) - 1
        return self._at(rounds, row, rest)

    def ends(self, bits: float) -> float:
        """Return when this many bits have been carried: an outage after them counts no more."""
        rounds, rest = divmod(bits, self._bits[-1])
        if not rest and rounds:
            rounds, rest = rounds - 1, self._bits[-1]
        row = max(bisect_left(self._bits, rest) - 1, 0)
        return self._at(rounds, row, rest)

    def _at(self, rounds: float, row: int, rest: float) -> float:
        rate = self.rate_kbit[row] * 1000
        within_s = (rest - self._bits[row]) / rate if rate else 0.0
        return rounds * self.length_s + self.times[row] + within_s
