"""`python3 -m ropeway` is the command `ropeway`."""

import sys

from ropeway.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
