"""`python -m fer_client`: the command `fer-client` where its script is not on the PATH."""

import sys

from fer_client.cli import main

sys.exit(main())
