"""Budgets of links in the inventory."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from tests.fleet.inventory import Inventory
from tests.fleet.ropeway_preflight.checks.sentences import assert_one_sentence


def budget(**changes: Any) -> Dict[str, Any]:
    return {"wwan0": {"budget": {"bytes": "5GB", "per": "month", **changes}}}


@pytest.mark.parametrize(
    "links",
    [
        *(None, {}, budget(), budget(bytes=10**6), budget(bytes="1.5 MiB", reset_day=31)),
        *(
            budget(per="day", then="never"),
            budget(bytes="1000TB"),
            {"eth*": {"cost": 7}},
            {"wwan0": {"metered": True}},
            {"wwan*": budget()["wwan0"]},
        ),
    ],
)
def test_budgets_that_fit(
    inventory: Inventory, problems: Callable[..., List[str]], links: Any
) -> None:
    inventory["vm0"]["ropeway_links"] = links
    inventory.extra_network(links=links or {})
    assert problems(inventory) == []


@pytest.mark.parametrize(
    ("links", "part"),
    [
        ([], "is not a mapping"),
        ("wwan0", "is not a mapping"),
        ({str(number): budget()["wwan0"] for number in range(65)}, "at most 64"),
        ({"wwan0": {}}, "wwan0 in {key} has no cost, metered or budget"),
        ({"wwan0": {"budget": "5GB"}}, "wwan0 in {key} has a budget without"),
        ({"wwan0": {"metered": "often"}}, "has metered often: use true or false"),
        ({"wwan0": {"cost": 1001}}, "has the cost 1001: use 0 to 1000"),
        ({"wwan0": {"cost": "much"}}, "use 0 to 1000"),
        ({"wwan0": 7}, "has no cost, metered or budget"),
        (
            {"wwan0": {**budget()["wwan0"], "price": 3}},
            "other settings than cost, metered and budget",
        ),
        (budget(bytes="5 gigs"), "has the bytes '5 gigs'"),
        (budget(bytes="999kB"), "1 MB to 1000 TB"),
        (budget(bytes="1001TB"), "1 MB to 1000 TB"),
        (budget(bytes=True), "1 MB to 1000 TB"),
        (budget(per="week"), "is per week"),
        (budget(reset_day=0), "reset_day 0: use 1 to 31"),
        (budget(per="day", reset_day=1), "begins anew every day"),
        (budget(then="stop"), "has then stop"),
        (budget(resets=1), "has no setting resets"),
    ],
)
def test_budgets_that_do_not_fit(
    inventory: Inventory, problems: Callable[..., List[str]], links: Any, part: str
) -> None:
    inventory["vm0"]["ropeway_links"] = links
    # Of another type than a mapping, the role's own specification says more.
    inventory.extra_network(links=links if isinstance(links, dict) else {})
    told = problems(inventory)
    assert len(told) == 1 + isinstance(links, dict), told
    keys = ("its links", "ropeway_links")
    assert all(any(part.format(key=key) in one for key in keys) for one in told), told
    assert all("vm0" in one for one in told)


def test_only_a_secure_network_has_budgets(
    inventory: Inventory, problems: Callable[..., List[str]]
) -> None:
    inventory.everywhere(ropeway_encapsulation="classic")
    inventory["vm0"]["ropeway_links"] = budget()
    assert_one_sentence(problems(inventory), ["vm0", "ropeway_links is only for secure networks"])
