"""Carries effects to the peers and their answers back; what is to be told to whom is decided elsewhere."""
