"""Who may import whom: downwards only, and the core stays free of the outside."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agent" / "ropeway"
FLOORS = ("core", "kernel", "app")
#: The rooms of the core, from the lowest up. A room imports lower ones only, none beside it: so the
#: data side and the control side know nothing of each other, and meet in the tables.
CORE = (
    ("drops", "timers", "tuning"),
    ("packet", "token_bucket"),
    ("endpoint",),
    ("frame", "link", "settings"),
    ("events", "session"),
    ("strand",),
    ("redundancy", "tables"),
    ("link_report", "network"),
    ("data", "peers"),
    ("classic", "facade", "status"),
    ("node",),
)
#: What a room does not import besides, though it is lower.
NEVER = {
    "core.classic": ("core.frame", "core.peers", "core.session"),
}
#: Who alone imports a room, besides itself: for the annex its sockets and what makes nodes.
ONLY_BY = {
    "core.classic": ("app.engine.nodes", "kernel.classic_sockets"),
}
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


def room_of(module):
    return module.relative_to(PACKAGE / "core").parts[0].partition(".")[0]


def name_of(module):
    return ".".join(module.relative_to(PACKAGE).with_suffix("").parts)


def is_in(name, room):
    return name == room or name.startswith(room + ".")


def test_every_room_of_the_core_has_its_place():
    rooms = {room_of(module) for module in modules("core")} - {"__init__"}
    assert sorted(rooms) == sorted(room for beside in CORE for room in beside)


@pytest.mark.parametrize("rank", range(len(CORE)))
def test_a_room_of_the_core_imports_lower_ones_only(rank):
    for module in modules("core"):
        own = room_of(module)
        if own not in CORE[rank]:
            continue
        others = {room for beside in CORE[rank:] for room in beside} - {own}
        for name in imports(module):
            wrong = [room for room in others if is_in(name, f"ropeway.core.{room}")]
            assert not wrong, (module, name)


@pytest.mark.parametrize("room", NEVER)
def test_a_room_keeps_away_from(room):
    for module in modules(room.replace(".", "/")):
        for name in imports(module):
            wrong = [other for other in NEVER[room] if is_in(name, f"ropeway.{other}")]
            assert not wrong, (module, name)


@pytest.mark.parametrize("room", ONLY_BY)
def test_a_room_is_imported_by_these_alone(room):
    found = {
        name_of(module)
        for floor in FLOORS
        for module in modules(floor)
        if not is_in(name_of(module), room)
        and any(is_in(name, f"ropeway.{room}") for name in imports(module))
    }
    assert found == set(ONLY_BY[room])


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
