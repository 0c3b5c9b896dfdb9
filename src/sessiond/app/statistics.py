"""Statistics: how many sessions there are, of which kinds, and what went through them together."""

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct, structs

from sessiond.app.listing import Listing, Meant
from sessiond.core.fields import traffic_of
from sessiond.core.filters import Filter
from sessiond.core.lifecycle import State
from sessiond.core.traffic import Traffic


class Statistics(Struct, frozen=True, gc=False):
    """What many sessions come to; only those that have not ended are counted by type."""

    states: Mapping[State, int]
    types: Mapping[str, int]
    traffic: Traffic


async def count(listing: Listing, wanted: Filter, meant: Meant) -> Statistics:
    """Return what all sessions that are meant come to."""
    states: Counter[State] = Counter()
    types: Counter[str] = Counter()
    traffic: Counter[str] = Counter()
    async for session in listing.every(wanted, meant):
        states[session.head.state] += 1
        if session.head.state is not State.CLOSED:
            types[session.type] += 1
        traffic.update(structs.asdict(traffic_of(session)))
    return Statistics(states, types, Traffic(**traffic))
