"""Calls and streams of real programs over emulated links: freezes, and where a link carried."""

#: The kinds, and the rate in kbit/s that one copy of each takes on a link at most.
RATES_KBIT = {"webrtc": 1200.0, "srt": 2200.0}
#: What the calls without ropeway, one over each link, are called among the modes.
ALONE = "alone"
MODES = ("redundant", "adaptive", "single", ALONE)


class Missing(Exception):
    """A program or library that a kind needs is not installed; a sentence."""
