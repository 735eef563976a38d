"""What an inventory says of classes of traffic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Iterator, Set

from ..values import is_list, whole_number
from ..wording import listing, shown

EXAMPLE = "{name: bulk, match: {protocol: tcp}, mode: single}"
CLASSES_MAX = 16
RECOMMENDED = "recommended"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
KEYS = ("name", "match", "mode", "copies", "within_ms", "hold_ms", "parity", "off")
# To Ansible, the word off without quotes is a boolean.
OFF_UNQUOTED = "False"
MATCH_KEYS = ("dscp", "protocol", "ports", "addresses", "size_max")
MATCH_LISTS = ("dscp", "ports", "addresses")
MODES = ("redundant", "adaptive", "single", "spread")
DSCP = re.compile(r"ef|va|le|be|df|cs[0-7]|af[1-4][1-3]")
DSCP_RANGE = range(64)
# Keys of one mode, with the range that the agent accepts (config.schema.json).
OF_MODE = {"copies": ("redundant", range(1, 9)), "within_ms": ("adaptive", range(10, 10001))}
HOLD_MS = range(2001)
PARITY = range(2, 33)


def class_problems(where: str, key: str, raw: Any, secure: bool) -> Iterator[str]:
    """Yield the problems of ``raw``, a list of classes or RECOMMENDED, in ``secure`` networks only.

    What is not looked at here, such as ports and addresses, the agent checks on the host before its
    configuration is replaced.
    """
    if raw is None or (is_list(raw) and not raw):
        return
    recommended = raw == RECOMMENDED
    if not recommended and (not is_list(raw) or len(raw) > CLASSES_MAX):
        yield (
            f"{where}: {key} is neither {RECOMMENDED} nor a list of at most {CLASSES_MAX} classes: "
            f"list items such as {EXAMPLE}."
        )
        return
    if not secure:
        yield f"{where}: {key} is only for secure networks: remove it."
    if recommended:
        return
    names: Set[str] = set()
    for item in raw:
        name = item.get("name") if isinstance(item, Mapping) else None
        if not isinstance(item, Mapping) or NAME.fullmatch(str(name)) is None or name is None:
            yield (
                f"{where}: {shown(item)} in {key} has no name of lower-case letters and digits: "
                f"list items such as {EXAMPLE}."
            )
            continue
        if str(name) in names:
            yield f"{where}: {key} has two classes {name}: rename one."
        names.add(str(name))
        yield from _problems_of(f"{where}: the class {name} in {key}", item)


def _problems_of(what: str, item: Mapping[Any, Any]) -> Iterator[str]:
    for key in item:
        if str(key) not in (*KEYS, OFF_UNQUOTED):
            yield f"{what} has no setting {shown(key)}: use {listing(KEYS)}."
    mode = item.get("mode", MODES[0])
    if mode not in MODES:
        yield f"{what} has the mode {shown(mode)}: use {listing(MODES)}."
    else:
        for key, (owner, allowed) in OF_MODE.items():
            if key in item and mode != owner:
                yield f"{what} has {key}, which only the mode {owner} has: remove it."
            elif key in item and whole_number(item[key]) not in allowed:
                yield (
                    f"{what} has {key} {shown(item[key])}: use {allowed.start} to "
                    f"{allowed.stop - 1}."
                )
    if "hold_ms" in item:
        held = whole_number(item["hold_ms"])
        if held not in HOLD_MS or (held == 0 and mode == "spread"):
            yield (
                f"{what} has hold_ms {shown(item['hold_ms'])}: use {int(mode == 'spread')} to "
                f"{HOLD_MS.stop - 1}."
            )
    if "parity" in item and whole_number(item["parity"]) not in PARITY:
        yield (
            f"{what} has parity {shown(item['parity'])}: use {PARITY.start} to {PARITY.stop - 1}."
        )
    off = next((value for key, value in item.items() if str(key) in ("off", OFF_UNQUOTED)), None)
    if off is not None and not is_list(off):
        yield f'{what} has off {shown(off)}: use a list of interface names, such as ["wwan*"].'
    match = item.get("match", {})
    if not isinstance(match, Mapping):
        yield f"{what} has match {shown(match)}: use a mapping of {listing(MATCH_KEYS)}."
        return
    for key, value in match.items():
        if key not in MATCH_KEYS:
            yield f"{what} has no {shown(key)} in match: use {listing(MATCH_KEYS)}."
        elif key in MATCH_LISTS and not is_list(value):
            yield f"{what} has {key} {shown(value)}: use a list."
        elif key == "dscp":
            for one in value:
                if DSCP.fullmatch(str(one)) is None and whole_number(one) not in DSCP_RANGE:
                    yield f"{what} has the dscp {shown(one)}: use a name such as ef, or 0 to 63."
