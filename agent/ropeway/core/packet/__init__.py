"""Packets of the device: read, cut, put together."""
