"""Emulated links: models without a clock, nodes joined by them, and a wire between namespaces."""
