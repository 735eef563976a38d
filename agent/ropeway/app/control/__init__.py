"""The control socket and what is read from it."""
