"""`python -m fer_loadtest` is `fer-loadtest`."""

import sys

from fer_loadtest.cli import main

if __name__ == "__main__":
    sys.exit(main())
