"""How messages show values and output of hosts."""

from __future__ import annotations

from ropeway_fleet.wording import NO_OUTPUT, OUTPUT_MAX_CHARS, failure_output, quoted


def test_what_a_host_says_is_shown_without_control_characters_and_not_at_length() -> None:
    assert quoted("it\x1b[31m failed\n twice") == '"it?[31m failed twice"'
    assert len(quoted("x" * 10_000)) <= OUTPUT_MAX_CHARS + 5


def test_a_failure_is_its_last_line_without_control_characters_and_cut() -> None:
    assert failure_output({"stderr": "one\ntwo \x1b[2J"}) == '"two ?[2J"'
    assert failure_output({"failed": True, "stderr": "a\nthe cause\n"}) == '"the cause"'
    assert failure_output({"msg": "no way"}) == '"no way"'
    assert len(failure_output({"stderr": "x" * 10_000})) <= OUTPUT_MAX_CHARS + 5
    for silent in ({}, None, {"stderr": "\n"}, {"results": [{"failed": False}]}):
        assert failure_output(silent) == NO_OUTPUT


def test_a_failure_of_a_loop_has_the_output_of_each_failed_item() -> None:
    items = [
        {"failed": True, "stderr": "one"},
        {"failed": False},
        {"unreachable": True, "msg": "b"},
    ]
    assert failure_output({"results": items}) == '"one"; "b"'
