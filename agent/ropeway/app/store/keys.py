"""Keys as text and as files: base64 of 32 bytes, one key a file.

No error says what a file holds.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
import pwd
import stat
from typing import Optional

KEY_BYTES = 32
FILE_BYTES_MAX = 256
SERVICE_USER = "ropeway"
"""The user that the agent runs as, where the package is installed."""

# Bits of a mode that a key file must not have.
_OPEN_TO_GROUP_OR_OTHERS = 0o077
_OPEN_TO_OTHERS = 0o027


_NO_PATH = "the place of the {} holds a character that no path has: correct it"


class KeyFileError(Exception):
    """A key file that cannot be used or made; the text is a sentence for the user."""


def encode(key: bytes) -> str:
    """Return `key` as text."""
    return base64.b64encode(key).decode("ascii")


def decode(text: str) -> bytes:
    """Return the key that `text` stands for; `ValueError` where it is not exactly one."""
    try:
        key = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    # Base64 has spare bits at its end; only one spelling of a key counts.
    if len(key) != KEY_BYTES or encode(key) != text:
        raise ValueError(f"not the base64 text of {KEY_BYTES} bytes")
    return key


def public_of(private: bytes) -> bytes:
    """Return the public key of a private one."""
    from ropeway.core.session.noise import KeyPair

    return KeyPair.of(private).public


def service_user() -> Optional[pwd.struct_passwd]:
    """Return the user that the service runs as; None where the package is not installed."""
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None


def read_private(path: str, reader: Optional[pwd.struct_passwd] = None) -> bytes:
    """Return the private key in the file at `path`, which only its owner may open.

    `KeyFileError` where it is not there, cannot be read, is open to others or holds no key, or
    where `reader`, a user that is not the caller, could not read it.
    """
    return _read(
        path,
        "private key",
        _OPEN_TO_GROUP_OR_OTHERS,
        "chmod 0600",
        "make it with `ropeway genkey`",
        reader,
    )


def read_psk(path: str, reader: Optional[pwd.struct_passwd] = None) -> bytes:
    """Return the pre-shared key in the file at `path`, which a group may read and no others.

    `KeyFileError` as for `read_private`.
    """
    return _read(
        path,
        "pre-shared key",
        _OPEN_TO_OTHERS,
        "chmod 0640",
        "put it there, the same as on the other host, or leave psk_file out on both",
        reader,
    )


def _read(
    path: str,
    what: str,
    forbidden: int,
    remedy: str,
    advice: str,
    reader: Optional[pwd.struct_passwd],
) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            mode = found.st_mode
            content = file.read(FILE_BYTES_MAX + 1) if stat.S_ISREG(mode) else b""
    except FileNotFoundError:
        raise KeyFileError(f"the {what} {path} is not there: {advice}") from None
    except OSError as error:
        raise KeyFileError(
            f"the {what} {path} cannot be read ({error.strerror}):"
            f" run this as root, or let the user {SERVICE_USER} own it"
        ) from None
    except ValueError:
        raise KeyFileError(_NO_PATH.format(what)) from None
    if not stat.S_ISREG(mode):
        raise KeyFileError(f"the {what} {path} is not a file: {advice}")
    if mode & forbidden:
        raise KeyFileError(
            f"the {what} {path} is open to others (mode {stat.S_IMODE(mode):04o}):"
            f" run `{remedy} {path}`; if others can have read it, make a new one"
        )
    if reader is not None and found.st_uid != reader.pw_uid:
        by_group = bool(mode & stat.S_IRGRP & ~forbidden)
        if not by_group or found.st_gid not in os.getgrouplist(reader.pw_name, reader.pw_gid):
            remedy = "chgrp {}" if by_group else "chown {}:"
            raise KeyFileError(
                f"the {what} {path} cannot be read by the user {reader.pw_name}, which the agent"
                f" runs as: run `{remedy.format(reader.pw_name)} {path}`"
            )
    try:
        return decode(content.decode("ascii").strip())
    except ValueError:
        raise KeyFileError(
            f"the {what} {path} is not the base64 text of {KEY_BYTES} bytes: move the file away"
            f" and {advice}"
        ) from None


def make_private(path: str) -> bytes:
    """Make a private key in a new file at `path`, mode 0600; return the key.

    The file belongs to the user `ropeway` if root makes it and there is such a user.
    `KeyFileError` where a file is there already or none can be made.
    """
    private = os.urandom(KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeyFileError(
            f"{path} is there already: other hosts know this one by that key; move it away first"
            " if this host is to have another one"
        ) from None
    except OSError as error:
        raise KeyFileError(
            f"the private key {path} cannot be made ({error.strerror}): {_advice(error, path)}"
        ) from None
    except ValueError:
        raise KeyFileError(_NO_PATH.format("private key")) from None
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            owner = service_user() if os.geteuid() == 0 else None
            if owner is not None:
                os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
            file.write(encode(private).encode("ascii") + b"\n")
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise KeyFileError(
            f"the private key {path} cannot be written ({error.strerror}): look at the disk"
        ) from None
    return private


def _advice(error: OSError, path: str) -> str:
    """Return what to do where no file can be made at `path`."""
    if error.errno == errno.ENOENT:
        return "make the folder {} first".format(os.path.dirname(path) or ".")
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return "name a file with --file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return "look at the disk, or name another place with --file"
    return "run this as root, or name another place with --file"
