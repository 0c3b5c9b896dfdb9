"""directoryd: the record that says which gateway serves a subscriber."""
