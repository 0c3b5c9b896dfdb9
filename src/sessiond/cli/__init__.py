"""The commands a person types, one file each; they print and exit, and decide nothing about a session."""
