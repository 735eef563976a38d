"""pyroute2 as the package brings it along: one version, for the steward alone."""

from __future__ import annotations

import importlib.metadata
import logging
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from ropeway.steward import vendored

CHECKOUT = Path(__file__).resolve().parents[2]
PINS = CHECKOUT / ".config/requirements/vendored.txt"
AGENT = CHECKOUT / "agent"

# include/uapi/linux/rtnetlink.h, if_link.h and wireless.h
RTM_NEWLINK = 16
IFLA_ADDRESS, IFLA_BROADCAST, IFLA_IFNAME, IFLA_MTU = 1, 2, 3, 4
IFLA_QDISC, IFLA_WIRELESS, IFLA_MAP = 6, 11, 14
IFLA_OPERSTATE, IFLA_LINKMODE, IFLA_LINKINFO = 16, 17, 18
IFLA_STATS64, IFLA_AF_SPEC, IFLA_CARRIER, IFLA_XDP = 23, 26, 33, 43
IFLA_MAX_MTU, IFLA_PROP_LIST, IFLA_ALT_IFNAME, IFLA_PERM_ADDRESS = 51, 52, 53, 54
IFLA_PARENT_DEV_NAME, IFLA_PARENT_DEV_BUS_NAME = 56, 57
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
NESTED = 0x8000
IF_OPER_DORMANT, IF_LINK_MODE_DORMANT = 5, 1
SIOCGIWAP, SIOCGIWSCAN, IWEVCUSTOM, IWEVASSOCREQIE = 0x8B15, 0x8B19, 0x8C02, 0x8C07
HARDWARE = bytes.fromhex("3c9c0f112233")


def pinned_versions() -> List[str]:
    """The version of pyroute2 that each pin names."""
    text = PINS.read_text(encoding="utf-8")
    return re.findall(r"^pyroute2==(\S+) --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)


def modules_outside_the_steward() -> List[str]:
    paths = [path.relative_to(AGENT) for path in sorted(AGENT.glob("ropeway/*/**/*.py"))]
    outside = [path for path in paths if path.parts[1] != "steward"]
    return [".".join(path.with_suffix("").parts).replace(".__init__", "") for path in outside]


def said_by(code: str, *options: str) -> str:
    """What a fresh interpreter prints that has the agent on its path."""
    preamble = f"import sys; sys.path.insert(0, {str(AGENT)!r})\n"
    done = subprocess.run(
        [sys.executable, *options, "-c", preamble + code],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_package_has_the_version_inside_that_the_agent_asks_for_elsewhere() -> None:
    (version,) = pinned_versions()
    assert f'"pyroute2=={version}"' in (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    assert version == vendored.PYROUTE2_VERSION


def test_the_tests_run_with_the_version_that_the_package_has_inside() -> None:
    assert [importlib.metadata.version("pyroute2")] == pinned_versions()


def test_no_module_outside_the_steward_loads_pyroute2() -> None:
    modules = modules_outside_the_steward()
    assert "ropeway.app.cli" in modules
    loaded = said_by(
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'pyroute2'])"
    )
    assert loaded == "[]\n"


def test_the_package_s_own_folder_goes_before_what_is_installed(tmp_path: Path) -> None:
    own = tmp_path / "pyroute2"
    own.mkdir()
    for name in ("__init__.py", "lab.py", "common.py"):
        (own / name).write_text("")
    found = said_by(
        "import pathlib\n"
        "from ropeway.steward import vendored\n"
        f"vendored.FOLDER = pathlib.Path({str(tmp_path)!r})\n"
        "before = list(sys.path)\n"
        "vendored.provide()\n"
        "import pyroute2.common\n"
        "print(pyroute2.common.__file__, sys.path == before)"
    )
    assert found == f"{own / 'common.py'} True\n"


def test_without_that_folder_it_is_what_is_installed() -> None:
    found = said_by(
        "from ropeway.steward import vendored\n"
        "assert not vendored.FOLDER.exists()\n"
        "vendored.provide()\n"
        "vendored.provide()\n"
        "from pyroute2.config.version import __version__\n"
        "print(__version__)"
    )
    assert found.split() == pinned_versions()


def test_where_there_is_none_the_error_says_what_to_install() -> None:
    said = said_by(
        "from ropeway.app.errors import StartError\n"
        "from ropeway.steward import vendored\n"
        "try: vendored.provide()\n"
        "except StartError as error: print(error)",
        "-S",
        "-I",
    )
    assert f"`pip install pyroute2=={vendored.PYROUTE2_VERSION}`" in said


def test_it_is_loaded_without_what_the_steward_never_uses() -> None:
    loaded = said_by(
        "from ropeway.steward import vendored\n"
        "vendored.provide()\n"
        "from pyroute2.iproute.linux import IPRoute\n"
        "from pyroute2.netlink.nfnetlink.nftsocket import NFTSocket\n"
        "heavy = ('asyncio', 'ctypes', 'sqlite3', 'unittest', 'pyroute2.ndb', 'pyroute2.ipdb')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "import unittest.mock"
    )
    assert loaded == "[]\n"


# rtnetlink(7): a header of 16 bytes, struct ifinfomsg, attributes padded to 4 bytes.


def attribute(kind: int, payload: bytes) -> bytes:
    made = struct.pack("=HH", 4 + len(payload), kind) + payload
    return made + bytes(-len(made) % 4)


def link_message(*attributes: bytes) -> bytes:
    # family, padding, ARPHRD_ETHER, index, IFF_UP and others, change
    body = struct.pack("=BxHiII", 0, 1, 3, 0x11043, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, 0, 0, 0) + body


def wireless_event(command: int, payload: bytes) -> bytes:
    """What wireless_send_event() of net/wireless/wext-core.c sends: a name, and struct iw_event."""
    event = struct.pack("=HH", 4 + len(payload), command) + payload
    return link_message(attribute(IFLA_IFNAME, b"wlp2s0\0"), attribute(IFLA_WIRELESS, event))


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def wireless_interface(counters: int) -> bytes:
    """A Wi-Fi interface as a dump shows it; kernels differ in how many counters they have."""
    names = attribute(IFLA_ALT_IFNAME, b"wlx3c9c0f112233\0")
    return link_message(
        attribute(IFLA_IFNAME, b"wlp2s0\0"),
        attribute(IFLA_OPERSTATE, bytes([IF_OPER_DORMANT])),
        attribute(IFLA_LINKMODE, bytes([IF_LINK_MODE_DORMANT])),
        number(IFLA_MTU, 1500),
        number(IFLA_MAX_MTU, 2304),
        attribute(IFLA_CARRIER, b"\0"),
        attribute(IFLA_MAP, bytes(32)),
        attribute(IFLA_ADDRESS, HARDWARE),
        attribute(IFLA_BROADCAST, b"\xff" * 6),
        attribute(IFLA_PERM_ADDRESS, HARDWARE),
        attribute(IFLA_QDISC, b"noqueue\0"),
        attribute(IFLA_XDP | NESTED, attribute(2, b"\0")),
        attribute(IFLA_PROP_LIST | NESTED, names),
        attribute(IFLA_AF_SPEC, attribute(2, attribute(1, bytes(132)))),
        attribute(IFLA_PARENT_DEV_NAME, b"0000:02:00.0\0"),
        attribute(IFLA_PARENT_DEV_BUS_NAME, b"pci\0"),
        # newer than this version of pyroute2
        number(66, 65536),
        attribute(IFLA_STATS64, bytes(8 * counters)),
    )


def read_whole(value: Any) -> None:
    """Read each attribute in a message: pyroute2 decodes one when it is asked for."""
    if hasattr(value, "keys"):
        for key in value:
            read_whole(value[key])
    elif hasattr(value, "name"):
        read_whole(value.value)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            read_whole(inner)


@pytest.fixture
def decoded(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Decode one link message whole; afterwards nothing has been logged."""
    vendored.provide()
    from pyroute2.netlink.rtnl.marshal import MarshalRtnl

    def decode(message: bytes) -> Any:
        (made,) = MarshalRtnl().parse(message)
        read_whole(made)
        return made

    with caplog.at_level(logging.DEBUG):
        yield decode
    assert caplog.messages == []


@pytest.mark.parametrize("counters", [24, 25])
def test_a_wireless_interface_is_read(decoded: Any, counters: int) -> None:
    link = decoded(wireless_interface(counters))
    assert link["index"] == 3
    assert link.get_attr("IFLA_IFNAME") == "wlp2s0"
    assert link.get_attr("IFLA_OPERSTATE") == "DORMANT"
    assert link.get_attr("IFLA_MTU") == 1500
    assert link.get_attr("IFLA_ADDRESS") == "3c:9c:0f:11:22:33"
    assert link.get_attr("IFLA_LINKINFO") is None


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (SIOCGIWAP, struct.pack("=H", 1) + HARDWARE + bytes(8)),
        (SIOCGIWSCAN, bytes(12)),
        (IWEVCUSTOM, struct.pack("=HH", 5, 0) + b"hello"),
        (IWEVASSOCREQIE, struct.pack("=HH", 200, 0) + bytes(range(200))),
        (0x8BFF, b""),
    ],
)
def test_a_wireless_event_is_read_and_tells_nothing_of_the_interface(
    decoded: Any, command: int, payload: bytes
) -> None:
    link = decoded(wireless_event(command, payload))
    assert link.get_attr("IFLA_IFNAME") == "wlp2s0"
    assert link.get_attr("IFLA_WIRELESS") is not None
    # Whoever takes it for the interface itself finds no MTU.
    assert link.get_attr("IFLA_MTU") is None


def test_a_wireless_event_of_any_length_is_read(decoded: Any) -> None:
    for length in range(64):
        for fill in (b"\0", b"\x04", b"\x8b", b"\xff"):
            decoded(
                link_message(
                    attribute(IFLA_WIRELESS, fill * length), attribute(IFLA_IFNAME, b"wlp2s0\0")
                )
            )


@pytest.mark.parametrize("kind", ["wwan", "rmnet", "batadv", "hsr", "virt_wifi", "ovpn", "netkit"])
def test_a_kind_of_interface_that_it_does_not_know_is_read(decoded: Any, kind: str) -> None:
    settings = b"".join(number(which, 1) for which in range(1, 12))
    link = decoded(
        link_message(
            attribute(IFLA_IFNAME, b"net7\0"),
            attribute(
                IFLA_LINKINFO | NESTED,
                attribute(IFLA_INFO_KIND, kind.encode() + b"\0")
                + attribute(IFLA_INFO_DATA | NESTED, settings),
            ),
        )
    )
    assert link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND") == kind


def test_an_interface_without_a_hardware_address_is_read(decoded: Any) -> None:
    link = decoded(link_message(attribute(IFLA_IFNAME, b"ropeway0\0"), number(IFLA_MTU, 1400)))
    assert link.get_attr("IFLA_ADDRESS") is None
