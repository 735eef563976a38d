"""Names and defaults that filters of more than one role or check use."""

from __future__ import annotations

# The groups of an inventory.
ALL_GROUP = "ropeway"
ROUTER_GROUP = "ropeway_routers"
# As the agent has it for the key routers.
ROUTERS_MAX = 8
CLIENT_GROUP = "ropeway_clients"

ENCAPSULATIONS = ("secure", "classic")
DEFAULT_ENCAPSULATION = "secure"
# The name of a host's first network: its file is ropeway.yaml, its unit ropeway.service.
MAIN_NETWORK = "ropeway"
DEFAULT_PORT = 51840
DEFAULT_DEVICE = "ropeway0"
# The package tells systemd-networkd to leave ropeway* alone.
DEVICE_PREFIX = "ropeway"
# IFNAMSIZ of linux/if.h without the closing zero.
INTERFACE_NAME_MAX_BYTES = 15
# What every IPv4 host takes, and the largest packet (RFC 791).
MTU_RANGE = range(576, 65536)
