"""Leases kept on disk for the engine: those that this host has given, and its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional, Union

from ropeway.steward import answers, orders

if TYPE_CHECKING:
    from ropeway.app.store.leases import LeaseFile

#: Sends an answer to the engine.
Say = Callable[[Union[answers.LeasesRead, answers.LeasesWritten]], None]


class Leases:
    """Keeps the leases that this host has given; what fails is told to the engine."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._file: Optional[LeaseFile] = None

    def read(self, device_name: str) -> None:
        """Say which leases there are."""
        # SQLite is for routers that give leases alone.
        from ropeway.app.store.leases import LeaseFileError

        try:
            kept = self._open(device_name).read()
        except LeaseFileError as error:
            self.close()
            self._say(answers.LeasesRead((), str(error)))
        else:
            self._say(answers.LeasesRead(tuple(kept)))

    def write(self, device_name: str, order: orders.WriteLeases) -> None:
        """Write changes, and say whether they are on disk."""
        from ropeway.app.store.leases import LeaseFileError

        changes = [
            (address, None if key is None else bytes.fromhex(key)) for address, key in order.changes
        ]
        try:
            self._open(device_name).write(changes)
        except LeaseFileError as error:
            self.close()
            self._say(answers.LeasesWritten(order.number, str(error)))
        else:
            self._say(answers.LeasesWritten(order.number))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, device_name: str) -> LeaseFile:
        from ropeway.app.store.leases import LeaseFile

        if self._file is None:
            self._file = LeaseFile(device_name)
        return self._file
