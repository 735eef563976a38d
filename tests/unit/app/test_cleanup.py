"""What a killed agent left is removed, and nothing that belongs to one that runs."""

from __future__ import annotations

import errno
import os
import re
import types

import pytest

from ropeway.app import cleanup
from ropeway.app.control.client import ControlError
from ropeway.kernel.tun import OpenedDevice
from ropeway.steward import leftovers
from tests.unit.app.fake_kernel import interface


class TestNames:
    """The two names come from a file that may be spoilt."""

    def names(self, tmp_path, text):
        path = tmp_path / "ropeway.yaml"
        path.write_text(text)
        return cleanup.names(str(path))

    def test_what_the_file_says(self, tmp_path):
        text = "control: {path: /run/x.sock}\ndevice: {name: rope7}\n"
        assert self.names(tmp_path, text) == ("/run/x.sock", "rope7")

    @pytest.mark.parametrize("text", ["a: b\n", "control: {}\n", "{}"])
    def test_defaults(self, tmp_path, text):
        assert self.names(tmp_path, text) == ("/run/ropeway/control.sock", "ropeway0")

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("a: b\nc: {\n", ":3: this is not YAML: expected the node content"),
            ("a: b\n\tc: d\n", ":2: this is not YAML: "),
            ("a: \x01\n", ": this is not YAML: unacceptable character"),
            ("[1]\n", ": this is no mapping of keys"),
            ("", ": this is no mapping of keys"),
            ("control: 1\n", ": control is no mapping of keys"),
            ("device: [1]\n", ": device is no mapping of keys"),
            ("device:\n", ": device is no mapping of keys"),
            ("device: {name: 7}\n", ": device.name is no text"),
            ("[" * 4000, ": this is nested too deeply"),
            ("a: !!timestamp b\n", ": a value cannot be read"),
            (
                "a: &a {x: 1}\n"
                + "".join(
                    f"{new}: &{new} {{<<: [{', '.join(['*' + old] * 9)}]}}\n"
                    for old, new in zip("abcdefgh", "bcdefghi")
                ),
                ":1: with what its aliases repeat the file has more than 65536 values",
            ),
        ],
    )
    def test_cause_is_told(self, tmp_path, text, sentence):
        with pytest.raises(ValueError, match="^" + re.escape(f"{tmp_path}/ropeway.yaml{sentence}")):
            self.names(tmp_path, text)

    def test_file_that_is_not_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"ropeway\.yaml cannot be read \(No such file"):
            cleanup.names(str(tmp_path / "ropeway.yaml"))


@pytest.fixture
def kernel(monkeypatch):
    """Give a kernel with no device, which a test may add, and one table."""
    fake = types.SimpleNamespace(
        held=False, tables=["ropeway-rope7"], opened=[], removed=[], interfaces=[], rules=0
    )

    def open_device(name, features=frozenset()):
        fake.opened.append(name)
        if fake.held:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return OpenedDevice((), {})

    def delete(table):
        found = table in fake.tables
        fake.tables = [name for name in fake.tables if name != table]
        return found

    def device(alias="ropeway", kind="tun"):
        fake.interfaces.append(interface(9, "rope7", kind=kind, alias=alias))

    def index_of(name):
        if name not in [one.name for one in fake.interfaces]:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return 9

    fake.device = device
    monkeypatch.setattr(leftovers.socket, "if_nametoindex", index_of)
    monkeypatch.setattr(leftovers.interfaces, "interfaces", lambda: fake.interfaces)
    monkeypatch.setattr(leftovers.device, "delete", fake.removed.append)
    monkeypatch.setattr(leftovers.tun, "open_device", open_device)
    monkeypatch.setattr(leftovers.firewall, "delete", delete)
    # They are left where their device is gone.
    monkeypatch.setattr(
        leftovers.steering, "remove_left", lambda: fake.rules * (len(fake.removed) > 0)
    )
    return fake


def test_what_a_killed_agent_left_is_removed(kernel, tmp_path):
    kernel.device()
    kernel.rules = 2
    assert cleanup.clean_up(str(tmp_path / "c.sock"), "rope7") == [
        "removed the nft table ropeway-rope7",
        "removed the device rope7",
        "removed 2 routing rules",
    ]
    assert kernel.removed == [9]


def test_nothing_of_a_running_agent_is_touched(kernel, tmp_path):
    kernel.device()
    kernel.held = True
    with pytest.raises(ControlError, match="a running agent has the device rope7"):
        cleanup.clean_up(str(tmp_path / "c.sock"), "rope7")
    assert kernel.tables == ["ropeway-rope7"]
    assert kernel.removed == []


@pytest.mark.parametrize("other", [{"alias": "theirs"}, {"kind": "veth"}])
def test_devices_of_others_are_not_even_opened(kernel, tmp_path, other):
    kernel.device(**other)
    kernel.held = True
    done = cleanup.clean_up(str(tmp_path / "c.sock"), "rope7")
    assert done == ["removed the nft table ropeway-rope7"]
    assert (kernel.opened, kernel.removed) == ([], [])


def test_device_that_is_not_there_is_not_made(kernel, tmp_path):
    cleanup.clean_up(str(tmp_path / "c.sock"), "rope7")
    assert kernel.opened == []
