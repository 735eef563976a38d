"""The control side: hosts, their sessions and connections."""
