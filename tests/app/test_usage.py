"""A usage table is booked on the sessions it is about, and on nobody else."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessiond.app.ports.peers import UnknownFlows
from sessiond.app.usage import CHUNK, CONCURRENT
from sessiond.core.decide.usage import DROP_RULE
from sessiond.core.errors import NotFound, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.quantity import Volume
from sessiond.core.session import Session
from sessiond.core.update import Change, UpdateCriteria
from sessiond.testing.gateway import SimulatedGateway, row
from sessiond.testing.peers import Held, Lost, refused, silent, unreachable
from tests.app.scenes import VIDEO, gateway, plan, ue, wifi
from tests.app.stores import TroubledStore
from tests.core.builders import grant, monitor_grant, terminate_grant


@pytest.fixture
def store() -> TroubledStore:
    """Give a store that makes trouble on demand."""
    return TroubledStore()


@pytest.fixture
async def at(store: TroubledStore) -> AsyncIterator[SimulatedGateway]:
    """Give a gateway whose policy side allows one rule on one credit of 1000 octets."""
    async with gateway(store) as running:
        running.policy.usually("create", VIDEO)
        yield running


async def used(at: SimulatedGateway, key: str, credit: str = "1") -> Volume:
    """Return what a session has used on a credit."""
    charge = (await at.session(key)).credits[credit]
    return Volume(charge.used_tx, charge.used_rx)


async def states(at: SimulatedGateway) -> dict[str, State]:
    """Return the state of every session that is stored."""
    return {session.key: session.head.state for session in await at.sessions()}


class TestBooking:
    """What is booked, and on whom."""

    async def test_a_table_is_written_when_its_report_returns(self, at: SimulatedGateway) -> None:
        """Cumulative counters are booked as differences, for every session of the table."""
        keys = [await at.attach(ue(number)) for number in (1, 2)]
        await at.report(row(ue(1), "video", 1, tx=100, rx=20), row(ue(2), "video", 1, tx=7))
        await at.report(row(ue(1), "video", 1, tx=150, rx=20), row(ue(2), "video", 1, tx=7))
        assert [await used(at, key) for key in keys] == [Volume(150, 20), Volume(7)]

    async def test_usage_is_counted_once_whoever_writes_first(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """What is counted on a session that somebody else is just changing is counted on what comes of that."""
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=10))
        await at.report(row(ue(), "video", 1, tx=20))
        store.rival(key, UpdateCriteria({("credits", "1"): Change({"reported_tx": 3})}))
        await at.report(row(ue(), "video", 1, tx=30))
        session = await at.session(key)
        assert await used(at, key) == Volume(30)
        assert (session.rules["video"].moved_tx, session.credits["1"].reported_tx) == (30, 3)

    @pytest.mark.parametrize("fault", ["write", "answer"])
    async def test_usage_is_counted_once_whatever_became_of_a_write(
        self, at: SimulatedGateway, store: TroubledStore, fault: str
    ) -> None:
        """A table of which nobody knows whether it was written comes again, and is written then."""
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=10))
        store.fail(fault)
        with pytest.raises(Unavailable):
            await at.report(row(ue(), "video", 1, tx=20))
        await at.report(row(ue(), "video", 1, tx=20))
        store.die()
        await at.restart()
        assert await used(at, key) == Volume(20)

    async def test_usage_that_was_not_written_dies_with_the_daemon(
        self, at: SimulatedGateway, store: TroubledStore
    ) -> None:
        """Nobody was told of it; the data plane reports the same again."""
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=10))
        store.fail("write")
        with pytest.raises(Unavailable):
            await at.report(row(ue(), "video", 1, tx=20))
        store.die()
        await at.restart()
        assert await used(at, key) == Volume(10)
        await at.report(row(ue(), "video", 1, tx=900))
        assert await used(at, key) == Volume(900)
        assert len(at.policy.updates) == 1

    async def test_both_addresses_of_a_device_count(self, at: SimulatedGateway) -> None:
        """Records come for the IPv4 or for the IPv6 address of a device, each with counters of its own."""
        context = ue(ue_ipv6="fd00::1")
        key = await at.attach(context)
        await at.report(row(context, "video", 1, tx=100), row(context, "video", 1, tx=30, ipv6=True))
        await at.report(row(context, "video", 1, tx=110), row(context, "video", 1, tx=31, ipv6=True))
        assert await used(at, key) == Volume(141)

    async def test_b4_no_address_is_nobodys_address(self, at: SimulatedGateway) -> None:
        """A record without an IPv6 address is not of a session that has none either."""
        key = await at.attach(ue())
        await at.report(row(ue(ue_ipv4="10.9.9.9"), "video", 1, tx=100))
        assert await used(at, key) == Volume()
        assert at.telemetry.ignored == {"SESSION_UNKNOWN": 1}

    async def test_carrier_wifi_counts_by_subscriber(self, at: SimulatedGateway) -> None:
        """A carrier wifi session has the usage of its subscriber, whatever the address."""
        key = await at.attach(wifi())
        await at.report(row(wifi(ue_ipv4="10.9.9.9"), "video", 1, tx=100))
        assert await used(at, key) == Volume(100)

    async def test_a_table_that_comes_twice_counts_once(self, at: SimulatedGateway) -> None:
        """Pipelined repeats a table whose answer it did not get: nothing is added."""
        key = await at.attach(ue())
        for _ in range(3):
            await at.report(row(ue(), "video", 1, tx=100))
        assert await used(at, key) == Volume(100)

    async def test_r1_usage_is_booked_while_a_report_is_unanswered(self, at: SimulatedGateway) -> None:
        """Tables that come while the policy side thinks are booked at once, and each octet once."""
        key = await at.attach(ue())
        held = at.policy.hold("update")
        for tx in (900, 950, 980):
            await at.report(row(ue(), "video", 1, tx=tx))
            assert await used(at, key) == Volume(tx)
        held.release()
        await at.settle()
        assert await used(at, key) == Volume(980)
        assert at.policy.ledger.credit(key, "1") == Volume(900)

    async def test_tables_are_booked_one_after_the_other(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """A table that comes while another one is being booked waits for it, so that counters never seem to go back."""
        key = await at.attach(ue())
        held = store.hold("find")
        first = asyncio.create_task(at.report(row(ue(), "video", 1, tx=100)))
        await at.settle()
        second = asyncio.create_task(at.report(row(ue(), "video", 1, tx=200)))
        await at.settle()
        held.set()
        await asyncio.gather(first, second)
        assert await used(at, key) == Volume(200)
        assert at.telemetry.ignored == {}


class TestTouched:
    """Who is looked at."""

    async def test_p1_only_sessions_of_the_table_are_decided(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """However many sessions there are, a table touches those it has records of."""
        keys = [await at.attach(ue(number)) for number in range(1, 31)]
        store.reads.clear()
        store.writes.clear()
        await at.report(row(ue(7), "video", 1, tx=100))
        assert set(store.reads) == {keys[6]}
        assert [write.key for writes in store.writes for write in writes] == [keys[6]]  # type: ignore[union-attr]

    async def test_p1_a_table_without_news_is_not_written(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """Counters that did not move write nothing."""
        await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=100))
        store.writes.clear()
        await at.report(row(ue(), "video", 1, tx=100))
        assert store.writes == []

    async def test_sessions_for_which_something_is_due_are_decided_too(self, at: SimulatedGateway) -> None:
        """What is due for a session goes out with the next table, though that has no record of it."""
        key = await at.attach(ue(1))
        await at.attach(ue(2))
        await at.application.manager.charging_reauth(ue(1).subscriber, key, "1")
        await at.report(row(ue(2), "video", 1, tx=1))
        assert [report.session.key for report in at.policy.updates[0]] == [key]

    async def test_what_is_due_is_known_again_after_a_restart(self, at: SimulatedGateway) -> None:
        """A re-authorisation asked for before the daemon died goes out with the first table of the next one."""
        key = await at.attach(ue())
        await at.application.manager.charging_reauth(ue().subscriber, key, "1")
        await at.restart()
        await at.report()
        assert [report.session.key for report in at.policy.updates[0]] == [key]

    async def test_many_sessions_are_booked_in_turns(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """A large table is written in several goes, and all of it is there in the end."""
        contexts = [ue(number) for number in range(1, 2 * CHUNK + 2)]
        keys = [await at.attach(context) for context in contexts]
        store.writes.clear()
        await at.report(*[row(context, "video", 1, tx=3) for context in contexts])
        assert [len(writes) for writes in store.writes] == [CHUNK, CHUNK, 1]
        assert {await used(at, key) for key in keys} == {Volume(3)}


class TestIgnored:
    """Records that count nothing, and why."""

    @pytest.mark.parametrize(
        ("rule", "version", "tx", "reason"),
        [
            ("nonsense", 1, 500, "RULE_UNKNOWN"),
            ("video", 2, 500, "VERSION_UNKNOWN"),
            ("video", 0, 500, "VERSION_OUTDATED"),
            ("video", 1, 99, "COUNTER_DECREASED"),
        ],
    )
    async def test_a_record_that_cannot_be_is_counted_by_reason(
        self, at: SimulatedGateway, rule: str, version: int, tx: int, reason: str
    ) -> None:
        """It changes nothing, the reason is counted, and the other records of the table count."""
        keys = [await at.attach(ue(number)) for number in (1, 2)]
        await at.report(row(ue(1), "video", 1, tx=100))
        await at.report(row(ue(1), rule, version, tx=tx), row(ue(2), "video", 1, tx=7))
        assert [await used(at, key) for key in keys] == [Volume(100), Volume(7)]
        assert at.telemetry.ignored == {reason: 1}

    async def test_what_was_not_let_through_is_no_usage(self, at: SimulatedGateway) -> None:
        """The record of the default drop flow counts on no credit, and is no mistake."""
        key = await at.attach(ue())
        await at.report(row(ue(), DROP_RULE, 0, tx=500))
        assert await used(at, key) == Volume()
        assert at.telemetry.ignored == {}

    async def test_a_session_that_is_over_books_nothing(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """Records that reach a session after its end was decided are too late: what the policy side was told stands."""
        at.policy.usually("terminate", Lost())
        key = await at.attach(ue(1))
        await at.detach(ue(1))
        held = store.hold("find", after=1)
        booking = asyncio.create_task(at.report(row(ue(1), "video", 1, tx=500), row(ue(2), "video", 1)))
        await at.advance(5000)
        assert await states(at) == {key: State.CLOSED}
        held.set()
        await booking
        assert await used(at, key) == Volume()
        assert at.telemetry.ignored["SESSION_OVER"] == 1
        at.policy.forget()
        await at.restart()
        assert at.policy.ledger.credit(key, "1") == Volume()
        assert at.policy.ledger.contradictions == []


class TestUnknown:
    """Flows of nobody."""

    async def test_flows_of_nobody_are_taken_down_once_per_address(self, at: SimulatedGateway) -> None:
        """Whatever number of records an unknown address has, its flows are taken down by one request."""
        await at.report(row(ue(), "video", 1, tx=1, teid=4), row(ue(), "web", 1, tx=1, teid=4), row(ue(2), "web", 1))
        calls = [call.arguments[0] for call in at.data_plane.calls("deactivate_unknown")]
        assert calls == [
            UnknownFlows(ue().subscriber, ue().ue_ipv4, "", 4),
            UnknownFlows(ue(2).subscriber, ue(2).ue_ipv4, "", 0),
        ]
        assert at.telemetry.ignored == {"SESSION_UNKNOWN": 2}

    async def test_flows_of_nobody_are_left_alone_if_so_configured(self) -> None:
        """Without the clean-up of dangling flows they are counted and logged."""
        async with gateway(remove_unknown_flows=False) as at:
            await at.report(row(ue(), "video", 1, tx=1))
            assert at.data_plane.calls("deactivate_unknown") == []
            assert at.telemetry.ignored == {"SESSION_UNKNOWN": 1}

    @pytest.mark.parametrize("failure", [refused(), unreachable(), silent()], ids=["refused", "unreachable", "silent"])
    async def test_what_cannot_be_taken_down_comes_again(self, at: SimulatedGateway, failure: Exception) -> None:
        """A failure is counted; the next table brings the same flows again."""
        at.data_plane.script("deactivate_unknown", failure)
        await at.report(row(ue(), "video", 1, tx=1))
        await at.report(row(ue(), "video", 1, tx=1))
        assert len(at.data_plane.calls("deactivate_unknown")) == 2
        assert sum(at.telemetry.failures.values()) == 1

    async def test_s9_a_store_that_is_away_makes_nobody_unknown(
        self, at: SimulatedGateway, store: TroubledStore
    ) -> None:
        """If sessions cannot be read the table is refused, to come again, and no flow is taken down."""
        key = await at.attach(ue())
        store.fail("find")
        with pytest.raises(Unavailable):
            await at.report(row(ue(), "video", 1, tx=100))
        assert at.data_plane.calls("deactivate_unknown") == []
        await at.report(row(ue(), "video", 1, tx=100))
        assert await used(at, key) == Volume(100)

    async def test_a_device_that_comes_meanwhile_keeps_its_flows(
        self, at: SimulatedGateway, store: TroubledStore
    ) -> None:
        """A table that was made before a session began does not take the flows of that session down."""
        held = store.hold("find", after=1)
        booking = asyncio.create_task(at.report(row(ue(1), "video", 1, tx=1), row(ue(2), "video", 1, tx=1)))
        await at.settle()
        await at.attach(ue(1))
        held.set()
        await booking
        assert [call.arguments[0].subscriber for call in at.data_plane.calls("deactivate_unknown")] == [
            ue(2).subscriber
        ]

    async def test_flows_of_nobody_are_taken_down_by_one_request_at_a_time(self, at: SimulatedGateway) -> None:
        """While pipelined does not answer, further tables ask for the same flows no more; for others they do."""
        held = at.data_plane.hold("deactivate_unknown")
        for _ in range(3):
            await at.report(row(ue(1), "video", 1, tx=1))
        await at.report(row(ue(2), "video", 1, tx=1))
        assert len(at.data_plane.calls("deactivate_unknown")) == 2
        held.release()
        await at.settle()
        await at.report(row(ue(1), "video", 1, tx=1))
        assert len(at.data_plane.calls("deactivate_unknown")) == 3

    async def test_not_all_flows_of_nobody_are_taken_down_at_once(self, at: SimulatedGateway) -> None:
        """A table full of them, as after a start without a store, does not flood pipelined."""
        held = Held()
        at.data_plane.script("deactivate_unknown", *[held] * 50)
        await at.report(*[row(ue(number), "video", 1, tx=1) for number in range(50)])
        assert len(at.data_plane.calls("deactivate_unknown")) == CONCURRENT
        held.release()
        await at.settle()
        assert len(at.data_plane.calls("deactivate_unknown")) == 50

    async def test_s9_nor_when_it_is_away_later(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """If it is not known any more whether flows belong to somebody, they are left until the next table."""
        store.fail("find", after=1)
        await at.report(row(ue(), "video", 1, tx=1))
        assert at.data_plane.calls("deactivate_unknown") == []
        await at.report(row(ue(), "video", 1, tx=1))
        assert len(at.data_plane.calls("deactivate_unknown")) == 1

    async def test_a_hanging_request_holds_no_table_back(self, at: SimulatedGateway) -> None:
        """Tables are booked while pipelined does not answer about flows of nobody."""
        key = await at.attach(ue())
        at.data_plane.script("deactivate_unknown", Held())
        await at.report(row(ue(2), "video", 1, tx=1))
        await at.report(row(ue(), "video", 1, tx=100))
        assert await used(at, key) == Volume(100)


class TestFinalUsage:
    """The end of a session waits for its final usage."""

    async def test_usage_that_comes_after_the_end_is_reported_with_it(self, at: SimulatedGateway) -> None:
        """What pipelined counted until the flows went down comes with the next table, and then with the end."""
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=100))
        await at.detach(ue())
        await at.report(row(ue(), "video", 1, tx=170, rx=5))
        assert at.policy.terminated == []
        await at.report()
        assert at.policy.ledger.credit(key, "1") == Volume(170, 5)
        assert await at.sessions() == []

    async def test_the_end_is_not_waited_for_too_long(self, at: SimulatedGateway) -> None:
        """If pipelined reports nothing any more, the end is reported after five seconds."""
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=100))
        await at.detach(ue())
        await at.advance(4999)
        assert at.policy.terminated == []
        await at.advance(1)
        assert [session.key for session in at.policy.terminated] == [key]
        assert at.policy.ledger.credit(key, "1") == Volume(100)

    async def test_r3_a_session_completes_once(self, at: SimulatedGateway) -> None:
        """A table and the timer at the same moment report one end."""
        await at.attach(ue())
        await at.detach(ue())
        await at.advance(4999)
        await asyncio.gather(at.report(), at.advance(1), at.report())
        assert len(at.policy.terminated) == 1
        assert [event.type for event in at.events.logged] == ["session_created", "session_terminated"]

    async def test_the_timer_waits_while_flows_could_not_be_taken_down(self, at: SimulatedGateway) -> None:
        """Flows that still carry traffic are counted: five seconds begin when pipelined has taken them down."""
        key = await at.attach(ue())
        at.data_plane.usually("deactivate", unreachable())
        await at.detach(ue())
        await at.advance(60_000)
        assert await states(at) == {key: State.CLOSING}
        at.data_plane.forget()
        while at.data_plane.flows[-1][1] in (await at.session(key)).effects.values():
            await at.advance(100)
        await at.advance(4900)
        assert at.policy.terminated == []
        await at.advance(100)
        assert await states(at) == {}

    async def test_the_timer_does_not_wait_for_ever(self, at: SimulatedGateway) -> None:
        """After five minutes the end is reported though pipelined was never told."""
        await at.attach(ue())
        at.data_plane.usually("deactivate", unreachable())
        await at.detach(ue())
        await at.advance(299_000)
        assert at.policy.terminated == []
        await at.advance(6_000)
        assert len(at.policy.terminated) == 1

    async def test_a_table_of_an_epoch_that_is_not_set_up_completes_nothing(self, at: SimulatedGateway) -> None:
        """A pipelined that knows nothing yet reports empty tables: they say nothing about the end of flows."""
        key = await at.attach(ue())
        await at.detach(ue())
        held = at.data_plane.hold("set_up")
        await at.report(epoch=2)
        await at.report(epoch=2)
        assert await states(at) == {key: State.CLOSING}
        held.release()
        await at.settle()
        await at.report(row(ue(), "video", 1, tx=50), epoch=2)
        await at.report(epoch=2)
        assert at.policy.ledger.credit(key, "1") == Volume(50)
        assert await states(at) == {}

    async def test_an_empty_table_that_was_overtaken_by_the_setup_completes_nothing(self, at: SimulatedGateway) -> None:
        """The first empty table after a setup may have been made before it; what flows counted comes with the next."""
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=50))
        await at.restart()
        await at.detach(ue())
        await at.report()
        assert await states(at) == {key: State.CLOSING}
        await at.report(row(ue(), "video", 1, tx=70))
        await at.report()
        assert at.policy.ledger.credit(key, "1") == Volume(70)
        assert await states(at) == {}

    async def test_the_timer_waits_for_a_pipelined_that_comes_back(self, at: SimulatedGateway) -> None:
        """A pipelined that was set up only now has not reported yet: it has five seconds to do so."""
        key = await at.attach(ue())
        at.data_plane.script("set_up", silent())
        await at.report(epoch=2)
        await at.detach(ue())
        await at.advance(5000)
        assert at.application.resync.is_set_up(2)
        assert await states(at) == {key: State.CLOSING}
        await at.report(row(ue(), "video", 1, tx=50), epoch=2)
        await at.report(epoch=2)
        assert at.policy.ledger.credit(key, "1") == Volume(50)

    async def test_the_timer_waits_for_a_pipelined_that_has_not_said_that_it_is_back(
        self, at: SimulatedGateway
    ) -> None:
        """A pipelined that was away and can be reached again is given time to announce itself, and then to report."""
        key = await at.attach(ue())
        await at.detach(ue())
        at.data_plane.connected = False
        await at.advance(7000)
        at.data_plane.connected = True
        await at.advance(4000)
        assert await states(at) == {key: State.CLOSING}
        await at.report(epoch=2)
        await at.report(row(ue(), "video", 1, tx=50), epoch=2)
        await at.report(epoch=2)
        assert at.policy.ledger.credit(key, "1") == Volume(50)

    async def test_a_table_made_before_the_end_completes_nothing(
        self, at: SimulatedGateway, store: TroubledStore
    ) -> None:
        """A table that waited while a session began and ended says nothing about that session's flows."""
        held = store.hold("find")
        first = asyncio.create_task(at.report(row(ue(9), "video", 1)))
        await at.settle()
        waiting = asyncio.create_task(at.report())
        await at.settle()
        key = await at.attach(ue())
        await at.detach(ue())
        held.set()
        await asyncio.gather(first, waiting)
        assert await states(at) == {key: State.CLOSING}
        await at.report(row(ue(), "video", 1, tx=50))
        await at.report()
        assert at.policy.ledger.credit(key, "1") == Volume(50)

    async def test_a_table_completes_nothing_while_flows_are_still_up(self, at: SimulatedGateway) -> None:
        """Before pipelined has taken the flows down they may carry traffic yet, whatever a table does not say."""
        key = await at.attach(ue())
        held = at.data_plane.hold("deactivate")
        await at.detach(ue())
        await at.report()
        assert await states(at) == {key: State.CLOSING}
        held.release()
        await at.settle()
        await at.report()
        assert await states(at) == {}

    async def test_s7_the_timer_runs_on_after_a_restart(self, at: SimulatedGateway) -> None:
        """A session that was released when the daemon died completes, when pipelined has had its time to report."""
        await at.attach(ue())
        await at.detach(ue())
        await at.advance(3000)
        await at.restart()
        await at.advance(4999)
        assert at.policy.terminated == []
        await at.advance(2001)
        assert len(at.policy.terminated) == 1


class TestReattach:
    """A device that comes back while its old session still ends."""

    async def test_g13_usage_of_old_and_new_session_is_never_mixed(self, at: SimulatedGateway) -> None:
        """Same address, same rule: the version says which session a record belongs to."""
        old = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=100))
        await at.detach(ue())
        new = await at.attach(ue())
        version = (await at.session(new)).rules["video"].version
        assert version > 2
        await at.report(row(ue(), "video", 1, tx=130), row(ue(), "video", version, tx=40))
        assert (await used(at, old), await used(at, new)) == (Volume(130), Volume(40))
        await at.report(row(ue(), "video", version, tx=41))
        assert await states(at) == {new: State.ACTIVE}
        assert at.policy.ledger.credit(old, "1") == Volume(130)

    async def test_g13_the_old_sessions_late_usage_is_not_the_new_ones(self, at: SimulatedGateway) -> None:
        """When the old session is gone, what pipelined still says about its versions counts on nobody."""
        await at.attach(ue())
        await at.detach(ue())
        new = await at.attach(ue())
        await at.advance(5000)
        assert await states(at) == {new: State.ACTIVE}
        await at.report(row(ue(), "video", 1, tx=130))
        assert await used(at, new) == Volume()
        assert at.telemetry.ignored == {"VERSION_OUTDATED": 1}

    async def test_g13_what_nobody_has_had_is_the_active_sessions(self, at: SimulatedGateway) -> None:
        """A record that fits neither session, such as that of the drop flow, does not keep the old one from its end."""
        old = await at.attach(ue())
        await at.detach(ue())
        new = await at.attach(ue())
        await at.report(row(ue(), DROP_RULE, 0))
        assert await states(at) == {new: State.ACTIVE}
        assert [session.key for session in at.policy.terminated] == [old]


class TestActions:
    """What a table brings about beside its numbers."""

    async def test_several_quotas_are_booked_by_one_record(self, at: SimulatedGateway) -> None:
        """A rule that OCS and PCRF count is booked on both, once each."""
        at.policy.script("create", plan("mixed", credits_=[grant("1")], monitors=[monitor_grant("m")]))
        key = await at.attach(ue())
        await at.report(row(ue(), "mixed", 1, tx=100))
        session = await at.session(key)
        assert (session.credits["1"].used_tx, session.monitors["m"].used_tx) == (100, 100)

    async def test_a_final_unit_ends_the_session_with_the_table_after(self, at: SimulatedGateway) -> None:
        """The table that uses up a final unit ends the session and its bearer; its last usage is reported."""
        at.policy.script("create", plan("video", credits_=[terminate_grant("1", 100)]))
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=120))
        assert await states(at) == {key: State.CLOSING}
        assert len(at.access.bearers) == 1
        await at.report()
        assert at.policy.ledger.credit(key, "1") == Volume(120)

    async def test_a_poisonous_session_harms_nobody_else(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """A session that cannot be decided about is passed over, and all the others are booked."""
        key = await at.attach(ue(1))
        broken = await at.attach(ue(2))
        await store.lose(broken)
        await store.put(Session(key=broken, type="lte", scope=ue(2).subscriber, head=(await at.session(key)).head))
        await at.report(row(ue(1), "video", 1, tx=100), row(ue(2), "video", 1, tx=100))
        assert await used(at, key) == Volume(100)


async def test_a_closed_gateway_is_not_found(at: SimulatedGateway) -> None:
    """After its end a session cannot end again."""
    await at.attach(ue())
    await at.detach(ue())
    await at.report()
    with pytest.raises(NotFound):
        await at.detach(ue())
