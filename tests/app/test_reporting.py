"""Usage is reported to the policy side: each octet once, whatever becomes of the request and its answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from sessiond.app.commit import ATTEMPTS
from sessiond.app.ports.peers import UsageReport
from sessiond.app.reporting import CONCURRENT, MAX_REPEATS
from sessiond.core.charging import ReAuth
from sessiond.core.decide.answer import CreditReply, UpdateAnswer
from sessiond.core.decide.reauth import ReAuthResult
from sessiond.core.errors import PeerFailed
from sessiond.core.lifecycle import State
from sessiond.core.quantity import Volume
from sessiond.core.session import RevalidationState
from sessiond.core.settings import Settings
from sessiond.core.update import Change, UpdateCriteria
from sessiond.testing.gateway import SimulatedGateway, row
from sessiond.testing.peers import USUAL, Held, Lost, granting_again, refused, silent, unreachable
from tests.app.scenes import VIDEO, gateway, plan, ue
from tests.app.stores import TroubledStore
from tests.core.builders import grant, monitor_grant

Sent = tuple[int, int, int]
"""A request number, and octets up and down."""


@pytest.fixture
def store() -> TroubledStore:
    """Give a store that makes trouble on demand."""
    return TroubledStore()


@pytest.fixture
async def at(store: TroubledStore) -> AsyncIterator[SimulatedGateway]:
    """Give a gateway whose policy side allows one rule on one credit of 1000 octets, which is due at 800."""
    async with gateway(store) as running:
        running.policy.usually("create", VIDEO)
        yield running


def sent(at: SimulatedGateway, key: str, credit: str = "1") -> list[Sent]:
    """Return what was sent for a credit, request by request."""
    charges = [
        report.session.credits[credit].in_flight
        for reports in at.policy.updates
        for report in reports
        if report.session.key == key
    ]
    return [(report.number, report.tx, report.rx) for report in charges if report is not None]


def types(at: SimulatedGateway) -> list[str]:
    """Return the types of all events after the first."""
    return [event.type for event in at.events.logged][1:]


async def use(at: SimulatedGateway, tx: int, number: int = 1) -> None:
    """Report the counter of the one rule of a subscriber."""
    await at.report(row(ue(number), "video", 1, tx=tx))


class TestRequests:
    """What goes into a request."""

    async def test_what_is_due_together_goes_out_together(self, at: SimulatedGateway) -> None:
        """The reports that one table makes due are one request, whichever sessions they are of."""
        keys = [await at.attach(ue(number)) for number in (1, 2, 3)]
        await at.report(*[row(ue(number), "video", 1, tx=900) for number in (1, 2, 3)])
        assert [[report.session.key for report in reports] for reports in at.policy.updates] == [keys]

    async def test_p4_a_request_is_bounded(self, at: SimulatedGateway) -> None:
        """Many sessions are reported in several requests, each of as many as the operator allows."""
        at.circumstances.settings = Settings(usage_report_max_sessions=4)
        contexts = [ue(number) for number in range(10)]
        keys = [await at.attach(context) for context in contexts]
        await at.report(*[row(context, "video", 1, tx=900) for context in contexts])
        assert [len(reports) for reports in at.policy.updates] == [4, 4, 2]
        assert {at.policy.ledger.credit(key, "1") for key in keys} == {Volume(900)}

    async def test_not_all_requests_are_under_way_at_once(self, at: SimulatedGateway) -> None:
        """A policy side that thinks has a bounded number of requests to think about; the rest follows."""
        at.circumstances.settings = Settings(usage_report_max_sessions=1)
        held = Held()
        at.policy.script("update", *[held] * 10)
        contexts = [ue(number) for number in range(10)]
        for context in contexts:
            await at.attach(context)
        await at.report(*[row(context, "video", 1, tx=900) for context in contexts])
        assert len(at.policy.updates) == CONCURRENT
        held.release()
        await at.application.drain()
        assert len(at.policy.updates) == 10

    async def test_nothing_is_reported_twice_at_the_same_time(self) -> None:
        """With a store that takes its time, what is due in quick succession still goes out once."""
        async with gateway(TroubledStore(turns=5)) as at:
            at.policy.usually("create", plan("video", "web", credits_=[grant("1"), grant("2")]))
            key = await at.attach(ue())
            at.policy.script("update", *[Held()] * 10)
            tables = [row(ue(), "video", 1, tx=900)], [row(ue(), "video", 1, tx=900), row(ue(), "web", 1, tx=900)]
            await asyncio.gather(*(at.application.usage.report(table, 1, counters_restart=False) for table in tables))
            await at.settle()
            requests = [
                (report.session.key, number)
                for reports in at.policy.updates
                for report in reports
                for number in report.numbers
            ]
            assert sorted(requests) == [(key, 1), (key, 2)]

    async def test_charging_and_monitoring_have_numbers_of_their_own(self, at: SimulatedGateway) -> None:
        """All credits of one moment share a request number, the monitors share the next, and the end has the last."""
        credits_, monitors = [grant("1"), grant("2")], [monitor_grant("m")]
        at.policy.script("create", plan("video", "web", "voice", credits_=credits_, monitors=monitors))
        key = await at.attach(ue())
        rows = [row(ue(), rule, 1, tx=900) for rule in ("video", "web", "voice")]
        await at.report(*rows)
        (report,) = at.policy.updates[0]
        assert report.numbers == {1, 2}
        assert [charge.in_flight.number for charge in report.session.credits.values() if charge.in_flight] == [1, 1]
        assert sent(at, key, "2") == [(1, 900, 0)]
        await at.detach(ue())
        await at.report()
        (ended,) = at.policy.terminated
        assert ended.gateway is not None
        assert ended.gateway.request_number == 3

    async def test_g4_a_service_within_a_rating_group_is_a_credit_of_its_own(self, at: SimulatedGateway) -> None:
        """A report of a service identifier is acknowledged by an answer about exactly that one."""
        at.policy.script("create", plan("video", credits_=[grant("1"), grant("1/7")]))
        key = await at.attach(ue())
        for credit in ("1", "1/7"):
            await at.application.manager.charging_reauth(ue().subscriber, key, credit)
        at.policy.script("update", only("1/7"))
        await at.report()
        charges = (await at.session(key)).credits
        assert (charges["1"].reauth, charges["1/7"].reauth) == (ReAuth.REQUIRED, ReAuth.NOT_NEEDED)


class TestAnswers:
    """What an answer does."""

    async def test_a_grant_is_added_to_what_was_used_meanwhile(self, at: SimulatedGateway) -> None:
        """Usage counted while the answer was under way is neither lost nor acknowledged by it."""
        key = await at.attach(ue())
        held = at.policy.hold("update")
        await use(at, 900)
        await use(at, 960)
        held.release()
        await at.settle()
        charge = (await at.session(key)).credits["1"]
        assert (charge.used_tx, charge.reported_tx, charge.allowed_total, charge.in_flight) == (960, 900, 2000, None)
        assert types(at) == ["session_updated"]

    async def test_r2_what_was_decided_meanwhile_stands(self, at: SimulatedGateway) -> None:
        """A re-authorisation that came while another report was under way is not undone by its answer."""
        at.policy.script("create", plan("video", "web", credits_=[grant("1"), grant("2")]))
        key = await at.attach(ue())
        held = at.policy.hold("update")
        await use(at, 900)
        reauthorise = partial(at.application.manager.charging_reauth, ue().subscriber, key)
        assert await reauthorise("1") is ReAuthResult.UPDATE_NOT_NEEDED
        assert await reauthorise("2") is ReAuthResult.UPDATE_INITIATED
        held.release()
        await at.settle()
        assert (await at.session(key)).credits["2"].reauth is ReAuth.REQUIRED

    async def test_what_an_answer_does_not_mention_is_due_again(self, at: SimulatedGateway) -> None:
        """Of several credits in one request only those that are answered are acknowledged; the rest goes out anew."""
        at.policy.script("create", plan("video", "web", credits_=[grant("1"), grant("2")]))
        key = await at.attach(ue())
        at.policy.script("update", only("1"))
        rows = [row(ue(), rule, 1, tx=900) for rule in ("video", "web")]
        await at.report(*rows)
        await at.report(*rows)
        assert (sent(at, key, "1"), sent(at, key, "2")) == ([(1, 900, 0)], [(1, 900, 0), (2, 900, 0)])
        assert {at.policy.ledger.credit(key, credit) for credit in ("1", "2")} == {Volume(900)}

    async def test_an_answer_without_a_session_is_passed_over(self, at: SimulatedGateway) -> None:
        """What the policy side says about a session that is gone by then changes nothing, and the others count."""
        keys = [await at.attach(ue(number)) for number in (1, 2)]
        held = at.policy.hold("update")
        await at.report(row(ue(1), "video", 1, tx=900), row(ue(2), "video", 1, tx=900))
        await at.application.manager.abort_session(ue(1).subscriber, keys[0])
        held.release()
        await at.settle()
        assert [session.key for session in await at.application.manager.sessions()] == [keys[1]]
        assert (await at.session(keys[1])).credits["1"].reported_tx == 900

    async def test_a_poisonous_answer_harms_only_its_own_session(self, at: SimulatedGateway) -> None:
        """If one answer of many cannot be applied, all the others are."""
        keys = [await at.attach(ue(number)) for number in (1, 2)]

        def poisoned(reports: tuple[UsageReport, ...]) -> dict[str, UpdateAnswer]:
            nonsense = grant("1", granted="nonsense")
            poison = UpdateAnswer(numbers=frozenset({1}), credits=(CreditReply(answer=nonsense),))
            return {**granting_again(reports), keys[0]: poison}

        at.policy.script("update", poisoned)
        await at.report(row(ue(1), "video", 1, tx=900), row(ue(2), "video", 1, tx=900))
        assert (await at.session(keys[1])).credits["1"].reported_tx == 900
        assert (await at.session(keys[0])).credits["1"].reported_tx == 0

    async def test_an_answer_that_could_not_be_applied_is_asked_for_again(self, at: SimulatedGateway) -> None:
        """A session whose answer failed reports the same again, so that it is not silent for ever."""
        key = await at.attach(ue())
        nonsense = CreditReply(answer=grant("1", granted="nonsense"))
        at.policy.script("update", {key: UpdateAnswer(numbers=frozenset({1}), credits=(nonsense,))})
        await use(at, 900)
        await at.advance(10_000)
        assert sent(at, key) == [(1, 900, 0)] * 2
        assert (await at.session(key)).credits["1"].reported_tx == 900
        assert at.policy.ledger.credit(key, "1") == Volume(900)

    async def test_an_answer_that_met_too_many_conflicts_is_asked_for_again(
        self, at: SimulatedGateway, store: TroubledStore
    ) -> None:
        """The same goes for a session that others kept writing while its answer was to be applied."""
        key = await at.attach(ue())
        held = at.policy.hold("update")
        await use(at, 900)
        store.rival(key, *[UpdateCriteria({("gateway", ""): Change({"effects_made": 1})})] * ATTEMPTS)
        held.release()
        await at.advance(10_000)
        assert sent(at, key) == [(1, 900, 0)] * 2
        assert (await at.session(key)).credits["1"].allowed_total == 2000

    async def test_r7_a_monitor_is_not_reported_again_while_its_report_is_unanswered(
        self, at: SimulatedGateway
    ) -> None:
        """Further usage of a monitor whose report is under way waits for the answer."""
        at.policy.script("create", plan("voice", monitors=[monitor_grant("m")]))
        key = await at.attach(ue())
        held = at.policy.hold("update")
        for tx in (900, 950, 999):
            await at.report(row(ue(), "voice", 1, tx=tx))
        assert len(at.policy.updates) == 1
        held.release()
        await at.settle()
        assert at.policy.ledger.monitor(key, "m") == Volume(900)

    async def test_a_revalidation_is_asked_once_and_answered(self, at: SimulatedGateway) -> None:
        """When the revalidation time has come the next table asks the policy side, and its answer ends the question."""
        at.policy.script("create", plan("video", credits_=[grant("1")], revalidation_at_ms=at.clock.now_ms() + 10_000))
        key = await at.attach(ue())
        await at.advance(10_000)
        at.policy.script("update", unreachable())
        await at.report()
        await at.report()
        await at.report()
        assert [[report.numbers for report in reports] for reports in at.policy.updates] == [[{1}], [{2}]]
        session = await at.session(key)
        assert session.gateway is not None
        assert session.gateway.revalidation is None or session.gateway.revalidation.state is RevalidationState.PENDING


class TestRefused:
    """Requests that certainly were not carried out."""

    @pytest.mark.parametrize("failing", [refused, unreachable])
    async def test_all_of_it_is_due_again_with_a_new_number(
        self, at: SimulatedGateway, failing: Callable[[], PeerFailed]
    ) -> None:
        """The failure is an event, and the next table reports all usage until then under the next number."""
        key = await at.attach(ue())
        at.policy.script("update", failing())
        await use(at, 900)
        assert (await at.session(key)).credits["1"].in_flight is None
        await at.advance(60_000)
        assert sent(at, key) == [(1, 900, 0)]
        await use(at, 950)
        assert sent(at, key) == [(1, 900, 0), (2, 950, 0)]
        assert types(at) == ["session_update_failure", "session_updated"]
        assert at.policy.ledger.credit(key, "1") == Volume(950)

    async def test_a_reauthorisation_is_due_again(self, at: SimulatedGateway) -> None:
        """A refused report for a re-authorisation is still one for a re-authorisation the next time."""
        key = await at.attach(ue())
        await at.application.manager.charging_reauth(ue().subscriber, key, "1")
        at.policy.script("update", refused())
        await at.report()
        await at.report()
        reasons = [reports[0].session.credits["1"].in_flight for reports in at.policy.updates]
        assert [report.reason for report in reasons if report is not None] == ["REAUTH_REQUIRED"] * 2

    async def test_a_refused_request_holds_up_no_end(self, at: SimulatedGateway) -> None:
        """A session that was ending meanwhile reports all of its usage with its end."""
        key = await at.attach(ue())
        held = at.policy.hold("update")
        await use(at, 900)
        await at.detach(ue())
        await at.report()
        assert at.policy.terminated == []
        held.release(refused())
        await at.settle()
        assert len(at.policy.terminated) == 1
        assert at.policy.ledger.credit(key, "1") == Volume(900)


class TestInDoubt:
    """Requests of which nobody knows what became."""

    @pytest.mark.parametrize(
        "failing", [silent(), Lost(), ZeroDivisionError()], ids=["request lost", "answer lost", "unforeseen"]
    )
    async def test_the_same_request_goes_out_again(self, at: SimulatedGateway, failing: object) -> None:
        """Same number, same amounts, though more was used by then: so the policy side can tell that it is the same."""
        key = await at.attach(ue())
        at.policy.script("update", failing, failing, failing)
        await use(at, 900)
        await use(at, 990)
        await at.advance(60_000)
        assert sent(at, key) == [(1, 900, 0)] * 4
        charge = (await at.session(key)).credits["1"]
        assert (charge.reported_tx, charge.used_tx, charge.allowed_total) == (900, 990, 2000)
        assert at.policy.ledger.credit(key, "1") == Volume(900)
        assert types(at) == ["session_updated"]

    async def test_the_pause_grows_and_is_bounded(self, at: SimulatedGateway) -> None:
        """It is repeated after 2, 4, 8 and 16 seconds, and then twice a minute, until there is an answer."""
        await at.attach(ue())
        at.policy.usually("update", silent())
        await use(at, 900)
        begun, times = at.clock.now_ms(), list[int]()
        for _ in range(90):
            if len(at.policy.updates) > len(times):
                times.append((at.clock.now_ms() - begun) // 1000)
            await at.advance(1000)
        assert times == [0, 2, 6, 14, 30, 60]

    async def test_a_refused_repeat_says_nothing_about_the_first_attempt(self, at: SimulatedGateway) -> None:
        """While it is possible that the usage was counted, it is not reported under another number."""
        key = await at.attach(ue())
        at.policy.script("update", Lost(), refused(), unreachable())
        await use(at, 900)
        await use(at, 990)
        await at.advance(60_000)
        assert sent(at, key) == [(1, 900, 0)] * 4
        assert at.policy.ledger.credit(key, "1") == Volume(900)

    async def test_a_request_that_is_refused_for_ever_counts_as_not_carried_out(self, at: SimulatedGateway) -> None:
        """After many refused repeats doubt ends, so that a policy side that forgot a request does not stop charging."""
        key = await at.attach(ue())
        at.policy.script("update", silent(), *[refused()] * (MAX_REPEATS + 5))
        await use(at, 900)
        await at.advance(3_600_000)
        assert len(at.policy.updates) == MAX_REPEATS + 1
        assert (await at.session(key)).credits["1"].in_flight is None
        assert types(at) == ["session_update_failure"]

    async def test_others_are_not_in_doubt_with_it(self, at: SimulatedGateway) -> None:
        """A session that shares a request with one in doubt has its own fate when the repeat is refused."""
        keys = [await at.attach(ue(number)) for number in (1, 2)]
        at.policy.script("update", silent())
        await use(at, 900, number=1)
        at.policy.script("update", refused())
        await asyncio.gather(at.advance(2000), use(at, 900, number=2))
        for tx in (910, 920):
            await use(at, tx, number=2)
        assert {number for number, _, _ in sent(at, keys[0])} == {1}
        assert sent(at, keys[1])[-1][0] == 2
        await at.advance(60_000)
        assert [at.policy.ledger.credit(key, "1") for key in keys] == [Volume(900), Volume(sent(at, keys[1])[-1][1])]

    async def test_the_end_waits_until_there_is_no_doubt(self, at: SimulatedGateway) -> None:
        """A session does not report its end while a report is in doubt, and then only what that did not carry."""
        key = await at.attach(ue())
        at.policy.script("update", Lost(), silent())
        await use(at, 900)
        await at.detach(ue())
        await use(at, 990)
        await at.report()
        assert (await at.session(key)).head.state is State.CLOSING
        await at.advance(6000)
        assert len(at.policy.terminated) == 1
        assert at.policy.ledger.credit(key, "1") == Volume(990)
        assert at.policy.ledger.contradictions == []
        assert await at.sessions() == []

    async def test_usage_of_another_credit_is_not_held_up(self, at: SimulatedGateway) -> None:
        """While one credit is in doubt another one of the session is reported, under its own number, and answered."""
        at.policy.script("create", plan("video", "web", credits_=[grant("1"), grant("2")]))
        key = await at.attach(ue())
        at.policy.script("update", silent())
        await at.report(row(ue(), "video", 1, tx=900))
        await at.report(row(ue(), "video", 1, tx=900), row(ue(), "web", 1, tx=900))
        assert at.policy.ledger.credit(key, "2") == Volume(900)
        await at.advance(60_000)
        assert at.policy.ledger.credit(key, "1") == Volume(900)
        assert at.policy.ledger.contradictions == []


class TestStore:
    """A store that is away at the wrong moment."""

    async def test_a_report_waits_for_the_store(self, at: SimulatedGateway, store: TroubledStore) -> None:
        """If sessions cannot be read when their reports are due, they are reported when the store is back."""
        key = await at.attach(ue())
        store.fail("get", after=1)
        await use(at, 900)
        await at.advance(10_000)
        assert sent(at, key) == [(1, 900, 0)]
        assert (await at.session(key)).credits["1"].reported_tx == 900

    @pytest.mark.parametrize("answer", [USUAL, refused()], ids=["taken", "refused"])
    async def test_an_answer_that_could_not_be_written_is_asked_for_again(
        self, at: SimulatedGateway, store: TroubledStore, answer: object
    ) -> None:
        """The same request goes out again, and its answer is applied once."""
        key = await at.attach(ue())
        held = at.policy.hold("update")
        await use(at, 900)
        store.fail("write")
        held.release(answer)
        await at.advance(10_000)
        charge = (await at.session(key)).credits["1"]
        assert (charge.reported_tx, charge.allowed_total) == (900, 2000)
        assert sent(at, key) == [(1, 900, 0)] * 2
        assert at.policy.ledger.credit(key, "1") == Volume(900)


class TestRestart:
    """Reports under way when the daemon died."""

    @pytest.mark.parametrize("answer", [None, Lost()], ids=["not heard", "answer lost"])
    async def test_r4_a_report_in_flight_goes_out_again_after_a_restart(
        self, at: SimulatedGateway, answer: object
    ) -> None:
        """Same number, same amounts; what came after it follows later, and nothing is counted twice."""
        key = await at.attach(ue())
        at.policy.script("update", answer or Held())
        await use(at, 900)
        await at.restart()
        assert sent(at, key) == [(1, 900, 0)] * 2
        await use(at, 990)
        await at.detach(ue())
        await at.report()
        assert at.policy.ledger.credit(key, "1") == Volume(990)
        assert at.policy.ledger.contradictions == []
        assert await at.sessions() == []

    async def test_r4_after_a_restart_a_refusal_leaves_doubt(self, at: SimulatedGateway) -> None:
        """What was sent before the restart may have been counted, whatever is said to its repeat."""
        key = await at.attach(ue())
        at.policy.script("update", Lost())
        await use(at, 900)
        at.policy.script("update", refused())
        await at.restart()
        await use(at, 990)
        await at.advance(60_000)
        assert {number for number, _, _ in sent(at, key)} == {1}
        assert at.policy.ledger.credit(key, "1") == Volume(900)


async def test_reports_are_counted_by_what_became_of_them(at: SimulatedGateway) -> None:
    """Telemetry hears of every report that is sent, answered, refused or in doubt."""
    await at.attach(ue())
    at.policy.script("update", silent(), USUAL, refused())
    await use(at, 900)
    await at.advance(2000)
    await use(at, 1990)
    assert at.telemetry.reports == {"sent": 3, "in_doubt": 1, "answered": 1, "refused": 1}


def only(*credits_: str) -> Callable[[tuple[UsageReport, ...]], dict[str, UpdateAnswer]]:
    """Return an answer that mentions only these credits."""

    def answer(reports: tuple[UsageReport, ...]) -> dict[str, UpdateAnswer]:
        return {
            report.session.key: UpdateAnswer(
                numbers=report.numbers, credits=tuple(CreditReply(answer=grant(credit)) for credit in credits_)
            )
            for report in reports
        }

    return answer
