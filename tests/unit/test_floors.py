"""The three floors: imports point downwards only, and the core stays free of the outside."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agent" / "ropeway"
FLOORS = ("core", "kernel", "app")
OUTSIDE = {
    "asyncio", "fcntl", "io", "logging", "multiprocessing", "os", "pathlib", "select",
    "selectors", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def modules(floor):
    found = sorted((PACKAGE / floor).rglob("*.py"))
    assert found, f"floor {floor} is empty"
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_nothing_from_above(floor):
    above = [f"ropeway.{name}" for name in FLOORS[FLOORS.index(floor) + 1 :]]
    for module in modules(floor):
        for name in imports(module):
            assert not any(name == a or name.startswith(a + ".") for a in above), (module, name)


def test_the_core_knows_no_socket_clock_thread_file_or_process():
    for module in modules("core"):
        for name in imports(module):
            assert name.partition(".")[0] not in OUTSIDE, (module, name)
            assert name not in ("random.random", "random.randrange"), (module, name)


def test_the_core_opens_no_file():
    for module in modules("core"):
        calls = [n.func for n in ast.walk(ast.parse(module.read_text())) if isinstance(n, ast.Call)]
        assert not [f for f in calls if isinstance(f, ast.Name) and f.id in ("open", "print")]


def test_parts_of_the_engine_do_not_know_the_engine():
    for module in modules("app/engine"):
        if module.name != "engine.py":
            assert "ropeway.app.engine.engine" not in imports(module), module


def test_the_loop_knows_no_part():
    known = {"ropeway.app.engine.freshness", "ropeway.app.engine.polling"}
    for name in imports(PACKAGE / "app" / "engine" / "loop.py"):
        if name.startswith("ropeway."):
            assert any(name == one or name.startswith(one + ".") for one in known), name
