"""Sessions: who proves what, sealing, replay windows."""
