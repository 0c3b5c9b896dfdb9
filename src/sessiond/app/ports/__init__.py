"""What the application needs of the outside: a store, peers, a clock; each port belongs to its caller."""
