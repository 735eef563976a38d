"""The middle floor: one Linux interface a file, no policy.

Nothing here decides anything about the protocol; the modules move bytes, read what the kernel
says about itself, and report failures as `OSError` or as counts by errno name.
"""
