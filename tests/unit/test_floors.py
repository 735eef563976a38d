"""Who may import whom: downwards only, and the core stays free of the outside."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agent" / "ropeway"
FLOORS = ("core", "kernel", "app")
#: What of the app the steward imports, whose process reads the configuration and keeps the state.
STEWARD_USES = ("app.config", "app.errors", "app.rate_limited_log", "app.store")
#: What of the steward its engine and its commands import. The service is loaded where it is forked,
#: and what removes leftovers by the command for that.
OF_STEWARD = {
    "app.engine": ("steward.answers", "steward.client", "steward.orders", "steward.pipe"),
    "app.cli": ("steward.client", "steward.keeper", "steward.service"),
    "app.commands.check": ("steward.netlink.interfaces", "steward.own_address"),
    "app.cleanup": ("steward.leftovers",),
}
#: What of ropeway the exporter and `top` import, processes of their own: the client's end.
MONITOR_USES = ("app.control.client", "app.monitor")
#: The rooms of the core, from the lowest up. A room imports lower ones only, none beside it: so the
#: data side and the control side know nothing of each other, and meet in the tables.
CORE = (
    ("drops", "timers", "tuning"),
    ("packet", "token_bucket"),
    ("address_range", "endpoint"),
    ("frame", "link", "settings"),
    ("events", "session"),
    ("strand",),
    ("redundancy", "tables"),
    ("link_report", "network"),
    ("data", "peers"),
    ("classic", "explain", "facade", "status"),
    ("node",),
)
#: What a room does not import besides, though it is lower.
NEVER = {
    "core.classic": ("core.frame", "core.peers", "core.session"),
}
#: Who alone imports a room, besides itself: for the annex its sockets and what makes nodes.
ONLY_BY = {
    "core.classic": ("app.engine.nodes", "kernel.classic_sockets"),
    "steward.netlink": (
        "app.commands.check",
        *(
            f"steward.{name}"
            for name in (
                "device",
                "firewall_guard",
                "learnt_routes",
                "leftovers",
                "reverse_path",
                "upkeep",
                "watch",
            )
        ),
    ),
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
        for floor in (*FLOORS, "steward")
        for module in modules(floor)
        if not is_in(name_of(module), room)
        and any(is_in(name, f"ropeway.{room}") for name in imports(module))
    }
    assert found == set(ONLY_BY[room])


def of_own(module, start):
    """Return what a module imports below `start`, without the package's name."""
    names = {name[len("ropeway.") :] for name in imports(module) if name.startswith("ropeway.")}
    return {name for name in names if is_in(name, start)}


def test_the_steward_imports_of_the_app_what_reads_and_keeps_files_only():
    for module in modules("steward"):
        for name in of_own(module, "app") - {"app"}:
            assert any(is_in(name, used) for used in STEWARD_USES), (module, name)


def test_core_and_kernel_know_nothing_of_the_steward():
    for floor in ("core", "kernel"):
        for module in modules(floor):
            assert not of_own(module, "steward"), module


def test_the_app_knows_the_steward_by_its_pipe():
    for module in modules("app"):
        room = next((room for room in OF_STEWARD if is_in(name_of(module), room)), None)
        for name in of_own(module, "steward") - {"steward", "steward.netlink"}:
            assert room is not None, (module, name)
            assert any(is_in(name, used) for used in OF_STEWARD[room]), (module, name)


def test_what_shows_the_agent_knows_it_by_its_control_socket():
    for module in modules("app/monitor"):
        for floor in (*FLOORS, "steward"):
            for name in of_own(module, floor) - {"app", "app.control"}:
                assert any(is_in(name, used) for used in MONITOR_USES), (module, name)


def test_the_agent_knows_nothing_of_what_shows_it_and_of_its_libraries():
    found = {
        name_of(module)
        for module in sorted(PACKAGE.rglob("*.py"))
        if any(
            is_in(name, shows)
            for name in imports(module)
            for shows in ("prometheus_client", "rich", "ropeway.app.monitor")
        )
    }
    # The command loads it for `ropeway top` alone.
    assert {name for name in found if not is_in(name, "app.monitor")} == {"app.cli"}


def test_pyroute2_is_in_the_steward_alone():
    found = {
        name_of(module)
        for module in sorted(PACKAGE.rglob("*.py"))
        if any(is_in(name, "pyroute2") for name in imports(module))
    }
    assert found
    assert all(is_in(name, "steward.netlink") for name in found), found


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
