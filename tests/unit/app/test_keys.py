"""Keys as text and as files."""

from __future__ import annotations

import os
import pwd
import stat

import pytest

from ropeway.app import keys


def test_text_and_back():
    key = bytes(range(32))
    text = keys.encode(key)
    assert len(text) == 44
    assert keys.decode(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 43,
        "A" * 44,
        "A" * 42 + "B=",  # the spare bits are not zero
        "A" * 43 + "=\n",
        " " + "A" * 43 + "=",
        "A" * 20 + "\n" + "A" * 23 + "=",
        "-" * 43 + "=",
        "ä" * 43 + "=",
        keys.encode(bytes(31)),
        keys.encode(bytes(33)),
    ],
)
def test_what_is_not_exactly_one_key(text):
    with pytest.raises(ValueError, match="32 bytes"):
        keys.decode(text)


def test_public_key_of_a_private_one():
    # RFC 7748, section 6.1
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    assert keys.public_of(bob).hex() == (
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    )


def test_new_key_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "private.key"
    before = os.umask(0)
    try:
        private = keys.make_private(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.read_private(str(path)) == private
    assert path.read_text() == keys.encode(private) + "\n"


def test_new_keys_differ(tmp_path):
    assert len({keys.make_private(str(tmp_path / str(number))) for number in range(5)}) == 5


@pytest.mark.parametrize("there", ["file", "link to nothing", "directory"])
def test_nothing_is_overwritten(tmp_path, there):
    path = tmp_path / "private.key"
    if there == "file":
        path.write_text("precious")
    elif there == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(keys.KeyFileError, match="is there already"):
        keys.make_private(str(path))
    assert there != "file" or path.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_place_that_is_not_there(tmp_path):
    with pytest.raises(keys.KeyFileError, match="No such file or directory"):
        keys.make_private(str(tmp_path / "none" / "private.key"))


def test_key_that_cannot_be_written_leaves_no_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(keys.os, "fsync", full)
    with pytest.raises(keys.KeyFileError, match="No space left"):
        keys.make_private(str(tmp_path / "private.key"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("root", "given"), [(True, [(1, 2)]), (False, [])])
def test_service_user_owns_what_root_makes(tmp_path, monkeypatch, root, given):
    owners = []
    user = pwd.struct_passwd(("ropeway", "x", 1, 2, "", "/", "/bin/false"))
    monkeypatch.setattr(keys.os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(keys.os, "fchown", lambda descriptor, *owner: owners.append(owner))
    monkeypatch.setattr(keys.pwd, "getpwnam", lambda name: user)
    keys.make_private(str(tmp_path / "private.key"))
    assert owners == given
