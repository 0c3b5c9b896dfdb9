"""What the daemon lets its operator do and see, through whichever surface; the daemon itself is what does it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct
from prometheus_client import CollectorRegistry

from sessiond.app.resync import Readiness
from sessiond.core.lifecycle import State


class PeerState(StrEnum):
    """Whether a peer can be reached."""

    ABSENT = "ABSENT"
    IDLE = "IDLE"
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    FAILING = "FAILING"


class PeerStatus(Struct, frozen=True, kw_only=True):
    """One peer, by its name in the configuration; times are unix milliseconds, 0: never."""

    name: str
    address: str = ""
    state: PeerState = PeerState.ABSENT
    last_answer_ms: int = 0
    last_error: str = ""
    pending: int = 0


class StoreStatus(Struct, frozen=True, kw_only=True):
    """The store, and what an acknowledged write survives, from weakest to strongest."""

    kind: str
    url: str
    connected: bool = True
    survives: tuple[str, ...] = ()
    exclusive: bool = True
    epoch: int = 0
    last_error: str = ""


class Status(Struct, frozen=True, kw_only=True):
    """How the daemon is; times are unix milliseconds."""

    version: str
    started_at_ms: int
    ready: bool
    draining: bool
    log_level: str
    config_file: str
    config_loaded_at_ms: int
    store: StoreStatus
    peers: Sequence[PeerStatus]
    setup: Readiness | None
    """None: there is no pipelined."""
    states: Mapping[State, int]
    pending: int
    watchers: int = 0
    next_timer_ms: int = 0


class Reloaded(Struct, frozen=True):
    """Keys whose new value is in force now, and keys whose new value waits for a restart."""

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


class Operations(Protocol):
    """What the daemon lets its operator do."""

    @property
    def started_at_s(self) -> int:
        """When the daemon started, unix seconds."""
        ...

    @property
    def device_id(self) -> str:
        """The hardware id of the gateway; empty if it has none."""
        ...

    @property
    def registry(self) -> CollectorRegistry:
        """All metrics."""
        ...

    def status(self) -> Status:
        """Return how the daemon is."""
        ...

    def stop(self) -> None:
        """Shut down as with SIGTERM."""
        ...

    def set_log_level(self, level: str | None, duration_ms: int = 0) -> str:
        """Log from this level on (None: the configured one), for so long if it is not 0; return the level until now."""
        ...

    async def reload(self, *, validate_only: bool = False) -> Reloaded:
        """Read configuration and rules again, or only look; raise InvalidArgument with all that is wrong with them."""
        ...
