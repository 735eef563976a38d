"""The leases that a router has given, kept over crashes and power cuts.

SQLite with a write-ahead log and `synchronous` FULL: a change is on disk when
:meth:`LeaseFile.write` returns, or nothing of it is (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import List, Optional, Sequence, Tuple

from ropeway.app.store import state

#: An address, and the key that has it; empty where it is closed for a while, None for no lease.
Change = Tuple[str, Optional[bytes]]

_VERSION = 1
_SCHEMA = (
    "CREATE TABLE leases (address TEXT PRIMARY KEY, public_key BLOB NOT NULL) WITHOUT ROWID",
    "CREATE UNIQUE INDEX one_each ON leases (public_key) WHERE length(public_key) > 0",
    f"PRAGMA user_version = {_VERSION}",
)


class LeaseFileError(Exception):
    """The leases cannot be read or written; the text is a sentence."""


class LeaseFile:
    """The leases of the agent of a device. `LeaseFileError` where they cannot be read."""

    def __init__(self, device_name: str) -> None:
        self.path = state.path_of(device_name, "leases")
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            # SQLite gives its other files the mode of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(self.path, timeout=1.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._unreadable(error) from error
        try:
            self._prepare()
        except (sqlite3.Error, LeaseFileError) as error:
            self._database.close()
            raise self._unreadable(error) from error

    def read(self) -> List[Tuple[str, bytes]]:
        """Return the addresses, and the key that has each."""
        try:
            rows = self._database.execute("SELECT address, public_key FROM leases").fetchall()
            return [(str(address), bytes(key)) for address, key in rows]
        except (sqlite3.Error, TypeError) as error:
            raise self._unreadable(error) from error

    def write(self, changes: Sequence[Change]) -> None:
        """Write all changes or none; `LeaseFileError` where that is not possible."""
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            try:
                # All that change first: a key may have got another address before its former one
                # was taken away.
                for address, _ in changes:
                    database.execute("DELETE FROM leases WHERE address = ?", (address,))
                for address, key in changes:
                    if key is not None:
                        database.execute("INSERT INTO leases VALUES (?, ?)", (address, key))
                database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise LeaseFileError(
                f"{self.path} cannot be written ({error}), so no host gets a new lease: make room,"
                " and let the user of the agent write there"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            database.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                database.execute(statement)
            database.execute("COMMIT")
        elif version != _VERSION:
            raise LeaseFileError(f"it is of version {version}, of a later agent")

    def _unreadable(self, error: Exception) -> LeaseFileError:
        reason = getattr(error, "strerror", None) or error
        return LeaseFileError(
            f"{self.path} cannot be read ({reason}), so no leases are given: put back what was"
            " there, or remove it once no host uses an address of the pool"
        )
