"""The services around a gateway session manager as processes of their own, on the real wire; no part of the daemon."""
