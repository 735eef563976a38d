"""Keys as text and as files."""

from __future__ import annotations

import os
import pwd
import stat

import pytest

from ropeway.app.store import keys


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


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("none/private.key", r"\(No such file or directory\): make the folder {}/none first"),
        ("new/", r"\(Is a directory\): name a file with --file"),
        ("k" * 300, r"\(File name too long\): name a file with --file"),
        ("a\0b", "the place of the private key holds a character that no path has"),
        ("a\ud800b", "the place of the private key holds a character that no path has"),
    ],
)
def test_place_where_no_key_can_be_made(tmp_path, place, advice):
    with pytest.raises(keys.KeyFileError, match=advice.format(tmp_path)):
        keys.make_private(f"{tmp_path}/{place}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("read", [keys.read_private, keys.read_psk])
@pytest.mark.parametrize("place", ["/a\0b", "/a\ud800b"])
def test_place_that_is_no_path(read, place):
    with pytest.raises(keys.KeyFileError, match="holds a character that no path has"):
        read(place)


@pytest.mark.parametrize(
    ("read", "mode", "owner", "group", "remedy"),
    [
        (keys.read_private, 0o600, 0, 0, None),
        (keys.read_private, 0o600, 1, 0, "chown service: "),
        (keys.read_private, 0o600, 1, 1, "chown service: "),
        (keys.read_psk, 0o600, 0, 0, None),
        (keys.read_psk, 0o640, 1, 0, None),
        (keys.read_psk, 0o640, 1, 1, "chgrp service "),
        (keys.read_psk, 0o600, 1, 0, "chown service: "),
    ],
)
def test_key_that_the_service_could_not_read(
    tmp_path, monkeypatch, read, mode, owner, group, remedy
):
    """`owner` and `group` are how far the user's numbers are from those of the file."""
    path = tmp_path / "key"
    path.write_text(keys.encode(bytes(range(32))))
    path.chmod(mode)
    found = path.stat()
    user = pwd.struct_passwd(
        ("service", "x", found.st_uid + owner, found.st_gid + group, "", "/", "/bin/false")
    )
    monkeypatch.setattr(keys.os, "getgrouplist", lambda name, number: [number])
    if remedy is None:
        assert read(str(path), user) == bytes(range(32))
        return
    with pytest.raises(keys.KeyFileError) as caught:
        read(str(path), user)
    assert str(caught.value).endswith(
        f"{path} cannot be read by the user service, which the agent runs as: run `{remedy}{path}`"
    )


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
