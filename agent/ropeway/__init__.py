"""ropeway: every packet over every link, the first copy wins."""

__version__ = "0.9.0"
