"""What was counted on meters, in Redis: beside the session until its next change, and never lost or counted twice."""

from typing import Any

import pytest

from sessiond.app.ports.store import Account, Conflict, Count, Counted, Create, Stored, Update
from sessiond.core.errors import Fenced, Unavailable
from sessiond.store.redis import RedisStore
from sessiond.testing.store_contract import SCOPE, metered_accounts, touch, used
from tests.store.conftest import Open
from tests.store.proxy import FaultProxy
from tests.store.servers import ClusterOfThree, Server

KEY = used().key
NAME = f"session:{{{SCOPE}}}-1"


async def with_usage(store: RedisStore) -> Account:
    """Store a session, and count some of its usage."""
    await store.write([Create(used())])
    (account,) = metered_accounts(store)
    use(account, 70)
    assert await store.write([Count([account])]) == [Counted()]
    return account


def use(account: Account, octets: int) -> None:
    """Count on an account that so many octets were moved in all."""
    assert account.meter is not None
    assert account.meter.count("web", False, 1, octets, 5, 0, 0, 9)


async def test_one_field_is_written_until_the_next_change(valkey: Server, open_store: Open) -> None:
    """Usage costs one short field; the next change of the session writes the parts, and the field goes."""
    valkey.flush()
    store = await open_store(valkey.url)
    with valkey.client() as client:
        await with_usage(store)
        fields: Any = client.hgetall(NAME)
        assert (fields["meter"], fields["revision"]) == ('[["web",false,70,5,9]]', "2")
        assert '"used_tx":10' in fields["credit:1"]
        await store.write([Update(KEY, 2, touch())])
        fields = client.hgetall(NAME)
        assert "meter" not in fields
        assert '"used_tx":70' in fields["credit:1"]
        assert '"moved_tx":70' in fields["rule:web"]


async def test_usage_is_there_after_a_restart(place: Server | ClusterOfThree, open_store: Open) -> None:
    """A daemon that dies leaves what it has counted; the next one sees it, and goes on from there."""
    await with_usage(await open_store(place.url))
    store = await open_store(place.url)
    assert await store.get(KEY) == Stored(used(tx=70, rx=5, at_s=9), 2)
    (account,) = store.accounts(SCOPE) or ()
    assert account.behind
    (written,) = await store.write([Update(KEY, 2, touch())])
    assert not account.behind
    again = await open_store(place.url)
    assert await again.get(KEY) == written


async def test_usage_that_was_never_written_goes_with_the_next_change(valkey: Server, open_store: Open) -> None:
    """What was counted while the store was away is in the session that is decided about, and written with it."""
    valkey.flush()
    async with FaultProxy(valkey.port) as proxy:
        store = await open_store(proxy.url)
        account = await with_usage(store)
        use(account, 90)
        proxy.cut(refuse=True)
        for writes in ([Create(used("IMSI7-1"))], [Count([account])]):
            with pytest.raises(Unavailable):
                await store.write(writes)
        proxy.heal()
        assert account.meter is not None
        assert account.meter.unsaved
        stored = await store.get(KEY)
        assert stored == Stored(used(tx=90, rx=5, at_s=9), 2)
        assert await store.write([Update(KEY, 2, touch())]) != [Conflict()]
    again = await open_store(valkey.url)
    found = await again.get(KEY)
    assert found is not None
    assert found.session.credits == stored.session.credits
    assert found.session.rules == stored.session.rules


@pytest.mark.parametrize("exclusive", [True, False])
async def test_others_read_what_was_counted(valkey: Server, open_store: Open, *, exclusive: bool) -> None:
    """A session is read with its usage, and changed with it, by whoever comes next."""
    valkey.flush()
    await with_usage(await open_store(valkey.url))
    store = await open_store(valkey.url, exclusive=exclusive)
    assert (store.accounts(SCOPE) is None) is not exclusive
    (written,) = await store.write([Update(KEY, 2, touch())])
    assert isinstance(written, Stored)
    assert written.session.credits["1"].used_tx == 70
    with valkey.client() as client:
        assert client.hget(NAME, "meter") is None


async def test_a_lost_reply_is_nobodys_trouble(valkey: Server, open_store: Open) -> None:
    """A command whose reply was lost is repeated, and recognised by what it has written."""
    valkey.flush()
    async with FaultProxy(valkey.port) as proxy:
        store = await open_store(proxy.url)
        await store.write([Create(used())])
        (account,) = metered_accounts(store)
        use(account, 70)
        proxy.lose_reply(b"EVALSHA")
        assert await store.write([Count([account])]) == [Counted()]
        assert await store.get(KEY) == Stored(used(tx=70, rx=5, at_s=9), 2)


async def test_usage_waits_for_a_write_that_is_under_way(valkey: Server, open_store: Open) -> None:
    """As long as nobody knows what a session is, nothing is counted on it, and whoever reads it waits."""
    valkey.flush()
    store = await open_store(valkey.url)
    account = await with_usage(store)
    use(account, 80)
    counting = store.write([Count([account])])
    sending = counting.__await__()
    next(sending)
    assert store.accounts(SCOPE) is None
    counting.close()
    assert await store.get(KEY) == Stored(used(tx=80, rx=5, at_s=9), 3)
    assert store.accounts(SCOPE) == (account,)


async def test_a_daemon_that_was_taken_over_counts_nothing(valkey: Server, open_store: Open) -> None:
    """What the old owner counts is not written."""
    valkey.flush()
    old = await open_store(valkey.url)
    account = await with_usage(old)
    new = await open_store(valkey.url)
    use(account, 99)
    with pytest.raises(Fenced):
        await old.write([Count([account])])
    with pytest.raises(Fenced):
        old.accounts(SCOPE)
    assert await new.get(KEY) == Stored(used(tx=70, rx=5, at_s=9), 2)


async def test_a_server_that_lost_a_session_gets_it_back_with_its_usage(valkey: Server, open_store: Open) -> None:
    """What was counted is not written to a session that is not there; it is put back as memory has it."""
    valkey.flush()
    store = await open_store(valkey.url)
    account = await with_usage(store)
    with valkey.client() as client:
        client.delete(NAME)
    use(account, 99)
    assert await store.write([Count([account])]) == [Counted((KEY,))]
    again = await open_store(valkey.url)
    assert await again.get(KEY) == Stored(used(tx=99, rx=5, at_s=9), 2)


async def test_many_sessions_are_counted_at_once(place: Server | ClusterOfThree, open_store: Open) -> None:
    """One conflict among many holds nobody else back; memory knows more than the store, and puts it right."""
    store = await open_store(place.url)
    keys = [f"IMSI{number:04d}-1" for number in range(600)]
    await store.write([Create(used(key)) for key in keys])
    accounts = [account for key in keys for account in metered_accounts(store, key.partition("-")[0])]
    for account in accounts:
        use(account, 70)
    accounts[300].revision = 7
    assert await store.write([Count(accounts)]) == [Counted((keys[300],))]
    again = await open_store(place.url)
    stored = [await again.get(key) for key in keys]
    assert [one.session.credits["1"].used_tx for one in stored if one is not None].count(70) == len(keys)
