"""Classes of traffic in the inventory."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence


def one(**changes: Any) -> List[Dict[Any, Any]]:
    return [{"name": "voice", "match": {"dscp": ["ef", 34]}, **changes}]


@pytest.mark.parametrize(
    "classes",
    [
        *(None, [], "recommended", one(), one(copies=2), one(mode="single"), one(off=["wwan*"])),
        *(one(mode="adaptive", within_ms=250), [{"name": "rest"}], [{"name": "a", False: ["b"]}]),
        *(one(parity=2), one(parity=32)),
        *(one(hold_ms=0), one(hold_ms=2000), one(mode="spread"), one(mode="spread", hold_ms=1)),
        one(match={"protocol": 47, "ports": [1, "2-3"], "addresses": [], "size_max": 300}),
    ],
)
def test_classes_that_fit(
    inventory: Inventory, problems: Callable[..., List[str]], classes: Any
) -> None:
    inventory["vm0"]["ropeway_classes"] = classes
    inventory.extra_network(classes=classes or [])
    assert problems(inventory) == []


@pytest.mark.parametrize(
    ("classes", "part"),
    [
        ({}, "is neither recommended nor a list of at most 16"),
        ("voice", "is neither recommended nor a list of at most 16"),
        ([{"name": f"c{number}"} for number in range(17)], "nor a list of at most 16"),
        ([{}], "has no name"),
        (one(name="Voice 1"), "has no name"),
        (one() * 2, "has two classes voice"),
        (one(modes="single"), "has no setting modes"),
        (one(mode="best"), "has the mode best: use redundant, adaptive, single"),
        (one(copies=9), "has copies 9: use 1 to 8"),
        (one(mode="single", copies=2), "only the mode redundant has"),
        (one(within_ms=50), "only the mode adaptive has"),
        (one(mode="adaptive", within_ms=5), "has within_ms 5: use 10 to 10000"),
        (one(parity=1), "has parity 1: use 2 to 32"),
        (one(parity="many"), "has parity many: use 2 to 32"),
        (one(hold_ms=2001), "has hold_ms 2001: use 0 to 2000"),
        (one(mode="spread", hold_ms=0), "has hold_ms 0: use 1 to 2000"),
        (one(off="wwan0"), "has off wwan0: use a list"),
        (one(match="ef"), "has match ef: use a mapping"),
        (one(match={"tos": 1}), "has no tos in match"),
        (one(match={"ports": 5004}), "has ports 5004: use a list"),
        (one(match={"dscp": ["af44"]}), "has the dscp af44"),
        (one(match={"dscp": [64]}), "has the dscp 64"),
    ],
)
def test_classes_that_do_not_fit(
    inventory: Inventory, problems: Callable[..., List[str]], classes: Any, part: str
) -> None:
    inventory["vm0"]["ropeway_classes"] = classes
    assert_one_sentence(problems(inventory), ["vm0", "ropeway_classes", part])


def test_a_class_of_another_network_is_looked_at_too(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    inventory.extra_network(classes=one(mode="best"))
    assert_one_sentence(problems(inventory), ["vm0", "its classes", "has the mode best"])


@pytest.mark.parametrize("classes", [one(), "recommended"])
def test_only_a_secure_network_has_classes(
    inventory: Inventory, problems: Callable[..., List[str]], classes: Any
) -> None:
    inventory.everywhere(ropeway_encapsulation="classic")
    inventory["vm0"]["ropeway_classes"] = classes
    assert_one_sentence(problems(inventory), ["vm0", "ropeway_classes is only for secure networks"])
