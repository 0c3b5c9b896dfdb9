"""The running process: configuration, logs, clock, wiring and shutdown; no decision about a session is made here."""
