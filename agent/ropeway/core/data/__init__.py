"""The data side: the way of packets."""
