"""Changes of many sessions in one command: each by itself, none twice, none by an owner that is none any more."""

from typing import Any

import pytest

from sessiond.app.ports.store import Conflict, Create, Delete, Deleted, Stored, Update
from sessiond.core.errors import Fenced
from sessiond.core.update import apply
from sessiond.store import redis_scripts
from sessiond.store.redis import RedisStore
from sessiond.store.redis_commands import CHANGED_AT_ONCE, Commands, Quiet
from sessiond.store.redis_keys import Shards
from sessiond.testing.store_contract import SCOPE, session, touch
from tests.store.conftest import Open
from tests.store.proxy import FaultProxy
from tests.store.servers import ClusterOfThree, Server

MANY = CHANGED_AT_ONCE + 7
KEYS = [f"{SCOPE}-{number}" for number in range(1, MANY + 1)]
CHANGE_MANY = redis_scripts.CHANGE_MANY.sha.encode()


async def filled(store: RedisStore) -> RedisStore:
    """Store many sessions in one scope, which one command can be about wherever they lie."""
    await store.write([Create(session(key)) for key in KEYS])
    return store


@pytest.mark.parametrize("exclusive", [True, False])
async def test_each_is_written_at_its_revision(
    place: Server | ClusterOfThree, open_store: Open, *, exclusive: bool
) -> None:
    """One that is not at the revision that was named holds no other back; everybody reads the same then."""
    store = await filled(await open_store(place.url, exclusive=exclusive))
    updates = [Update(key, 1 + (key == KEYS[3]), touch()) for key in KEYS]
    changed = [Stored(apply(session(key), touch()), 2) for key in KEYS]
    answers = await store.write(updates)
    assert answers == [Conflict() if key == KEYS[3] else after for key, after in zip(KEYS, changed, strict=True)]
    changed[3] = Stored(session(KEYS[3]), 1)
    assert await store.find(SCOPE) == changed
    assert await (await open_store(place.url, exclusive=exclusive)).find(SCOPE) == changed


async def test_a_lost_reply_changes_nothing_twice(valkey: Server, open_store: Open) -> None:
    """A command whose reply is lost is repeated and recognised."""
    valkey.flush()
    async with FaultProxy(valkey.port) as proxy:
        store = await filled(await open_store(proxy.url))
        for revision in (1, 2, 3):
            proxy.lose_reply(CHANGE_MANY)
            answers = await store.write([Update(key, revision, touch()) for key in KEYS])
            assert {answer.revision for answer in answers if isinstance(answer, Stored)} == {revision + 1}
            assert Conflict() not in answers
        assert {stored.session.monitors["m"].used_tx for stored in await store.find(SCOPE)} == {1 + 3 * 5}


async def test_a_repeat_is_recognised_after_the_end(valkey: Server, open_store: Open) -> None:
    """A session that is gone by the time of a repeat was changed all the same; another command finds nothing."""
    valkey.flush()
    store = await filled(await open_store(valkey.url))
    commands = Commands(Shards(cluster=False), "daemon", lambda _: None, lambda: 0)
    commands.epoch = store.epoch
    quiet = [Quiet(Stored(apply(session(key), touch()), 2), touch(), behind=False) for key in KEYS[:2]]
    _, command = commands.change_many(quiet)
    _, other = commands.change_many(quiet)
    with valkey.client() as client:
        sent: Any = client.execute_command
        assert sent(*command) == "OO"
        _, one = (stored.revision for stored in (await (await open_store(valkey.url)).find(SCOPE))[:2])
        assert one == 2
        third = await open_store(valkey.url)
        assert await third.write([Delete(KEYS[0], 2)]) == [Deleted()]
        commands.epoch = third.epoch
        assert sent(*_as(command, third.epoch)) == "OO"
        assert sent(*_as(other, third.epoch)) == "CC"


async def test_a_former_owner_changes_nothing(valkey: Server, open_store: Open) -> None:
    """Who was taken over from is told so, and nothing is written."""
    valkey.flush()
    former = await filled(await open_store(valkey.url))
    owner = await open_store(valkey.url)
    with pytest.raises(Fenced):
        await former.write([Update(key, 1, touch()) for key in KEYS])
    assert {stored.revision for stored in await owner.find(SCOPE)} == {1}


async def test_what_somebody_else_has_written_is_read(valkey: Server, open_store: Open) -> None:
    """An owner that finds another revision than it knows takes what there is."""
    valkey.flush()
    store = await filled(await open_store(valkey.url))
    with valkey.client() as client:
        client.hset(f"session:{{{SCOPE}}}-1", "revision", "9")
    first, *others = await store.write([Update(key, 1, touch()) for key in KEYS])
    assert first == Conflict()
    assert Conflict() not in others
    assert await store.get(KEYS[0]) == Stored(session(KEYS[0]), 9)


def _as(command: tuple[Any, ...], epoch: int) -> tuple[Any, ...]:
    """Return a command as it is of another epoch, which is the first of its arguments."""
    first = 3 + command[2]
    return (*command[:first], epoch, *command[first + 1 :])
