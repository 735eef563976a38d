"""Lines, tables and curves."""

from __future__ import annotations

import pytest

from ropeway.app.monitor.lines import (
    ASCII_BLOCKS,
    BLOCKS,
    CURVE_MAX,
    Column,
    Curve,
    Look,
    Piece,
    Row,
    Table,
    clean,
    cut,
    cut_line,
    text_of,
)

COLUMNS = (
    Column("NAME", 0),
    Column("RTT", 1, right=True),
    Column("CURVE", 3, curve=True),
    Column("NOTE", 2),
)
ROWS = [
    Row(["eth0", "12.5", Curve([1.0, None, 2.0], 1.0), "fine"]),
    Row(["wlan0"], Look.BAD, rest="carries nothing: it is down"),
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("eth0", "eth0"),
        ("grün", "grün"),
        ("\x1b[31mred\x1b[0m", "?[31mred?[0m"),
        ("a\tb\nc\rd\x7f\x9b", "a?b?c?d??"),
        ("\u202eabc\u2066", "?abc?"),
        ("wide 漢", "wide ?"),
        ("e\u0301", "e?"),
        ("שלום", "????"),
        ("\ud800\u2028\u200b", "???"),
        ("[bold]x[/]", "[bold]x[/]"),
    ],
)
def test_only_what_takes_one_cell_is_shown(text, shown):
    assert clean(text) == shown


def test_what_is_too_long_has_a_mark():
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdef", 5) == "abcd~"
    assert cut("abcdef", 1) == "~"
    assert cut("abcdef", 0) == ""
    line = cut_line([Piece("abc"), Piece("def", Look.BAD), Piece("ghi")], 5)
    assert line == [Piece("abc"), Piece("d~", Look.BAD)]


def lines_of(width):
    table = Table(COLUMNS, ROWS, width, BLOCKS)
    return [text_of(line) for line in (table.title(), *map(table.line, ROWS))]


def test_columns_are_as_wide_as_their_cells():
    assert lines_of(27) == [
        "NAME    RTT  CURVE     NOTE",
        "eth0   12.5       ▄ ▇  fine",
        "wlan0  carries nothing: it~",
    ]


@pytest.mark.parametrize(
    ("width", "title"),
    [
        (80, "NAME    RTT  CURVE                           NOTE"),
        (21, "NAME    RTT  NOTE"),
        (12, "NAME    RTT"),
        (8, "NAME"),
        (3, "NA~"),
    ],
)
def test_columns_that_do_not_fit_go_the_least_important_first(width, title):
    assert lines_of(width)[0] == title
    assert all(len(line) <= width for line in lines_of(width))


def test_a_long_name_leaves_room_for_the_rest():
    table = Table(COLUMNS, [Row(["x" * 300, "1.0", Curve([], 1.0), ""])], 60, BLOCKS)
    assert text_of(table.title()).split() == ["NAME", "RTT", "CURVE", "NOTE"]


@pytest.mark.parametrize("blocks", [BLOCKS, ASCII_BLOCKS])
def test_a_curve_goes_from_nothing_to_its_highest_point(blocks):
    drawn = Curve([0.0, None, 5.0, 10.0], 1.0).text(6, blocks)
    assert drawn == "  " + blocks[0] + " " + blocks[3] + blocks[-1]
    assert Curve([0.1, 0.1], 100.0).text(2, blocks) == blocks[0] * 2
    assert Curve(list(range(CURVE_MAX * 2)), 1.0).text(3, blocks)[-1] == blocks[-1]
    assert Curve([-1.0], 1.0).text(1, blocks) == blocks[0]
