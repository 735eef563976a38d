"""One TCP connection over emulated links: how much it carries, in real time, as root."""
