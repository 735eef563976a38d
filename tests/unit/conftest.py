"""Property tests take the time that they need, and the same cases in every run.

With ``--hypothesis-profile=default`` each run tries others.
"""

from hypothesis import settings

ID_CHARACTERS = 60

settings.register_profile("ropeway", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ropeway")


def pytest_make_parametrize_id(val):
    """Name a case by the beginning of what it is given, where that would fill the screen."""
    if isinstance(val, (str, bytes)) and len(val) > ID_CHARACTERS:
        return repr(val[:ID_CHARACTERS]) + "..."
    return None
