"""A send buffer for tests of what goes through it."""

from __future__ import annotations


class Unmeasured:
    """Stands for a send buffer whose size is of no interest."""

    measures = True
    holds_trains = True

    def before_batch(self):
        pass

    def after_batch(self, refused):
        pass

    def squeeze_in(self, send):
        send()
