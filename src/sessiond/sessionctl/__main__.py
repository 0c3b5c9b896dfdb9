"""`python -m sessiond.sessionctl` is the same program as `sessionctl`."""

from sessiond.sessionctl.main import main

main()
