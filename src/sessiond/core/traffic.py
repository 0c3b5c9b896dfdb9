"""Traffic: what went through a session, as its owner records it (requirement P3)."""

from msgspec import Struct


class Traffic(Struct, frozen=True, kw_only=True):
    """Counters since the session was made."""

    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    send_errors: int = 0
    receive_errors: int = 0
