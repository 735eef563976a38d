"""What the protocol is: no socket, clock, thread, file or process in here."""
