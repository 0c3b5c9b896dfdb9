"""Names of sessions in Redis: whatever is interrupted, a claim has one bearer, and whoever is there is found."""

from collections.abc import Callable
from typing import Any

import pytest

from sessiond.app.ports.store import Conflict, Create, Delete, Stored
from sessiond.core.errors import Unavailable
from sessiond.core.names import of_data_source
from sessiond.store import redis_scripts as scripts
from sessiond.store.redis import RedisStore
from sessiond.store.redis_commands import Commands
from sessiond.store.redis_keys import name_key
from sessiond.store.redis_scripts import Script
from sessiond.testing.store_contract import CALLER, call
from tests.store.conftest import Open
from tests.store.proxy import FaultProxy
from tests.store.servers import ClusterOfThree, Server

FIRST, SECOND = call("first", source="boat"), call("second", source="boat")


async def commands_of(store: RedisStore, *wanted: Callable[[Commands], Any]) -> list[Any]:
    """Carry out commands as a daemon does that is killed after them."""
    slots_and_commands = [command(store._commands) for command in wanted]
    return [await store._link.ask(slot, *args) for slot, args in slots_and_commands]


async def test_who_is_about_to_come_keeps_a_claim_until_the_reservation_ends(
    place: Server | ClusterOfThree, open_store: Open
) -> None:
    """A daemon that dies in the middle of a creation leaves nothing to be seen, and its claim is free in the end."""
    dying, store = await open_store(place.url, exclusive=False), await open_store(place.url, exclusive=False)
    await commands_of(
        dying,
        lambda commands: commands.reserve("first", "dying-1"),
        lambda commands: commands.enter(CALLER, "dying-1 first", claim=True),
    )
    assert await store.get("first") is None
    assert [stored async for stored in store.load()] == await store.named(CALLER) == []
    assert await store.write([Create(SECOND)]) == [Conflict("first")]
    assert await store.write([Create(FIRST)]) == [Conflict()]
    await commands_of(dying, lambda commands: commands.reserve("first", "dying-1", to_live_ms=0))
    assert await store.write([Create(SECOND)]) == [Stored(SECOND, 1)]
    assert await commands_of(dying, lambda commands: commands.confirm(FIRST, None, "dying-1")) == [b"CONFLICT"]
    assert await store.named(of_data_source("boat")) == [Stored(SECOND, 1)]


@pytest.mark.parametrize("step", [scripts.RESERVE, scripts.ENTER, scripts.WRITE])
async def test_a_step_whose_answer_is_lost_is_repeated(valkey: Server, open_store: Open, step: Script) -> None:
    """Each step of a creation recognises what it has done: one session is created, and has its names once."""
    valkey.flush()
    async with FaultProxy(valkey.port) as proxy:
        store = await open_store(proxy.url, exclusive=False)
        proxy.lose_reply(step.sha.encode())
        assert await store.write([Create(FIRST)]) == [Stored(FIRST, 1)]
        assert await store.named(CALLER) == await store.named(of_data_source("boat")) == [Stored(FIRST, 1)]
        with valkey.client() as client:
            assert client.zcard(name_key(CALLER)) == 1


async def test_a_creation_that_is_cut_off_can_be_repeated(valkey: Server, open_store: Open) -> None:
    """Who hears that the store is away hears the truth when it is back: the session is there wholly, or not at all."""
    valkey.flush()
    async with FaultProxy(valkey.port) as proxy:
        store = await open_store(proxy.url, exclusive=False)
        proxy.swallow()
        with pytest.raises(Unavailable):
            await store.write([Create(FIRST)])
        proxy.heal()
        found = await store.get("first")
        assert await store.named(CALLER) == ([] if found is None else [found])


async def test_names_are_entered_when_daemons_begin_to_share(place: Server | ClusterOfThree, open_store: Open) -> None:
    """One owner writes no names; the first daemon that shares enters those of all sessions, before it is open."""
    alone = await open_store(place.url)
    await alone.write([Create(FIRST), Create(call("gone", number="+15550100009", source="boat"))])
    await alone.write([Delete("gone", 1)])
    assert await alone.named(CALLER) == [Stored(FIRST, 1)]
    store = await open_store(place.url, exclusive=False)
    assert await store.named(CALLER) == await store.named(of_data_source("boat")) == [Stored(FIRST, 1)]
    assert await store.write([Create(SECOND)]) == [Conflict("first")]
    again = await open_store(place.url)
    assert await again.named(CALLER) == [Stored(FIRST, 1)]
    assert await again.write([Create(SECOND)]) == [Conflict("first")]


@pytest.mark.parametrize("exclusive", [True, False])
async def test_two_creations_of_one_call_cannot_both_have_a_claim(
    valkey: Server, open_store: Open, *, exclusive: bool
) -> None:
    """Writes under way are reckoned with: of one call, one comes first, and the other hears of it."""
    valkey.flush()
    store = await open_store(valkey.url, exclusive=exclusive)
    answers = await store.write([Create(FIRST), Create(SECOND)])
    assert sorted(isinstance(answer, Conflict) for answer in answers) == [False, True]
