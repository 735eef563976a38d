from __future__ import annotations

import asyncio
import threading

from ropeway.app.control.client import NoAnswer
from ropeway.app.monitor.source import FRESH_S, Source


class Agent:
    """Answers with how often it was asked."""

    def __init__(self):
        self.now = 100.0
        self.asked = 0
        self.fault = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def ask(self):
        self.asked += 1
        assert self.may_answer.wait(10)
        if self.fault:
            raise NoAnswer(self.fault)
        return {"asked": self.asked}

    def source(self):
        return Source(self.ask, lambda: self.now)


def test_the_agent_is_asked_once_a_second_however_many_ask():
    agent = Agent()

    async def many():
        source = agent.source()
        together = await asyncio.gather(*(source.answer() for _ in range(50)))
        agent.now += FRESH_S * 0.9
        soon = await source.answer()
        agent.now += FRESH_S * 0.2
        return together, soon, await source.answer()

    together, soon, later = asyncio.run(many())
    assert {one.status["asked"] for one in (*together, soon)} == {1}
    assert later.status["asked"] == 2


def test_an_agent_that_takes_long_is_asked_once_and_others_are_served_meanwhile():
    agent = Agent()
    agent.may_answer.clear()

    async def many():
        source = agent.source()
        waiting = [asyncio.ensure_future(source.answer()) for _ in range(20)]
        # The loop turns while the agent is silent.
        await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        agent.may_answer.set()
        return await asyncio.gather(*waiting)

    assert {one.status["asked"] for one in asyncio.run(many())} == {1}


def test_why_there_is_no_answer_is_a_sentence_and_is_not_asked_for_too_often_either():
    agent = Agent()
    agent.fault = "no agent answers on /run/x: start it"

    async def twice():
        source = agent.source()
        first, second = await source.answer(), await source.answer()
        agent.fault, agent.now = None, agent.now + FRESH_S
        return first, second, await source.answer()

    first, second, third = asyncio.run(twice())
    assert first.fault == second.fault == "no agent answers on /run/x: start it"
    assert first.status == {}
    assert (third.fault, third.status) == (None, {"asked": 2})


def test_an_answer_that_is_no_status_is_a_fault():
    async def once():
        return await Source(lambda: ["a list"]).answer()

    assert "update it" in asyncio.run(once()).fault
