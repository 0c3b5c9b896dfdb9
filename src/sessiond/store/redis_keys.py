"""The names of everything that is kept in Redis, and which slot of a cluster each lies in.

    session:{<scope>}<rest>          hash: one session; for a gateway session the scope is its subscriber
    session-scope:{<scope>}          sorted set: the sessions of a scope, in the order of their creation
    session-gone:{<scope>}<rest>     text: the operations on a session that is gone, for a while
    session-index:<shard>            sorted set: all sessions of a shard, by their next deadline (inf: none)
    session-name:{<name>}            sorted set: the sessions that bear a name, in the order of their coming; of daemons
                                     that share alone: one owner has it in memory
    session-owner:<shard>            text: the epoch of the daemon that may write to the shard
    session-feed                     stream: the last changes; in a cluster, session-feed:<shard> has those of a shard
    session-feed-{log}               stream: in a cluster, up to where the feed of which shard has grown, in one order
    session-feed-ends-{log}           hash: in a cluster, up to where the feed of each shard is in that order
    session-lease:{keeper}           text: of daemons that share, the one that looks after the sessions
    session-daemons:{keeper}         sorted set: these daemons, by when they are dead unless they say that they are not
    session-facts:{keeper}           hash: how many have died, and which have pipelined set up
    session-wish:{keeper}            text: the daemon that gets the usage, and wants the lease for that
    session-work:{keeper}            sorted set: sessions that the others have left something to be done for
    session-work-count:{keeper}      text: how often that was
    session-epoch                    hash: the newest epoch, its mode, and the one in which all names were entered

What one write touches lies in one slot. So that the index of a session can be among it, a cluster has a shard per slot,
each named by a tag that hashes to the slot; a single node has few shards, which only keep replies small.
"""

from binascii import crc_hqx
from functools import cache, lru_cache
from typing import Final

from msgspec import Struct

from sessiond.core.ids import scope_of

SLOTS: Final = 16384
RECENT: Final = 2048
"""Keys whose names are remembered: a session is written, and written again soon."""
SINGLE_NODE_SHARDS: Final = 64
EPOCH: Final = "session-epoch"
LEASE: Final = "session-lease:{keeper}"
DAEMONS: Final = "session-daemons:{keeper}"
FACTS: Final = "session-facts:{keeper}"
WISH: Final = "session-wish:{keeper}"
WORK: Final = "session-work:{keeper}"
WORK_COUNT: Final = "session-work-count:{keeper}"
FEED: Final = "session-feed"
FEED_LOG: Final = "session-feed-{log}"
FEED_ENDS: Final = "session-feed-ends-{log}"


class Names(Struct, frozen=True):
    """The keys that belong to one session, and their slot."""

    slot: int
    session: str
    scope: str
    gone: str


@lru_cache(RECENT)
def names_of(key: str) -> Names:
    """Return the names for a session key."""
    scope = scope_of(key)
    tag, rest = _tag(scope), key.removeprefix(scope)
    return Names(slot_of(tag), f"session:{{{tag}}}{rest}", scope_name(scope), f"session-gone:{{{tag}}}{rest}")


def scope_name(scope: str) -> str:
    """Return the key of the list of the sessions of a scope."""
    return f"session-scope:{{{_tag(scope)}}}"


def name_key(name: str) -> str:
    """Return the key of the list of the sessions that bear a name."""
    return f"session-name:{{{_tag(name)}}}"


def slot_of_scope(scope: str) -> int:
    """Return the slot of everything of a scope, or of a name."""
    return slot_of(_tag(scope))


def slot_of_log() -> int:
    """Return the slot of the log of all feeds."""
    return slot_of("log")


def slot_of(name: str) -> int:
    """Return the slot of a hash tag, or of a name without one (Redis cluster specification: CRC16)."""
    return crc_hqx(name.encode(), 0) % SLOTS


class Shards:
    """The parts of the index: each has a list of sessions and an owner."""

    def __init__(self, *, cluster: bool) -> None:
        self.count = SLOTS if cluster else SINGLE_NODE_SHARDS
        self.per_slot = cluster

    def index(self, slot: int) -> str:
        """Return the name of the list that the sessions of a slot are in."""
        return f"session-index:{self._shard(slot)}"

    def owner(self, slot: int) -> str:
        """Return the name of the epoch that the sessions of a slot belong to."""
        return f"session-owner:{self._shard(slot)}"

    def together(self, slot: int) -> int:
        """Return a number that slots have in common whose sessions one command may touch."""
        return slot if self.per_slot else 0

    def feed(self, slot: int) -> str:
        """Return the name of the feed that the changes of a slot are in."""
        return f"{FEED}:{self._shard(slot)}" if self.per_slot else FEED

    def slots(self) -> range:
        """Return one slot of every shard."""
        return range(0, SLOTS, SLOTS // self.count)

    def _shard(self, slot: int) -> str:
        return f"{{{_tags()[slot]}}}" if self.per_slot else str(slot * self.count // SLOTS)


def _tag(scope: str) -> str:
    """Return a scope as a hash tag, which ends at the first brace."""
    return scope.replace("%", "%25").replace("}", "%7D")


@cache
def _tags() -> list[str]:
    """Return, for each slot, the smallest number that hashes to it."""
    tags: dict[int, str] = {}
    number = 0
    while len(tags) < SLOTS:
        tags.setdefault(slot_of(str(number)), str(number))
        number += 1
    return [tags[slot] for slot in range(SLOTS)]
