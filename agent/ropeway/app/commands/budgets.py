"""The command `ropeway budget`."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List

from ropeway.app.commands import output
from ropeway.app.commands.outcome import EXIT_OK, fail
from ropeway.app.control import client, tree


def show_budgets(options: argparse.Namespace) -> int:
    """Print what links have used of their budgets; return the exit code."""
    status = client.request(options.control, {"command": "status"})
    found: List[Dict[str, Any]] = [
        {"link": link["name"], **link["budget"]} for link in status["links"] if link.get("budget")
    ]
    if options.json:
        output.show({"budgets": found})
    else:
        for one in found:
            print("{}: {}".format(one["link"], tree.budget(one)))
        if not found:
            print("no link has a budget")
    return EXIT_OK


def set_budget(options: argparse.Namespace) -> int:
    """Make the operator's figure what a link has used; return the exit code."""
    from ropeway.app.config.budgets import read_amount

    if options.json:
        return fail("budget set prints nothing, so it has no --json")
    try:
        used = read_amount(options.used)
    except ValueError as error:
        return fail(str(error))
    client.request(
        options.control, {"command": "budget-set", "link": options.link, "used_bytes": used}
    )
    return EXIT_OK
