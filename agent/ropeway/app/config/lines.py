"""YAML to values with the line of each, and faults that name their line."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Set, Tuple, Union

from ropeway.app.errors import ConfigError, Fault

FAULTS_MAX = 100
"""More are not looked for: each is compared with the others."""
KeyPath = Tuple[Union[str, int], ...]


class Faults:
    """Collects faults and knows the line of every value."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line_of: Dict[KeyPath, int] = {}
        self.found: List[Fault] = []
        self.paths: Set[KeyPath] = set()

    def add(self, path: KeyPath, sentence: str, line: Optional[int] = None) -> None:
        """Report `sentence` about the value at `path`, or at `line` where that says better.

        `ConfigError` once there are `FAULTS_MAX`.
        """
        self.paths.add(path)
        if line is None:
            known = path
            while known and known not in self.line_of:
                known = known[:-1]
            line = self.line_of.get(known, 1)
        fault = Fault(line, _dotted(path), sentence)
        if fault not in self.found:
            self.found.append(fault)
        if len(self.found) >= FAULTS_MAX:
            self.raise_if_any()

    def spoilt(self, path: KeyPath) -> bool:
        """Tell whether the value at `path`, or something in or around it, has a fault already."""
        return any(path[: len(bad)] == bad or bad[: len(path)] == path for bad in self.paths if bad)

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with everything collected, in the order of the file."""
        found = sorted(self.found, key=lambda fault: fault.line or 0)
        if len(found) >= FAULTS_MAX:
            found.append(Fault(None, "", "there may be more: mend these first"))
        if found:
            raise ConfigError([as_line(self.name, fault) for fault in found], found)


def as_line(name: str, fault: Fault) -> str:
    """Return a fault of the file `name` as a line for a person."""
    at = name if fault.line is None else f"{name}:{fault.line}"
    return ": ".join(part for part in (at, fault.place, fault.sentence) if part)


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + part
    return text


_BARE_BRACKETS = re.compile(rb"""(?<!["'])\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]:[0-9]""")

#: To YAML 1.1, off is a boolean; as the name of a setting it is a word.
_KEY_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:bool")


def values(text: bytes, faults: Faults) -> Any:
    """Return the values in a YAML file; None, with a fault, if it cannot be read."""
    from ropeway.app.config import bounded_yaml

    try:
        loader = bounded_yaml.Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                faults.add((), "the file is empty: start from the example configuration")
                return None
            return _value(root, (), loader, faults, [])
        finally:
            loader.dispose()
    except bounded_yaml.UNREADABLE as error:
        line, sentence = bounded_yaml.fault(error)
        line = line or 1
        if _BARE_BRACKETS.search(b"".join(text.splitlines()[line - 1 : line])):
            sentence += ": put an address in brackets into quotes"
        faults.add((), sentence, line=line)
    return None


def _value(node: Any, path: KeyPath, loader: Any, faults: Faults, above: List[Any]) -> Any:
    import yaml

    from ropeway.app.config import bounded_yaml

    line = node.start_mark.line + 1
    # An alias stands where its anchor stands; the key's own line, set by the caller, says better.
    faults.line_of.setdefault(path, line)
    if node in above:
        faults.add(path, "this alias contains itself: write the value out")
        return None
    if isinstance(node, yaml.MappingNode):
        values: Dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _KEY_TAGS:
                # [2001:db8::3]:51840 without quotes is a mapping whose key is a list.
                sentence = (
                    "put an address in brackets into quotes"
                    if isinstance(key_node, yaml.SequenceNode)
                    else "the name of a setting must be a plain word"
                )
                faults.add(path, sentence, line=key_line)
                continue
            key = key_node.value
            inner = (*path, key)
            if key in values:
                faults.add(
                    inner,
                    f"this setting stands twice, in line {faults.line_of[inner]} too: remove one",
                    line=key_line,
                )
                continue
            faults.line_of[inner] = key_line
            values[key] = _value(value_node, inner, loader, faults, [*above, node])
        return values
    if isinstance(node, yaml.SequenceNode):
        return [
            _value(item, (*path, number), loader, faults, [*above, node])
            for number, item in enumerate(node.value)
        ]
    try:
        value = loader.construct_object(node)
        if isinstance(value, (int, float)) and ":" in node.value and "addresses" in path:
            # To YAML 1.1, 2001:2:3:4:5:6:7:8 is a number to the base of 60.
            faults.add(path, f"{node.value} is a number to YAML: put the address into quotes")
        return value
    except bounded_yaml.UNREADABLE:
        faults.add(path, f"the value {node.value!r} cannot be read: put it in quotes")
        return None
