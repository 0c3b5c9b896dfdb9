"""sessiond: one daemon that owns sessions."""
