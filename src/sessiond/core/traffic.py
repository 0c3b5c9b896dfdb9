"""Traffic: what went through a session, and what was done in it; counters that only grow."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sessiond.core.access import LARGEST
from sessiond.core.errors import InvalidArgument
from sessiond.core.update import Change


class Traffic(Struct, frozen=True, gc=False, kw_only=True):
    """What went through a session since it was made."""

    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    send_errors: int = 0
    receive_errors: int = 0


class Executions(Struct, frozen=True, gc=False, kw_only=True):
    """What was asked of a session: how often it was let do it, how often not, and when it last was (unix ms)."""

    authorized: int = 0
    refused: int = 0
    last_at_ms: int = 0
    functions: Mapping[str, int] = {}
    """How often each function was authorised, where performance is monitored; of the first so many only."""


def check_traffic(more: Traffic) -> Traffic:
    """Return traffic that can be counted; refuse numbers that are too large, by field path."""
    for name in Traffic.__struct_fields__:
        if not 0 <= getattr(more, name) <= _MOST_AT_ONCE:
            text = f"at most {_MOST_AT_ONCE} at once"
            raise InvalidArgument("INVALID_CONFIGURATION", text, field=f"traffic.{name}")
    return more


_MOST_AT_ONCE: Final = LARGEST // 2**16


def addition(more: Traffic) -> Change:
    """Return the change that counts traffic."""
    return Change(add={name: amount for name in Traffic.__struct_fields__ if (amount := getattr(more, name))})


def resources(more: Traffic) -> Mapping[str, int]:
    """Return what traffic uses of a session's quotas."""
    return {
        "bytes": more.bytes_sent + more.bytes_received,
        "packets": more.packets_sent + more.packets_received,
    }


def uptime_ms(activated_at_ms: int, closed_at_ms: int, now_ms: int) -> int:
    """Return how long a session has been in use, until its end if it has ended; 0 if it never was."""
    return max(0, (closed_at_ms or now_ms) - activated_at_ms) if activated_at_ms else 0
