"""The store contract as tests: one suite for every store, which never asks whom it talks to.

Subclass `StoreContract` in a test module of yours and give it two fixtures: `store`, an empty store, and `rival`, a
second way to the same sessions. Where there can be only one way, both are the same. The clauses are numbered in
`sessiond.app.ports.store`.
"""

import asyncio
from contextlib import suppress

from msgspec import structs
from msgspec.structs import replace

from sessiond.app.ports.store import (
    Account,
    Conflict,
    Count,
    Counted,
    Create,
    Delete,
    Deleted,
    Store,
    Stored,
    Told,
    Update,
    Write,
)
from sessiond.core.changes import shown
from sessiond.core.charging import ChargingCredit
from sessiond.core.credit import Report, Tracking
from sessiond.core.decide.meter import metered
from sessiond.core.errors import OutOfRange
from sessiond.core.ids import scope_of
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Monitor
from sessiond.core.names import of_data_source, of_number
from sessiond.core.quantity import GrantedUnits, RequestedUnits
from sessiond.core.rules import Rule, Seen, Target
from sessiond.core.session import Context, Gateway, Head, Identity, Session
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation
from sessiond.core.update import Change, Put, Remove, UpdateCriteria, apply

SCOPE = "IMSI001010000000001"
ADDITIONS = 10
MOST_ATTEMPTS = 10_000
"""How often a writer tries before its store is taken for one that refuses everything."""
PATIENCE_S = 10.0
"""How long changes that were written are waited for; only a store that loses them ever waits so long."""
NUMBER = "+15550100001"
CALLER = of_number("ussd", NUMBER)


def session(key: str = f"{SCOPE}-1", created_at_ms: int = 1) -> Session:
    """Return a small gateway session."""
    return Session(
        key=key,
        type="lte",
        scope=scope_of(key),
        head=Head(state=State.ACTIVE, created_at_ms=created_at_ms),
        context=Context(subscriber=scope_of(key)),
        gateway=Gateway(),
        monitors={"m": Monitor(used_tx=1, in_flight=Report(1, 1, 0, "USAGE_REPORT", RequestedUnits()))},
    )


def touch(tx: int = 5) -> UpdateCriteria:
    """Return a change that adds, sets, puts and removes."""
    return UpdateCriteria(
        {
            ("monitors", "m"): Change({"used_tx": tx}, {"last_report": True}),
            ("monitors", "n"): Put(Monitor(used_rx=7)),
            ("rules", "none"): Remove(),
            ("gateway", ""): Change({"request_number": 1}),
        }
    )


def call(key: str, *, number: str = NUMBER, source: str = "", created_at_ms: int = 1) -> Session:
    """Return a session of a phone number, of a data source, or of both."""
    head = Head(state=State.ACTIVE, created_at_ms=created_at_ms)
    return Session(
        key=key, type="ussd", scope=key, head=head, identity=Identity(msisdn=number, data_source=source, number=1)
    )


def over() -> UpdateCriteria:
    """Return the change that ends a session."""
    return UpdateCriteria({("head", ""): Change(set={"state": State.CLOSED})})


class StoreContract:
    """The clauses, in their order."""

    async def test_get_returns_what_the_last_write_left(self, store: Store) -> None:
        """Clause 1: a session that was stored is read back; one that was not is None."""
        assert await store.get(session().key) is None
        await store.write([Create(session())])
        assert await store.get(session().key) == Stored(session(), 1)

    async def test_find_returns_a_scope_in_order_of_creation(self, store: Store) -> None:
        """Clause 2: the sessions of a scope come in the order of their creation, without those of others."""
        first, second, third = session(f"{SCOPE}-9"), session(f"{SCOPE}-2"), session(f"{SCOPE}-5")
        await store.write([Create(first), Create(session(f"{SCOPE}0-1")), Create(second)])
        await store.write([Create(third)])
        await store.write([Update(first.key, 1, touch())])
        assert [stored.session.key for stored in await store.find(SCOPE)] == [first.key, second.key, third.key]
        assert await store.find("nobody") == []

    async def test_find_returns_what_the_last_write_left(self, store: Store) -> None:
        """Clause 2: a session is found as it is, with its revision; one that came again is the newest of its scope."""
        await store.write([Create(session()), Create(session(f"{SCOPE}-2"))])
        await store.write([Update(session().key, 1, touch())])
        assert (await store.find(SCOPE))[0] == Stored(apply(session(), touch()), 2)
        await store.write([Delete(session().key, 2)])
        await store.write([Create(session())])
        assert [stored.session.key for stored in await store.find(SCOPE)] == [f"{SCOPE}-2", session().key]

    async def test_a_session_of_no_subscriber_is_alone_in_its_scope(self, store: Store) -> None:
        """Clause 2: the scope of a session that is not a gateway session is its key, whatever it looks like."""
        keys = ["sms-7", "{sms}-7", "}", "a b:c*", "%7D", "sm\N{LATIN SMALL LETTER SHARP S}"]
        await store.write([Create(session(key)) for key in keys])
        assert [await store.find(key) for key in keys] == [[Stored(session(key), 1)] for key in keys]
        assert [await store.get(key) for key in keys] == [Stored(session(key), 1) for key in keys]

    async def test_create_needs_a_free_key(self, store: Store) -> None:
        """Clause 3: a second session of the same key is a conflict and changes nothing."""
        assert await store.write([Create(session())]) == [Stored(session(), 1)]
        assert await store.write([Create(session(created_at_ms=9))]) == [Conflict()]
        assert await store.get(session().key) == Stored(session(), 1)

    async def test_update_counts_the_revision_up(self, store: Store) -> None:
        """Clause 4: a change of the present revision is written, and the revision counts up by one."""
        await store.write([Create(session())])
        (written,) = await store.write([Update(session().key, 1, touch())])
        assert written == Stored(apply(session(), touch()), 2)
        assert await store.get(session().key) == written

    async def test_delete_removes(self, store: Store) -> None:
        """Clause 4: a session is removed, from its scope too."""
        await store.write([Create(session())])
        assert await store.write([Delete(session().key, 1)]) == [Deleted()]
        assert await store.get(session().key) is None
        assert await store.find(SCOPE) == []

    async def test_a_removed_session_can_come_again(self, store: Store) -> None:
        """Clause 4: what was removed leaves nothing behind, so that a new session of that key is new."""
        await store.write([Create(session())])
        await store.write([Update(session().key, 1, touch())])
        await store.write([Delete(session().key, 2)])
        again = session(created_at_ms=9)
        assert await store.write([Delete(session().key, 2)]) == [Conflict()]
        assert await store.write([Create(again)]) == [Stored(again, 1)]
        assert await store.get(again.key) == Stored(again, 1)

    async def test_a_stale_revision_changes_nothing(self, store: Store) -> None:
        """Clause 5: a write of another revision, or of a session that is not there, is a conflict."""
        await store.write([Create(session())])
        await store.write([Update(session().key, 1, touch())])
        before = await store.get(session().key)
        stale: list[Write] = [Update(session().key, 1, touch()), Delete(session().key, 1), Update("none", 1, touch())]
        assert await store.write([*stale, Delete("none", 1)]) == [Conflict()] * 4
        assert await store.get(session().key) == before

    async def test_writes_of_one_call_are_independent(self, store: Store) -> None:
        """Clause 6: answers come in order, and a conflict in the middle holds nobody back."""
        other = session(f"{SCOPE}-2")
        answers = await store.write([Create(session()), Update("none", 1, touch()), Create(other)])
        assert answers == [Stored(session(), 1), Conflict(), Stored(other, 1)]

    async def test_no_writes_are_fine(self, store: Store) -> None:
        """Clause 6: nothing to write gives no answers."""
        assert await store.write([]) == []

    async def test_changes_are_applied_as_the_core_applies_them(self, store: Store) -> None:
        """Clause 7: after many changes the stored session is the one that `apply` makes of them."""
        await store.write([Create(session())])
        expected = session()
        for revision in range(1, 6):
            await store.write([Update(session().key, revision, touch(revision))])
            expected = apply(expected, touch(revision))
        assert await store.get(session().key) == Stored(expected, 6)

    async def test_load_yields_everything_once(self, store: Store) -> None:
        """Clause 8: all sessions are loaded, each once, as the last write left it."""
        everyone = [session(f"IMSI{number % 40}-{number}") for number in range(250)]
        await store.write([Create(one) for one in everyone])
        await store.write([Delete(one.key, 1) for one in everyone[200:]])
        await store.write([Update(one.key, 1, touch()) for one in everyone[:100]])
        loaded = [stored async for stored in store.load()]
        expected = [Stored(apply(one, touch()), 2) for one in everyone[:100]]
        expected += [Stored(one, 1) for one in everyone[100:200]]
        assert sorted(loaded, key=_key) == sorted(expected, key=_key)

    async def test_sessions_are_found_by_name(self, store: Store) -> None:
        """Clause 12: a name leads to those that bear it, by age; to ended ones of a list too, not to those gone."""
        everyone = [call(f"s-{at}", number="", source="boat", created_at_ms=at) for at in (30, 10, 20, 40)]
        await store.write([Create(one) for one in (*everyone, call("other", number="", source="car"), session())])
        await store.write([Delete("s-40", 1), Update("s-10", 1, over())])
        found = await store.named(of_data_source("boat"))
        ended = apply(everyone[1], over())
        assert found == [Stored(ended, 2), Stored(everyone[2], 1), Stored(everyone[0], 1)]
        assert [stored.session.key for stored in await store.named(of_data_source("car"))] == ["other"]
        assert await store.named(of_data_source("train")) == []

    async def test_a_claim_has_one_bearer(self, store: Store) -> None:
        """Clause 13: who comes second hears who has it, and is nowhere to be found; another claim is another's."""
        assert await store.write([Create(call("first"))]) == [Stored(call("first"), 1)]
        assert await store.write([Create(call("second"))]) == [Conflict("first")]
        assert await store.get("second") is None
        assert await store.named(CALLER) == [Stored(call("first"), 1)]
        other = call("other", number="+15550100002")
        assert await store.write([Create(other)]) == [Stored(other, 1)]
        assert [stored.session.key async for stored in store.load()] in (["first", "other"], ["other", "first"])

    async def test_a_claim_is_free_when_its_bearer_is_over(self, store: Store) -> None:
        """Clause 13: who is over or gone bears no claim, who had none of it can have it then, and the first again."""
        await store.write([Create(call("first"))])
        await store.write([Create(call("second"))])
        await store.write([Update("first", 1, over())])
        assert await store.named(CALLER) == []
        assert await store.write([Create(call("second"))]) == [Stored(call("second"), 1)]
        await store.write([Delete("first", 2)])
        assert await store.write([Create(call("first"))]) == [Conflict("second")]
        await store.write([Delete("second", 1)])
        assert await store.write([Create(call("first"))]) == [Stored(call("first"), 1)]
        assert [stored.session.key for stored in await store.named(CALLER)] == ["first"]

    async def test_a_key_that_is_taken_is_no_claim(self, store: Store) -> None:
        """Clauses 3 and 13: who would create a session of names under a key that is taken changes nothing."""
        await store.write([Create(call("first"))])
        (answer,) = await store.write([Create(call("first", number="+15550100002"))])
        assert isinstance(answer, Conflict)
        assert await store.named(of_number("ussd", "+15550100002")) == []
        assert await store.get("first") == Stored(call("first"), 1)

    async def test_no_change_gives_another_name(self, store: Store) -> None:
        """Clause 13: a session cannot come to claim what it did not when it was created, but can be told otherwise."""
        await store.write([Create(call("first"))])
        refused = UpdateCriteria({("identity", ""): Change(set={"msisdn": "+15550100002"})})
        try:
            await store.write([Update("first", 1, refused)])
        except ValueError:
            pass
        else:
            raise AssertionError
        renamed = UpdateCriteria({("identity", ""): Change(set={"identifier": "a name for people"})})
        (written,) = await store.write([Update("first", 1, renamed)])
        assert await store.named(CALLER) == [written]

    async def test_of_many_that_want_a_claim_one_has_it(self, store: Store, rival: Store) -> None:
        """Clause 13: of creations at the same time one succeeds, the others hear of one that has or had a chance."""
        for turn in range(3):
            number = f"+1555010{turn:04d}"
            ways = [(way, call(f"{turn}-{at}", number=number)) for at, way in enumerate((store, rival) * 4)]
            answers = await asyncio.gather(*(way.write([Create(one)]) for way, one in ways))
            won = [one for (_, one), (answer,) in zip(ways, answers, strict=True) if answer == Stored(one, 1)]
            lost = [answer for (answer,) in answers if isinstance(answer, Conflict)]
            assert (len(won), len(lost)) == (1, 7)
            assert all(answer.holder for answer in lost)
            assert await rival.named(of_number("ussd", number)) == [Stored(won[0], 1)]

    async def test_names_are_the_same_from_everywhere(self, store: Store, rival: Store) -> None:
        """Clauses 12 and 13: a name that one way gave, another one sees, and takes when it is free."""
        await store.write([Create(call("first", source="boat"))])
        assert (
            await rival.named(CALLER)
            == await store.named(of_data_source("boat"))
            == [Stored(call("first", source="boat"), 1)]
        )
        assert await rival.write([Create(call("second"))]) == [Conflict("first")]
        await store.write([Delete("first", 1)])
        assert await rival.named(of_data_source("boat")) == []
        assert await rival.write([Create(call("second"))]) == [Stored(call("second"), 1)]
        assert await store.named(CALLER) == [Stored(call("second"), 1)]

    async def test_another_way_leads_to_the_same_sessions(self, store: Store, rival: Store) -> None:
        """Clauses 1 and 2: what one writes, the other reads and changes."""
        await store.write([Create(session())])
        assert await rival.get(session().key) == Stored(session(), 1)
        await rival.write([Update(session().key, 1, touch())])
        assert await store.get(session().key) == Stored(apply(session(), touch()), 2)
        assert await store.find(SCOPE) == [stored async for stored in rival.load()]
        assert await store.write([Delete(session().key, 2)]) == [Deleted()]
        assert await rival.find(SCOPE) == []

    async def test_one_of_two_writers_wins(self, store: Store, rival: Store) -> None:
        """Clauses 3 to 5: of two writes of one revision at the same time, one is a conflict and changes nothing."""
        one, other = session(created_at_ms=1), session(created_at_ms=2)
        answers = await asyncio.gather(store.write([Create(one)]), rival.write([Create(other)]))
        assert sorted(answer == [Conflict()] for answer in answers) == [False, True]
        before = await store.get(one.key)
        assert before in (Stored(one, 1), Stored(other, 1))
        writes = (store.write([Update(one.key, 1, touch(3))]), rival.write([Delete(one.key, 1)]))
        (update,), (delete,) = await asyncio.gather(*writes)
        assert (update == Conflict()) is not (delete == Conflict())
        assert await rival.get(one.key) == (None if update == Conflict() else update)

    async def test_no_change_of_two_writers_is_lost(self, store: Store, rival: Store) -> None:
        """Clause 4: whoever reads, changes and meets no conflict has changed what is there."""
        await store.write([Create(session())])
        await asyncio.gather(*(_add_often(way, session().key) for way in (store, rival, store, rival)))
        after = await rival.get(session().key)
        assert after is not None
        assert (after.session.monitors["m"].used_tx, after.revision) == (1 + 4 * ADDITIONS, 1 + 4 * ADDITIONS)

    async def test_what_is_counted_is_in_the_session(self, store: Store, rival: Store) -> None:
        """Clause 11: whoever reads a session sees what was counted on its meter, and a Count counts its revision up."""
        await store.write([Create(used()), Create(used(f"{SCOPE}-2"))])
        first, second = accounts = metered_accounts(store)
        for octets in (30, 70):
            if first.meter is None or second.meter is None:
                return  # this store has to ask before it says what a session is: usage is decided about
            assert first.meter.count("web", False, 1, octets, 5, 0, 0, 9)
            assert await store.write([Count(accounts)]) == [Counted()]
        expected = Stored(used(tx=70, rx=5, at_s=9), 3)
        assert await store.get(used().key) == await rival.get(used().key) == expected
        assert (await store.find(SCOPE))[0] == expected
        assert expected in [stored async for stored in rival.load()]
        assert await rival.get(f"{SCOPE}-2") == Stored(used(f"{SCOPE}-2"), 3)

    async def test_a_change_takes_what_was_counted_along(self, store: Store, rival: Store) -> None:
        """Clause 11: a change of some parts leaves what was counted on others as it is; what is gone counts nothing."""
        await store.write([Create(used())])
        account, *_ = metered_accounts(store)
        if account.meter is None:
            return  # this store has to ask before it says what a session is: usage is decided about
        assert account.meter.count("web", False, 1, 70, 5, 0, 0, 9)
        await store.write([Count([account])])
        assert account.meter.count("web", False, 1, 80, 5, 0, 0, 9)
        before = await store.get(used().key)
        assert before == Stored(used(tx=80, rx=5, at_s=9), 2)
        assert await store.write([Update(used().key, 1, touch())]) == [Conflict()]
        (written,) = await store.write([Update(used().key, 2, touch())])
        expected = Stored(apply(before.session, touch()), 3)
        assert written == expected
        assert await store.write([Count([account])]) == [Counted((used().key,))]
        assert await store.get(used().key) == await rival.get(used().key) == expected

    async def test_create_among_others(self, store: Store, rival: Store) -> None:
        """Clause 19: who creates among what was found in a scope meets a conflict if there is another by now."""
        first, second, third = session(f"{SCOPE}-1"), session(f"{SCOPE}-2"), session(f"{SCOPE}-3")
        nobody: frozenset[str] = frozenset()
        assert await store.write([Create(first, nobody)]) == [Stored(first, 1)]
        assert await rival.write([Create(second, nobody)]) == [Conflict()]
        assert await rival.get(second.key) is None
        assert await rival.write([Create(second, frozenset({first.key}))]) == [Stored(second, 1)]
        await store.write([Delete(first.key, 1)])
        assert await store.write([Create(third, frozenset({first.key, second.key}))]) == [Stored(third, 1)]
        answers = await asyncio.gather(
            *(way.write([Create(session(f"IMSI7-{number}"), nobody)]) for number, way in enumerate([store, rival] * 3))
        )
        assert len([answer for (answer,) in answers if isinstance(answer, Stored)]) == 1

    async def test_changes_tell_what_happened(self, store: Store) -> None:
        """Clause 20: what is created, changed and removed is told, before and after, in its order."""
        begin = (await store.changes()).position
        first = session()
        rename = UpdateCriteria({**touch().parts, ("head", ""): Change(set={"state": State.CLOSING})})
        over = UpdateCriteria({("head", ""): Change(set={"state": State.CLOSED}), ("monitors", "m"): Remove()})
        await store.write([Create(first)])
        await store.write([Update(first.key, 1, rename)])
        await store.write([Delete(first.key, 2, over)])
        told = await everything(store, begin, 3)
        closing = shown(apply(first, rename))
        before, closed = (
            replace(closing, head=first.head),
            replace(closing, head=replace(closing.head, state=State.CLOSED)),
        )
        assert [(one.change.before, one.change.after) for one in told] == [
            (None, shown(first)),
            (before, closing),
            (closing, closed),
        ]
        assert [(one.change.revision, one.change.removed) for one in told] == [(1, False), (2, False), (3, True)]
        assert all(one.own for one in told)

    async def test_changes_tell_of_parts_that_come_and_go(self, store: Store) -> None:
        """Clause 20: of a keyed part it is told what was there before, or that nothing was."""
        begin = (await store.changes()).position
        await store.write([Create(replace(session("sms-1"), details={"a": 1, "b": 2}))])
        change = UpdateCriteria({("details", "a"): Put(3), ("details", "b"): Remove(), ("details", "c"): Put([4])})
        await store.write([Update("sms-1", 1, change)])
        _, update = await everything(store, begin, 2)
        assert update.change.before is not None
        assert update.change.before.details == {"a": 1, "b": 2}
        assert update.change.after.details == {"a": 3, "c": [4]}

    async def test_changes_do_not_tell_what_is_counted(self, store: Store) -> None:
        """Clause 20: a write that only counts, and a write that was a conflict, are no change to be told of."""
        begin = (await store.changes()).position
        await store.write([Create(session())])
        begin = (await everything(store, begin, 1))[0].position
        await store.write([Update(session().key, 1, touch())])
        await store.write([Update(session().key, 1, touch()), Create(session()), Delete(session().key, 1)])
        await store.write([Delete(session().key, 2)])
        (removed,) = await everything(store, begin, 1)
        assert removed.change.removed

    async def test_changes_go_on_after_any_position(self, store: Store) -> None:
        """Clauses 21 and 23: wherever one goes on, all after it is told, once, and in the order of each session."""
        begin = (await store.changes(from_oldest=True)).position
        await store.write([Create(session(f"sms-{number}")) for number in range(220)])
        for revision in (1, 2):
            change = UpdateCriteria({("details", "n"): Put(revision)})
            await store.write([Update(f"sms-{number}", revision, change) for number in range(0, 220, 20)])
        told = await everything(store, begin, 242)
        assert len({one.position for one in told}) == len(told)
        for index in (0, 1, 57, 200, 240, 241):
            assert await everything(store, told[index].position) == told[index + 1 :]
            assert await everything(store, told[index].position, from_oldest=True) == told[index + 1 :]
        assert (await everything(store, from_oldest=True))[-len(told) :] == told
        revisions: dict[str, list[int]] = {}
        for one in told:
            revisions.setdefault(one.change.after.key, []).append(one.change.revision)
        expected = {f"sms-{number}": [1] if number % 20 else [1, 2, 3] for number in range(220)}
        assert revisions == expected

    async def test_changes_that_are_not_kept(self, store: Store) -> None:
        """Clause 22: where nothing is kept any more, or never was, nobody can go on."""
        await store.write([Create(session())])
        for position in ("1-1", "nonsense", "-", f"{2**63}-0"):
            with suppress(OutOfRange):
                await store.changes(position)
                raise AssertionError(position)

    async def test_changes_of_another_are_told_too(self, store: Store, rival: Store) -> None:
        """Clauses 20 and 21: what one writes, the other is told of at the same positions."""
        begin = (await store.changes()).position
        await store.write([Create(session())])
        change = UpdateCriteria({("head", ""): Change(set={"state": State.CLOSING})})
        await rival.write([Update(session().key, 1, change)])
        told, same = await everything(store, begin, 2), await everything(rival, begin, 2)
        assert [(one.position, one.change) for one in told] == [(one.position, one.change) for one in same]
        assert store is rival or [(one.own, other.own) for one, other in zip(told, same, strict=True)] == [
            (True, False),
            (False, True),
        ]


def used(key: str = f"{SCOPE}-1", tx: int = 10, rx: int = 0, at_s: int = 1) -> Session:
    """Return a session with a rule of which usage was seen."""
    rule = Rule(version=1, target=Target("1"), seen_ipv4=Seen(1, tx, rx), moved_tx=tx, moved_rx=rx)
    charge = ChargingCredit(
        tracking=Tracking.TOTAL_ONLY,
        granted=GrantedUnits(1000),
        allowed_total=1000,
        used_tx=tx,
        used_rx=rx,
        first_usage_s=1,
        last_usage_s=at_s,
    )
    return structs.replace(session(key), rules={"web": rule}, credits={"1": charge})


def metered_accounts(store: Store, scope: str = SCOPE) -> list[Account]:
    """Return the accounts of a scope with new meters; nothing at hand makes accounts without."""
    accounts = store.accounts(scope)
    if accounts is None:
        return [Account(used(), 1), Account(used(), 1)]
    for account in accounts:
        account.meter = metered(account.session, Situation(1, Settings(), {}))
        assert account.meter is not None
    return list(accounts)


async def everything(store: Store, position: str = "", at_least: int = 0, *, from_oldest: bool = False) -> list[Told]:
    """Return all changes after a position, once there are so many; what is written is told a moment later at most."""
    told: list[Told] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                page = await store.changes(position, from_oldest=from_oldest)
                told += page.told
                position = page.position
                if not page.more and len(told) >= at_least:
                    return told
                if not page.told:
                    await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"only {len(told)} changes were told, not {at_least}") from None


async def _add_often(store: Store, key: str) -> None:
    """Add to a counter a number of times, reading it anew whenever somebody else was faster."""
    done = 0
    for _ in range(MOST_ATTEMPTS):
        stored = await store.get(key)
        assert stored is not None
        change = UpdateCriteria({("monitors", "m"): Change({"used_tx": 1})})
        (written,) = await store.write([Update(key, stored.revision, change)])
        done += written != Conflict()
        if done == ADDITIONS:
            return
    raise AssertionError(f"of {MOST_ATTEMPTS} writes, {done} were carried out")


def _key(stored: Stored) -> str:
    return stored.session.key
