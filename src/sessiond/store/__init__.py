"""Remembers sessions, in memory or in Redis, behind one contract; what a session means is not known here."""
