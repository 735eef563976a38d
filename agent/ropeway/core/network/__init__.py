"""The virtual network: which host takes a packet."""
