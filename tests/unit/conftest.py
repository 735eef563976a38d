"""Property tests take the time that they need, and say how to repeat a failure."""

from hypothesis import settings

settings.register_profile("ropeway", deadline=None, print_blob=True)
settings.load_profile("ropeway")
