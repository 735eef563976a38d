"""The classic encapsulation, an annex."""
