"""Welcome: whether new sessions are let in."""

from sessiond.core.errors import Unavailable


class Welcome:
    """What an operator has said about new sessions; those that are there stay as they are."""

    def __init__(self) -> None:
        self.refuses_new = False

    def check(self) -> None:
        """Raise Unavailable if new sessions are refused."""
        if self.refuses_new:
            raise Unavailable("DRAINING", "sessiond takes no new sessions", retry_after_ms=10_000)
