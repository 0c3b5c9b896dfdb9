"""eventd: tells it what happened to a session; nothing waits for the answer."""
