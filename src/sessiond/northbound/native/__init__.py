"""Our own API, sessiond.v1, translated to and from calls of the application."""
