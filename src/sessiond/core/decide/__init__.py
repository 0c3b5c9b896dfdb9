"""Decisions: given a session as a draft, what happened and the time, what changes and what must be told to whom."""
