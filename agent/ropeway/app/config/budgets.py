"""The budgets of links in the file: amounts as text, and what a schema cannot say of them."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Dict, Optional, Union

from ropeway.app.config.lines import Faults, KeyPath
from ropeway.app.config.model import BYTES_MAX, DAY

BYTES_MIN = 1_000_000
NAMES_IN_NUMBERS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?(([kMGT])|([KMGT])i)?B?")


def bytes_of(amount: Union[int, float, str]) -> int:
    """Return in bytes an amount that passed the schema, such as 5GB, "1.5 GiB" or 5000000000."""
    if not isinstance(amount, str):
        # To the schema 5e9 is a whole number too.
        return int(amount)
    found = _AMOUNT.fullmatch(amount)
    assert found is not None
    number, _, decimal, binary = found.groups()
    unit = 1
    if decimal:
        unit = NAMES_IN_NUMBERS[decimal]
    elif binary:
        unit = 1024 ** ("KMGT".index(binary) + 1)
    return int(Fraction(number) * unit)


def read_amount(text: str) -> int:
    """Return an amount in bytes that somebody has typed; `ValueError`, with a sentence, if none."""
    if _AMOUNT.fullmatch(text) is None or bytes_of(text) > BYTES_MAX:
        raise ValueError(f"write a number of bytes up to 1000 TB, such as 3.2GB, not {text}")
    return bytes_of(text)


def check_budgets(data: Dict[str, Any], faults: Faults) -> None:
    """Report what of the budgets in `data`, the values of a file, makes no sense."""
    links = data.get("links")
    for name, link in links.items() if isinstance(links, dict) else ():
        path: KeyPath = ("links", name, "budget")
        if link == {}:
            faults.add(path[:2], "write a cost, metered or a budget, or remove it")
        budget = link.get("budget") if isinstance(link, dict) else None
        if not isinstance(budget, dict):
            continue
        if not isinstance(name, str) or not name:
            faults.add(path[:2], "write the name of an interface, or a shell pattern")
        fault = _amount_fault(budget.get("bytes"))
        if fault and not faults.spoilt((*path, "bytes")):
            faults.add((*path, "bytes"), fault)
        if budget.get("per") == DAY and "reset_day" in budget:
            faults.add(
                (*path, "reset_day"),
                "a budget per day begins anew every day: remove it, or write per: month",
            )


def _amount_fault(amount: Any) -> Optional[str]:
    if not isinstance(amount, str) or _AMOUNT.fullmatch(amount) is None:
        return None
    if BYTES_MIN <= bytes_of(amount) <= BYTES_MAX:
        return None
    return f"write a number of bytes from 1 MB to 1000 TB, not {amount}"
