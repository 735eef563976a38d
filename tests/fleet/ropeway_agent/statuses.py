"""Statuses of agents for tests."""

from __future__ import annotations

from typing import Any, Dict


def status(**faults: str) -> Dict[str, Any]:
    """Return a status: the agent reaches 10.0.0.2 over each link whose fault is empty."""
    indexes = {name: number for number, name in enumerate(faults, 2)}
    return {
        "links": [
            {"index": indexes[name], "name": name, "fault": fault or None}
            for name, fault in faults.items()
            if fault != "it is not there"
        ],
        "missing_links": [
            {"index": 0, "name": name, "fault": fault}
            for name, fault in faults.items()
            if fault == "it is not there"
        ],
        "peers": [
            {
                "host": "10.0.0.2",
                "best_state": 2,
                "connections": [
                    {"link": indexes[name], "state": 0 if fault else 2}
                    for name, fault in faults.items()
                ],
            }
        ],
    }
