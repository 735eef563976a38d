"""Reading the configuration again while packets pass."""

from __future__ import annotations

import logging
from typing import Callable, List, Optional

from ropeway.app.config import model, reading
from ropeway.app.config.model import Config
from ropeway.app.control.answer import REASON_RESTART, Later, Refusal
from ropeway.app.engine import nodes
from ropeway.app.engine.freshness import Bound
from ropeway.app.engine.interfaces import Interfaces
from ropeway.app.engine.loop import Loop
from ropeway.app.engine.wakefulness import Wakefulness
from ropeway.app.errors import ConfigError

log = logging.getLogger("ropeway")

# Tuning
#: Reading the configuration takes no longer; `ropeway reload` waits for 12 s.
READING_LIMIT_S = 8.0

#: Settings that the running agent takes over by itself, whatever the node does.
APPLIED_LIVE = (
    *("interfaces.include", "interfaces.exclude", "interfaces.addresses"),
    *("cpu_latency_us", "max_age_s", "device.precedence"),
)

_INF = float("inf")


class LiveConfig:
    """The configuration that the agent runs with, and how it goes over to another."""

    def __init__(
        self,
        config: Config,
        made: nodes.Made,
        bound: Bound,
        wakefulness: Wakefulness,
        interfaces: Interfaces,
    ) -> None:
        #: What the agent runs with.
        self.current = config
        self._made = made
        self._bound = bound
        self._wakefulness = wakefulness
        self._interfaces = interfaces

    def apply(self, config: Config, now: float) -> None:
        """Go over to `config`, whole or not at all; `ValueError` says why not."""
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
        self.current = config
        self._interfaces.set_config(config, now)


class Reload:
    """Has the file at `path` read again, and `apply` go over to what it says.

    `path` is None where there is no file. The answers to those who ask are given when it is done.
    """

    def __init__(
        self, loop: Loop, path: Optional[str], apply: Callable[[Config, float], None]
    ) -> None:
        self._loop = loop
        self._path = path
        self._apply = apply
        self._reading: Optional[reading.Reading] = None
        self._due = _INF
        self._answers: List[Later] = []
        # Another reading is needed after this one, and these wait for it.
        self._again = False
        self._answers_next: List[Later] = []

    def ask(self, now: float, answer: Optional[Later] = None) -> None:
        """Have the file read as it is now, and `answer` given how that went.

        `ValueError` if it cannot be read.
        """
        if self._reading is None:
            self._begin(now)
        else:
            # The reading that is under way may have passed over what has changed since.
            self._again = True
        if answer is not None:
            (self._answers_next if self._again else self._answers).append(answer)

    def ask_by_signal(self, now: float) -> None:
        """Have the file read as it is now; how that went is logged."""
        try:
            self.ask(now)
        except ValueError as error:
            log.warning("%s", error)

    def deadline(self) -> float:
        """Return when a reading is given up."""
        return self._due

    def tick(self, now: float) -> None:
        """Give a reading up that takes too long."""
        if now >= self._due:
            reading = self._end()
            reading.give_up()
            sentence = f"reading {reading.path} takes too long, so nothing was changed: try again"
            self._done(now, ValueError(sentence))

    def close(self) -> None:
        """Tell those who wait for a reading that there will be none."""
        if self._reading is not None:
            self._end().give_up()
        for answer in (*self._answers, *self._answers_next):
            answer.refuse(ValueError("the agent is stopping, so nothing was changed"))

    def _begin(self, now: float) -> None:
        """Let a child read the file; packets pass meanwhile."""
        if self._path is None:
            raise ValueError("this agent was not started with a file to read: restart it")
        try:
            self._reading = reading.Reading(self._path)
        except OSError as error:
            raise ValueError(
                f"{self._path} cannot be read ({error.strerror}): try again"
            ) from error
        self._due = now + READING_LIMIT_S
        self._loop.sooner(self._due)
        self._loop.register(self._reading.fileno(), self._read_on)

    def _read_on(self, _events: int, now: float) -> None:
        assert self._reading is not None
        if not self._reading.take():
            return
        reading = self._end()
        try:
            self._apply(reading.result(), now)
        except ConfigError as error:
            sentence = "nothing was changed, because of this:\n" + "\n".join(error.errors)
            self._done(now, ValueError(sentence))
        except ValueError as error:
            self._done(now, error)
        else:
            self._done(now, None)

    def _end(self) -> reading.Reading:
        reading = self._reading
        assert reading is not None
        self._loop.unregister(reading.fileno())
        self._reading, self._due = None, _INF
        return reading

    def _done(self, now: float, error: Optional[ValueError]) -> None:
        """Tell the log, and those who asked, how it went; read once more if need be."""
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
            try:
                self._begin(now)
            except ValueError as begin_error:
                self._done(now, begin_error)
