"""The data plane: installs and removes flows, and is set up again when its epoch changes."""
