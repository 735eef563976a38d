"""What an inventory says of links: what they cost and may carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Iterator

from ..values import whole_number
from ..wording import shown

EXAMPLE = "{wwan0: {budget: {bytes: 5GB, per: month, reset_day: 15}}}"
BUDGET_KEYS = ("bytes", "per", "reset_day", "then")
LINKS_MAX = 64
BYTES_MIN = 10**6
BYTES_MAX = 10**15
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?(?:([kMGT])|([KMGT])i)?B?")


def link_problems(where: str, key: str, raw: Any, secure: bool) -> Iterator[str]:
    """Yield the problems of ``raw``, the budgets of links; only ``secure`` networks have any."""
    if not raw and (raw is None or isinstance(raw, Mapping)):
        return
    if not isinstance(raw, Mapping) or len(raw) > LINKS_MAX:
        yield (
            f"{where}: {key} is not a mapping of at most {LINKS_MAX} interface names: write one "
            f"such as {EXAMPLE}."
        )
        return
    if not secure:
        yield f"{where}: {key} is only for secure networks: remove it."
    for name, link in raw.items():
        what = f"{where}: {shown(name)} in {key}"
        if not isinstance(name, str) or not name or not isinstance(link, Mapping) or not link:
            yield f"{what} has no cost, metered or budget: write one such as {EXAMPLE}."
            continue
        if set(link) - {"cost", "metered", "budget"}:
            yield f"{what} has other settings than cost, metered and budget: remove them."
        if not isinstance(link.get("metered", False), bool):
            yield f"{what} has metered {shown(link['metered'])}: use true or false."
        if whole_number(link.get("cost", 0)) not in range(1001):
            yield f"{what} has the cost {shown(link['cost'])}: use 0 to 1000."
        budget = link.get("budget", {})
        if not isinstance(budget, Mapping):
            yield f"{what} has a budget without settings: write one such as {EXAMPLE}."
        elif "budget" in link:
            yield from _budget_problems(f"{where}: the budget of {shown(name)} in {key}", budget)


def _budget_problems(what: str, budget: Mapping[str, Any]) -> Iterator[str]:
    for key in budget:
        if key not in BUDGET_KEYS:
            yield f"{what} has no setting {shown(key)}: use {', '.join(BUDGET_KEYS)}."
    if not BYTES_MIN <= _bytes(budget.get("bytes")) <= BYTES_MAX:
        yield (
            f"{what} has the bytes {shown(budget.get('bytes'))}: use 1 MB to 1000 TB, such as 5GB "
            "or 500MiB."
        )
    if budget.get("per") not in ("day", "month"):
        yield f"{what} is per {shown(budget.get('per'))}: use day or month."
    if "reset_day" in budget:
        if budget.get("per") == "day":
            yield f"{what} has a reset_day, but begins anew every day: remove it."
        elif whole_number(budget["reset_day"]) not in range(1, 32):
            yield f"{what} has the reset_day {shown(budget['reset_day'])}: use 1 to 31."
    if budget.get("then", "last") not in ("last", "never"):
        yield f"{what} has then {shown(budget['then'])}: use last or never."


def _bytes(raw: Any) -> int:
    """Return an amount in bytes, -1 where it is none."""
    found = None if isinstance(raw, bool) else _AMOUNT.fullmatch(str(raw))
    if found is None:
        return -1
    number, decimal, binary = found.groups()
    unit = 1000 ** (1 + "kMGT".index(decimal)) if decimal else 1
    if binary:
        unit = 1024 ** (1 + "KMGT".index(binary))
    return int(Fraction(number) * unit)
