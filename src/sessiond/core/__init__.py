"""What a session is and what follows from what happens to it; no clock, no wire, no store, no logging lives here."""
