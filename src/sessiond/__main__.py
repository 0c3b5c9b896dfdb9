"""`python -m sessiond` is the same program as `sessiond`."""

import sys

from sessiond.cli import main

sys.exit(main())
