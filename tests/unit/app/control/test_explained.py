"""The question of `ropeway explain`, and the answer as text."""

from __future__ import annotations

import argparse

import pytest

from ropeway.app.control import client, explained

ANSWER = {
    "destination": "10.0.0.3",
    "next_hop": "10.0.0.1",
    "next_hops": ["10.0.0.1"],
    "class": "voice",
    "mode": "redundant",
    "parity": 0,
    "parity_link": None,
    "fault": None,
    "links": [
        {"next_hop": "10.0.0.1", "index": 2, "name": "eth0", "carries": True, "why": None},
        {
            "next_hop": "10.0.0.1",
            "index": 3,
            "name": "wwan0",
            "carries": False,
            "why": "it is off for the class",
        },
    ],
}


@pytest.fixture
def requests(monkeypatch):
    made = []
    monkeypatch.setattr(
        client, "request", lambda path, what: (made.append((path, what)), ANSWER)[1]
    )
    return made


def options(*arguments):
    parser = argparse.ArgumentParser()
    explained.add_arguments(parser)
    parser.add_argument("--control", default="/run/c.sock")
    return parser.parse_args(["10.0.0.3", *arguments])


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ((), {"dscp": 0, "protocol": 17, "port": 0, "size": 100}),
        (("--dscp", "EF"), {"dscp": 46}),
        (("--dscp", "12", "--protocol", "tcp"), {"dscp": 12, "protocol": 6}),
        (("--protocol", "47", "--port", "5", "--size", "900"), {"protocol": 47, "size": 900}),
    ],
)
def test_options_become_the_question(requests, arguments, fields):
    explained.ask(options(*arguments))
    ((path, what),) = requests
    assert path == "/run/c.sock"
    assert (what["command"], what["destination"]) == ("explain", "10.0.0.3")
    assert {key: what[key] for key in fields} == fields


@pytest.mark.parametrize("arguments", [("--dscp", "fast"), ("--protocol", "-1")])
def test_what_is_no_value_is_named(requests, arguments):
    with pytest.raises(ValueError, match=arguments[0]):
        explained.ask(options(f"{arguments[0]}={arguments[1]}"))
    assert requests == []


def test_answer_is_text(requests):
    assert explained.as_text(explained.ask(options())).splitlines() == [
        "10.0.0.3, by 10.0.0.1",
        "class voice, mode redundant",
        "  eth0 carries it",
        "  wwan0 does not: it is off for the class",
    ]


def test_answer_names_both_routers_where_there_are_two():
    links = [*ANSWER["links"], {**ANSWER["links"][0], "next_hop": "10.0.0.2"}]
    both = {**ANSWER, "next_hops": ["10.0.0.1", "10.0.0.2"], "links": links}
    assert explained.as_text(both).splitlines() == [
        "10.0.0.3, by 10.0.0.1 and 10.0.0.2 at once",
        "class voice, mode redundant",
        "  eth0 to 10.0.0.1 carries it",
        "  wwan0 to 10.0.0.1 does not: it is off for the class",
        "  eth0 to 10.0.0.2 carries it",
    ]


@pytest.mark.parametrize(("link", "where"), [("eth1", " over eth1"), (None, ", none now")])
def test_parity_frames_are_told_of(link, where):
    text = explained.as_text({**ANSWER, "parity": 8, "parity_link": link})
    assert text.splitlines()[2] == "one parity frame for 8 packets" + where


def test_what_goes_nowhere_is_said_first():
    text = explained.as_text({**ANSWER, "next_hop": None, "fault": "it is outside the network"})
    assert text == "10.0.0.3 is not reached: it is outside the network"
    text = explained.as_text({**ANSWER, "class": None, "fault": "no link carries it now"})
    assert text.splitlines()[1] == "no class matches: it goes over every link"
    assert text.splitlines()[-1] == "it is dropped: no link carries it now"
