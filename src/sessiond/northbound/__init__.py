"""Translates the gRPC surfaces of callers into the same calls of the application; no rule of a session is here."""
