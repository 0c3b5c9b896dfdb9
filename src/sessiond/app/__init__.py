"""Makes a decision stick: read, decide, write, then let the effects out; no wire and no database is known here."""
