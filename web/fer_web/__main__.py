"""`python -m fer_web` is `fer-web`."""

import sys

from fer_web.cli import main

sys.exit(main())
