"""The policy controller: asks for rules and quota, reports usage and ends."""
