"""Lines of text with a look, tables that fit a width, and small curves.

Whatever is shown goes through `clean`: no name can move the cursor or upset the columns.
"""

from __future__ import annotations

import dataclasses
import enum
import unicodedata
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

CURVE_MIN, CURVE_MAX = 8, 30
"""Characters of a curve."""
GAP = 2
NAME_MIN = 18
"""A longer first cell is shortened to a third of the width."""

BLOCKS = "▁▂▃▄▅▆▇"
ASCII_BLOCKS = "_.-~+*#"
"""For a terminal that lacks the former."""


class Look(enum.Enum):
    """How a piece of a line is emphasised where colours are to be had."""

    PLAIN = "plain"
    TITLE = "title"
    STRONG = "strong"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    FAINT = "faint"
    CURVE = "curve"


class Piece(NamedTuple):
    """A part of a line."""

    text: str
    look: Look = Look.PLAIN


Line = List[Piece]


def clean(text: object) -> str:
    """Return `text` with only what takes one cell and is written from left to right."""
    return "".join(one if _is_plain(one) else "?" for one in str(text))


def _is_plain(one: str) -> bool:
    if " " <= one <= "~":
        return True
    return (
        one.isprintable()
        and not unicodedata.combining(one)
        and unicodedata.category(one)[0] != "M"
        and unicodedata.east_asian_width(one) not in "WF"
        and unicodedata.bidirectional(one) not in ("R", "AL", "AN")
    )


def cut(text: str, width: int) -> str:
    """Return the clean `text`, shortened to `width` with a mark where it is longer."""
    text = clean(text)
    return text if len(text) <= width else text[: max(0, width - 1)] + "~"[: max(0, width)]


def cut_line(line: Line, width: int) -> Line:
    """Return `line` shortened to `width`."""
    shown: Line = []
    for piece in line:
        if width <= 0:
            break
        text = cut(piece.text, width)
        shown.append(Piece(text, piece.look))
        width -= len(text)
    return shown


def text_of(line: Line) -> str:
    """Return a line without its looks."""
    return "".join(piece.text for piece in line).rstrip()


@dataclasses.dataclass(frozen=True)
class Curve:
    """A cell that is drawn as a small curve; its top is at least `top`."""

    points: Sequence[Optional[float]]
    top: float

    def text(self, width: int, blocks: str) -> str:
        """Return the newest points as `width` characters of `blocks`, from the lowest up."""
        shown = list(self.points)[-width:]
        top = max([self.top, *(point for point in shown if point is not None)])
        steps = [_step(point, top, blocks) for point in shown]
        return "".join(steps).rjust(width)


def _step(point: Optional[float], top: float, blocks: str) -> str:
    if point is None:
        return " "
    return blocks[min(len(blocks) - 1, int(max(0.0, point) / top * len(blocks)))]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table; of those that do not fit, the one of the highest `rank` goes first."""

    title: str
    rank: int
    right: bool = False
    curve: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """Cells by column; `rest` is a text in place of all cells but the first."""

    cells: Sequence[object]
    look: Look = Look.PLAIN
    looks: Sequence[Tuple[int, Look]] = ()
    """Columns with another look than the row."""
    rest: Optional[str] = None


class Table:
    """Columns as wide as the longest of their cells, as many as fit `width`."""

    def __init__(
        self, columns: Sequence[Column], rows: Iterable[Row], width: int, blocks: str
    ) -> None:
        self._columns = columns
        self._width = width
        self._blocks = blocks
        self._widths = [
            max(CURVE_MIN, len(column.title)) if column.curve else len(column.title)
            for column in columns
        ]
        for row in rows:
            # A name alone makes no column wide.
            cells = list(enumerate(row.cells if row.rest is None else row.cells[:1]))
            for at, cell in cells:
                if not columns[at].curve:
                    self._widths[at] = max(self._widths[at], len(clean(cell)))
        self._widths[0] = min(self._widths[0], max(NAME_MIN, width // 3))
        self._shown = sorted(range(len(columns)), key=lambda at: columns[at].rank)
        while len(self._shown) > 1 and self._taken() > width:
            self._shown.pop()
        self._shown.sort()
        self._stretch()

    def title(self, first: Optional[str] = None) -> Line:
        """Return the line above the rows, with another title of the first column."""
        titles = [column.title for column in self._columns]
        titles[0] = titles[0] if first is None else first
        return self._line(titles, [Look.TITLE] * len(titles))

    def line(self, row: Row) -> Line:
        """Return `row` as a line."""
        if row.rest is not None:
            name = cut(str(row.cells[0]), self._widths[0]).ljust(self._widths[0]) + " " * GAP
            return cut_line([Piece(name, Look.PLAIN), Piece(row.rest, row.look)], self._width)
        looks = [row.look] * len(self._columns)
        for at, look in row.looks:
            looks[at] = look
        for at, column in enumerate(self._columns):
            if column.curve:
                looks[at] = Look.CURVE
        return self._line(row.cells, looks)

    def _line(self, cells: Sequence[object], looks: Sequence[Look]) -> Line:
        pieces: Line = []
        for at in self._shown:
            width, cell = self._widths[at], cells[at]
            if isinstance(cell, Curve):
                text = cell.text(width, self._blocks)
            else:
                text = cut(str(cell), width)
                text = text.rjust(width) if self._columns[at].right else text.ljust(width)
            if pieces:
                pieces.append(
                    Piece(" " * GAP, looks[at] if looks[at] is Look.TITLE else Look.PLAIN)
                )
            pieces.append(Piece(text, looks[at]))
        return cut_line(pieces, self._width)

    def _taken(self) -> int:
        return sum(self._widths[at] + GAP for at in self._shown) - GAP

    def _stretch(self) -> None:
        """Give what is left to the curves."""
        curves = [at for at in self._shown if self._columns[at].curve]
        for at in curves:
            share = max(0, self._width - self._taken()) // len(curves[curves.index(at) :])
            self._widths[at] = min(CURVE_MAX, self._widths[at] + share)
