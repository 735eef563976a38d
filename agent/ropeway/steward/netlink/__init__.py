"""What the kernel says and does by netlink, through pyroute2, which nothing else imports."""

from ropeway.steward import vendored

vendored.provide()
