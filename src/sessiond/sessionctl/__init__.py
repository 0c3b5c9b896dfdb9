"""`sessionctl`: the operator's and the developer's command, a client of the daemon like any other."""
