"""What the wire of a gateway says, as values of the core, and the other way round; nothing is decided here."""
