"""What links have used of their budgets, kept over restarts, crashes and power cuts.

Each write is on disk when it returns. It counts a reserve as used that is not yet, so that the use
until the next write is not lost in a crash.
"""

from __future__ import annotations

import datetime
import json
import logging
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from ropeway.app.store import state

log = logging.getLogger("ropeway")

LINKS_MAX = 256
EARLIER_MAX = 3
"""Periods before the one that counts: a clock that was set wrong is set back again."""
BYTES_MAX = 1 << 60
_FILE_BYTES_MAX = 1 << 18
_TEXT_MAX = 64


@dataclass
class Use:
    """What a link has used in a period."""

    start: datetime.date
    """The first day of the period."""
    used: int = 0
    reserved: int = 0
    """Bytes that may have been used besides, if the run does not say otherwise any more."""
    run: str = ""
    """The run of the agent that counts, and what it has counted by then in all."""
    total: int = 0
    rule: str = ""
    """What the period follows from: a day or a month, and its reset day."""
    earlier: List[Tuple[datetime.date, int]] = field(default_factory=list)
    """Periods before, the last one at the end, with what was used in each."""


def read(device_name: str) -> Tuple[float, Dict[str, Use]]:
    """Return when the file was written, in seconds since 1970, and the use by interface name.

    What cannot be read is a warning, and nothing then.
    """
    path = state.path_of(device_name, "budgets")
    try:
        with open(path, "rb") as file:
            kept = json.loads(file.read(_FILE_BYTES_MAX))
        uses = {str(name): _use(one) for name, one in kept["links"].items()}
        return float(kept["at"]), uses
    except FileNotFoundError:
        return 0.0, {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.warning(
            "%s cannot be read (%s): what links have used of their budgets counts from 0; set it"
            " with `ropeway budget set`",
            path,
            error,
        )
        return 0.0, {}


def write(device_name: str, at: float, uses: Dict[str, Use]) -> None:
    """Keep the use of links, and the time `at`; `OSError` where that is not possible."""
    links = {
        name: {
            "start": use.start.isoformat(),
            "used": use.used,
            "reserved": use.reserved,
            "run": use.run,
            "total": use.total,
            "rule": use.rule,
            "earlier": [[start.isoformat(), used] for start, used in use.earlier],
        }
        for name, use in uses.items()
    }
    state.write_durably(device_name, "budgets", json.dumps({"at": at, "links": links}) + "\n")


def _use(kept: Dict[str, Any]) -> Use:
    earlier = [(_day(start), _bytes(used)) for start, used in kept["earlier"]]
    return Use(
        _day(kept["start"]),
        _bytes(kept["used"]),
        _bytes(kept["reserved"]),
        str(kept["run"])[:_TEXT_MAX],
        _bytes(kept["total"]),
        str(kept["rule"])[:_TEXT_MAX],
        earlier[-EARLIER_MAX:],
    )


def _day(text: str) -> datetime.date:
    return datetime.datetime.strptime(text, "%Y-%m-%d").date()


def _bytes(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= BYTES_MAX:
        raise ValueError(f"{value!r} is no number of bytes")
    return value
