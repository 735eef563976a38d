"""Reading the configuration again while packets pass."""

from __future__ import annotations

import logging
from typing import Callable, List, Optional

from ropeway.app.config import model
from ropeway.app.config.model import Config
from ropeway.app.control.answer import REASON_RESTART, Later, Refusal
from ropeway.app.engine import nodes
from ropeway.app.engine.budgets import Budgets
from ropeway.app.engine.freshness import Bound
from ropeway.app.engine.loop import Loop
from ropeway.app.engine.names import Names
from ropeway.app.engine.wakefulness import Wakefulness
from ropeway.steward.answers import ConfigurationRead
from ropeway.steward.client import Steward
from ropeway.steward.orders import Change, ReadConfiguration

log = logging.getLogger("ropeway")

# Tuning
#: The steward takes 8 s at most; `ropeway reload` waits for 12 s.
READING_LIMIT_S = 9.0

#: Settings that the running agent takes over by itself, whatever the node does.
APPLIED_LIVE = (
    *("interfaces.include", "interfaces.exclude", "interfaces.addresses"),
    *(
        "routers",
        "announce",
        "links",
        "leases",
        "classes",
        "copy_dscp",
        "cpu_latency_us",
        "max_age_s",
        "device.precedence",
    ),
)

#: The number of the reading that the agent starts with.
FIRST_READING = 0

_INF = float("inf")


class LiveConfig:
    """The configuration that the agent runs with, and how it goes over to another."""

    def __init__(
        self,
        config: Config,
        made: nodes.Made,
        bound: Bound,
        wakefulness: Wakefulness,
        steward: Steward,
        names: Optional[Names],
        budgets: Budgets,
    ) -> None:
        #: What the agent runs with.
        self.current = config
        #: The number of the reading that this is, by which the steward knows it.
        self.reading = FIRST_READING
        self._made = made
        self._bound = bound
        self._wakefulness = wakefulness
        self._steward = steward
        self._names = names
        self._budgets = budgets

    def apply(self, config: Config, reading: int, now: float) -> None:
        """Go over to `config`, whole or not at all; `ValueError` says why not.

        `reading` is its number.
        """
        before = self.current
        differing = set(model.what_differs(before, config)).difference(APPLIED_LIVE)
        if differing:
            raise Refusal(
                "{}: only a restart changes that, so nothing was changed; restart the service, or"
                " put it back".format(", ".join(sorted(differing))),
                REASON_RESTART,
            )
        try:
            nodes.change_peers(self._made, before, config, now)
        except ValueError as error:
            raise Refusal(str(error), REASON_RESTART) from error
        if config.cpu_latency_us != before.cpu_latency_us or self._wakefulness.refused:
            self._wakefulness.set_limit(config.cpu_latency_us)
        self._bound.set(config.max_age_s)
        self._made.node.set_max_age(self._bound.max_age_s)
        self.current, self.reading = config, reading
        # First of all, because the steward resolves the names of the reading that holds only.
        self._steward.send(Change(reading), replaces=Change)
        self._budgets.set(config, now)
        if self._names is not None:
            self._names.set_peers(config.peers, now)


class Reload:
    """Has the steward read the file again, and `apply` go over to what it says, with its number.

    The answers to those who ask are given when it is done.
    """

    def __init__(
        self, loop: Loop, steward: Steward, apply: Callable[[Config, int, float], None]
    ) -> None:
        self._loop = loop
        self._steward = steward
        self._apply = apply
        # Counts readings; that of the one that is under way, or 0.
        self._last = FIRST_READING
        self._number = 0
        self._due = _INF
        self._answers: List[Later] = []
        # Another reading is needed after this one, and these wait for it.
        self._again = False
        self._answers_next: List[Later] = []
        steward.on(ConfigurationRead, self._take)

    def ask(self, now: float, answer: Optional[Later] = None) -> None:
        """Have the file read as it is now, and `answer` given how that went."""
        if not self._number:
            self._begin(now)
        else:
            # The reading that is under way may have passed over what has changed since.
            self._again = True
        if answer is not None:
            (self._answers_next if self._again else self._answers).append(answer)

    def deadline(self) -> float:
        """Return when a reading is given up."""
        return self._due

    def tick(self, now: float) -> None:
        """Give a reading up that takes too long."""
        if now >= self._due:
            why = self._steward.fault or "reading the configuration takes too long"
            self._done(now, ValueError(f"{why}; nothing was changed: try again"))

    def close(self) -> None:
        """Tell those who wait for a reading that there will be none."""
        for answer in (*self._answers, *self._answers_next):
            answer.refuse(ValueError("the agent is stopping, so nothing was changed"))

    def start_again(self) -> None:
        """Ask another steward for the reading that the one that has ended did not give."""
        if self._number:
            self._steward.send(ReadConfiguration(self._number))

    def _begin(self, now: float) -> None:
        """Have the file read; packets pass meanwhile."""
        self._last += 1
        self._number = self._last
        self._due = now + READING_LIMIT_S
        self._loop.sooner(self._due)
        self._steward.send(ReadConfiguration(self._number))

    def _take(self, read: ConfigurationRead, _descriptors: List[int], now: float) -> None:
        if read.number != self._number:
            return
        if read.config is None:
            sentence = "nothing was changed, because of this:\n" + "\n".join(read.errors)
            self._done(now, ValueError(sentence))
            return
        try:
            self._apply(read.config, read.number, now)
        except ValueError as error:
            self._done(now, error)
        else:
            self._done(now, None)

    def _done(self, now: float, error: Optional[ValueError]) -> None:
        """Tell the log, and those who asked, how it went; read once more if need be."""
        self._number, self._due = 0, _INF
        answers, self._answers = self._answers, []
        if error is None:
            log.info("the configuration was read again and holds from now on")
        else:
            log.warning("the configuration was read again: %s", error)
        for answer in answers:
            if error is None:
                answer.give(None)
            else:
                answer.refuse(error)
        if self._again:
            self._again = False
            self._answers, self._answers_next = self._answers_next, []
            self._begin(now)
