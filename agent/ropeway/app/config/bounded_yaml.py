"""YAML that is read within bounds: a file may be small and stand for millions of values.

The parsers come with this module; what needs no YAML does not import it.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import yaml

VALUES_MAX = 1 << 16
"""Keys and values of a file, each counted wherever an alias repeats it: some 5000 peers, and about
a second of reading."""
SCALAR_LENGTH_MAX = 4096
"""Characters of one value: as many as a path has. Numbers take time that grows with the square."""


class OutOfBounds(yaml.MarkedYAMLError):
    """The text has, or stands for, more than is read."""


UNREADABLE = (
    yaml.YAMLError,
    RecursionError,
    ValueError,
    OverflowError,
    LookupError,
    AttributeError,
)
"""What PyYAML raises, the last four for a scalar that is not what its tag or its looks say."""


class Loader(yaml.SafeLoader):
    """Reads one document; `OutOfBounds` where that is too large."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self._nodes = 0

    def get_single_node(self) -> Optional[yaml.Node]:
        """Return the document's root, None where there is none."""
        root: Optional[yaml.Node] = super().get_single_node()
        if root is not None and _expanded(root, {}) > VALUES_MAX:
            raise _too_many(root, "with what its aliases repeat the file has")
        return root

    def compose_node(self, parent: Any, index: Any) -> Optional[yaml.Node]:
        """Return the next node, as the parent class does, and count it."""
        node: Optional[yaml.Node] = super().compose_node(parent, index)
        self._nodes += 1
        if self._nodes > VALUES_MAX and node is not None:
            raise _too_many(node, "the file has")
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """Return the next scalar, as the parent class does."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if len(event.value) > SCALAR_LENGTH_MAX:
            raise OutOfBounds(
                problem=f"a value has more than {SCALAR_LENGTH_MAX} characters: make it shorter",
                problem_mark=event.start_mark,
            )
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        return node


def load(text: bytes) -> Any:
    """Return what `text` stands for; one of `UNREADABLE` where that cannot be told."""
    return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader


def fault(error: Exception) -> Tuple[int, str]:
    """Return the line, 0 where it is not known, and the sentence for one of `UNREADABLE`."""
    if isinstance(error, RecursionError):
        return 0, "this is nested too deeply"
    if not isinstance(error, yaml.YAMLError):
        return 0, f"a value cannot be read ({error})"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    prefix = "" if isinstance(error, OutOfBounds) else "this is not YAML: "
    return mark.line + 1 if mark else 0, prefix + problem


def _too_many(node: yaml.Node, what: str) -> OutOfBounds:
    return OutOfBounds(
        problem=f"{what} more than {VALUES_MAX} values: write fewer",
        problem_mark=node.start_mark,
    )


def _expanded(node: yaml.Node, known: Dict[int, int]) -> int:
    """Return how many nodes `node` stands for; an alias inside its own anchor counts as none."""
    size = known.get(id(node))
    if size is not None:
        return size
    known[id(node)] = 0
    size = 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            size += _expanded(key, known) + _expanded(value, known)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            size += _expanded(item, known)
    known[id(node)] = size
    return size
