"""The books of the policy side: how much an account has left, what a session was granted, what it reported."""

from msgspec import Struct


class Meter(Struct, kw_only=True):
    """What one session was granted, and has reported, under one rating group or monitoring key; octets.

    `allowed` is what the gateway may use in all: the grants, and over-use that was written off.
    """

    reported_tx: int = 0
    reported_rx: int = 0
    granted: int = 0
    allowed: int = 0
    unlimited: bool = False
    tracked: bool = True
    """The gateway was let to use it; usage of a key that was refused is reported to nobody."""
    ended: bool = False
    """The gateway was told that no more will come, and need not report what it carries from then on."""

    @property
    def reported(self) -> int:
        """What was reported in both directions."""
        return self.reported_tx + self.reported_rx

    def give_back(self) -> None:
        """Return to the account what a session that ended was granted and did not use."""
        self.allowed = self.reported


class Account(Struct):
    """What a subscriber has in all under one key, None without end; shared by the sessions of the subscriber."""

    total: int | None
    meters: list[Meter]

    def left(self) -> int | None:
        """Return what is neither used nor in the hands of a gateway."""
        if self.total is None:
            return None
        return max(0, self.total - sum(max(meter.allowed, meter.reported) for meter in self.meters))

    def grant(self, meter: Meter, size: int) -> int:
        """Grant as much, or as much of it as there is; return how much that is."""
        meter.allowed = max(meter.allowed, meter.reported)
        left = self.left()
        volume = size if left is None else min(size, left)
        meter.allowed += volume
        meter.granted += volume
        return volume


class Books(Struct, kw_only=True):
    """One session as the policy side knows it."""

    session_id: str
    subscriber: str
    address: str
    apn: str
    plan: str
    credits: dict[str, Meter] = {}
    monitors: dict[str, Meter] = {}
    session_monitors: set[str] = set()
    updates: int = 0
    repeats: int = 0
    terminated: bool = False
