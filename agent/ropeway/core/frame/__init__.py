"""Frames of the secure encapsulation: bytes <-> frames."""
