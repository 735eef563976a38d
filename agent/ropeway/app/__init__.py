"""The top floor: configuration, the one loop and clock, the control socket and the command line."""
