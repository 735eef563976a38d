"""The steward: what may wait or needs privileges, in a process of its own."""
