"""ropeway: every packet over every link, the first copy wins."""

__version__ = "0.11.0"
