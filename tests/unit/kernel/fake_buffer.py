"""A send buffer for tests of what goes through it."""

from __future__ import annotations


class Unmeasured:
    """Stands for a send buffer that has room, or after `fills` frames or trains has none."""

    measures = True
    holds_trains = True
    room = -1

    def __init__(self, fills=None):
        self.left = fills

    def before_batch(self):
        pass

    def after_batch(self, refused):
        pass

    def takes(self, size):
        return self.look(size)

    def look(self, taken):
        # Below 0, so that each frame and train is asked for.
        self.room = -1
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0
