"""The gateway use cases: sessions begin, are found and end, whoever else is at it, whatever the policy side says."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec import structs

from sessiond.app.gateway import ID_ATTEMPTS
from sessiond.core.decide.reauth import PolicyChange, ReAuthResult
from sessiond.core.decide.release import VERSIONS_KEPT_MS
from sessiond.core.decide.rule_sets import RuleSet, RuleSets
from sessiond.core.effects import ActivateFlows, DeactivateFlows, DeleteBearer, VersionedRule
from sessiond.core.errors import Aborted, NotFound, PeerFailed, SessionError, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.rules import Bearer, Teids
from sessiond.core.session import Context, Session
from sessiond.testing.clock import HandClock
from sessiond.testing.gateway import TEIDS, SimulatedGateway, row
from sessiond.testing.peers import Lost, refused, silent, unreachable
from tests.app.scenes import VIDEO, gateway, ue, wifi
from tests.app.stores import TroubledStore
from tests.core.builders import dynamic, free, ocs, static


@pytest.fixture
async def at() -> AsyncIterator[SimulatedGateway]:
    """Give a gateway whose data plane is set up and whose policy side allows one rule on one credit."""
    async with gateway() as running:
        running.policy.usually("create", VIDEO)
        yield running


async def states(at: SimulatedGateway) -> dict[str, State]:
    """Return the state of every session that is stored."""
    return {session.key: session.head.state for session in await at.sessions()}


class TestCreate:
    """What becomes of a request to create a session."""

    async def test_a_new_session_is_asked_for_and_kept(self, at: SimulatedGateway) -> None:
        """The policy side is asked once, the session is active, and directoryd knows it."""
        key = await at.application.manager.create_session(ue())
        await at.settle()
        assert await states(at) == {key: State.ACTIVE}
        assert [call.arguments[0].key for call in at.policy.calls("create")] == [key]
        assert at.directory.records == {ue().subscriber: key}
        assert at.data_plane.flows == []

    async def test_without_a_data_plane_nothing_is_created(self) -> None:
        """While pipelined is not set up a create is refused with a time to retry after, and nobody is asked."""
        async with gateway(ready=False) as at:
            with pytest.raises(Unavailable) as refusal:
                await at.application.manager.create_session(ue())
            assert (refusal.value.reason, refusal.value.retry_after_ms) == ("DATA_PLANE_NOT_READY", 1000)
            assert at.peers.journal.calls == []

    @pytest.mark.parametrize("tunnels", [False, True], ids=["before tunnels", "after tunnels"])
    async def test_the_same_request_again_keeps_the_session(self, at: SimulatedGateway, tunnels: bool) -> None:
        """A repeated attach has the session of the first: no second question, only the record is written again."""
        key = await (at.attach(ue()) if tunnels else at.application.manager.create_session(ue()))
        assert await at.application.manager.create_session(ue()) == key
        await at.settle()
        assert len(at.policy.calls("create")) == 1
        assert len(at.directory.calls("write")) == 2

    @pytest.mark.parametrize(
        "changed",
        [{"ue_ipv4": "10.9.9.9"}, {"ue_ipv6": "fd00::1"}, {"msisdn": "5550100099"}, {"lte": None}],
        ids=lambda fields: next(iter(fields)),
    )
    async def test_g1_a_changed_request_replaces_the_session(
        self, at: SimulatedGateway, changed: dict[str, str | None]
    ) -> None:
        """LTE, same APN, anything else different: the old session ends, and the MME is not told what it did itself."""
        old = await at.attach(ue())
        new = await at.application.manager.create_session(structs.replace(ue(), **changed))
        await at.settle()
        assert await states(at) == {old: State.CLOSING, new: State.ACTIVE}
        assert at.data_plane.flows[-1] == (old, DeactivateFlows(teids=TEIDS, everything=True))
        assert at.access.bearers == []
        await at.report()
        assert [session.key for session in at.policy.terminated] == [old]
        assert at.directory.records == {ue().subscriber: new}

    async def test_another_apn_is_another_session(self, at: SimulatedGateway) -> None:
        """A subscriber has one session for each APN."""
        first = await at.attach(ue())
        second = await at.attach(ue(apn="ims"))
        assert await states(at) == {first: State.ACTIVE, second: State.ACTIVE}

    async def test_a_session_that_is_ending_is_left_to_end(self, at: SimulatedGateway) -> None:
        """A UE that comes back at once has a new session, and the old one completes beside it."""
        old = await at.attach(ue())
        await at.detach(ue())
        new = await at.attach(ue())
        assert await states(at) == {old: State.CLOSING, new: State.ACTIVE}

    async def test_carrier_wifi_keeps_its_session_with_the_new_context(self, at: SimulatedGateway) -> None:
        """Any active session of a carrier wifi subscriber is kept, and takes over what the request says."""
        key = await at.attach(wifi())
        assert await at.application.manager.create_session(wifi(apn="other", msisdn="5550100099")) == key
        assert (await at.session(key)).context == wifi(apn="other", msisdn="5550100099", teids=TEIDS)
        assert len(at.policy.calls("create")) == 1

    async def test_carrier_wifi_begins_again_when_the_old_session_is_ending(self, at: SimulatedGateway) -> None:
        """A session that is ending is no session to keep."""
        old = await at.attach(wifi())
        await at.detach(wifi())
        assert await at.attach(wifi()) != old


class TestCreateTogether:
    """Requests that come at the same time."""

    async def test_requests_of_one_subscriber_wait_for_each_other(self, at: SimulatedGateway) -> None:
        """A request that is repeated while the policy side still thinks has the session of the first."""
        held = at.policy.hold("create")
        requests = [asyncio.create_task(at.application.manager.create_session(ue())) for _ in range(5)]
        await at.settle()
        assert len(at.policy.calls("create")) == 1
        held.release()
        assert len(set(await asyncio.gather(*requests))) == 1
        assert len(at.policy.calls("create")) == 1

    async def test_after_a_refusal_the_next_request_asks_again(self, at: SimulatedGateway) -> None:
        """The refusal of one request is not the answer to another one that waited for it."""
        held = at.policy.hold("create")
        first = asyncio.create_task(at.application.manager.create_session(ue()))
        await at.settle()
        second = asyncio.create_task(at.application.manager.create_session(ue()))
        await at.settle()
        held.release(refused())
        with pytest.raises(PeerFailed):
            await first
        assert await states(at) == {await second: State.ACTIVE}

    async def test_requests_of_different_subscribers_do_not_wait(self, at: SimulatedGateway) -> None:
        """One subscriber's question to the policy side holds no other subscriber back."""
        held = at.policy.hold("create")
        waiting = asyncio.create_task(at.application.manager.create_session(ue(1)))
        await at.settle()
        await at.attach(ue(2))
        assert not waiting.done()
        held.release()
        await waiting


class TestPolicySide:
    """A policy side that does not allow a session, or does not answer."""

    @pytest.mark.parametrize("failure", [refused, unreachable])
    async def test_a_refused_session_leaves_nothing(
        self, at: SimulatedGateway, failure: Callable[[], PeerFailed]
    ) -> None:
        """The policy side's status goes to the caller; there is an event, but no session, no record, no end to tell."""
        at.policy.script("create", failure())
        with pytest.raises(PeerFailed) as refusal:
            await at.application.manager.create_session(ue())
        assert refusal.value.status == failure().status
        await at.settle()
        assert await states(at) == {}
        assert [event.type for event in at.events.logged] == ["session_create_failure"]
        assert at.directory.calls("write") == []
        assert at.policy.terminated == []

    @pytest.mark.parametrize("answer", [silent(), Lost()], ids=["not heard", "answer lost"])
    async def test_a_session_the_policy_side_may_know_is_ended_there(
        self, at: SimulatedGateway, answer: object
    ) -> None:
        """Without an answer the caller hears of the failure, and the policy side is told the end until it knows."""
        at.policy.script("create", answer)
        at.policy.script("terminate", unreachable(), silent())
        with pytest.raises(PeerFailed):
            await at.application.manager.create_session(ue())
        await at.settle()
        assert list((await states(at)).values()) == [State.CLOSED]
        await at.advance(1000)
        assert len(at.policy.terminated) == 3
        assert await states(at) == {}

    async def test_s6_a_question_that_crashed_is_given_up(self, at: SimulatedGateway) -> None:
        """If asking fails in a way nobody foresaw, the session is given up later and ended at the policy side."""
        at.policy.script("create", ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await at.application.manager.create_session(ue())
        assert list((await states(at)).values()) == [State.CREATING]
        await at.advance(11_999)
        assert at.policy.terminated == []
        await at.advance(1)
        assert len(at.policy.terminated) == 1
        assert await states(at) == {}

    async def test_s6_a_caller_that_went_away_leaves_nothing_for_ever(self, at: SimulatedGateway) -> None:
        """A create that is cancelled while the policy side thinks is ended there at once, also when we shut down."""
        at.policy.hold("create")
        request = asyncio.create_task(at.application.manager.create_session(ue()))
        await at.settle()
        request.cancel()
        await at.settle()
        assert len(at.policy.terminated) == 1
        assert await states(at) == {}

    async def test_a_late_answer_finds_the_session_given_up(self, at: SimulatedGateway) -> None:
        """An answer that comes after the session was given up puts nothing in force."""
        held = at.policy.hold("create")
        at.policy.usually("terminate", unreachable())
        request = asyncio.create_task(at.application.manager.create_session(ue()))
        await at.advance(12_000)
        held.release()
        with pytest.raises(Aborted) as caught:
            await request
        assert caught.value.reason == "SESSION_GONE"
        assert list((await states(at)).values()) == [State.CLOSED]


class TestIds:
    """Session ids."""

    async def test_an_id_that_is_taken_is_not_given_again(self) -> None:
        """If chance gives a number that a session of the subscriber has, another one is drawn."""
        async with gateway(clock=Dice(7, 7, 7, 8)) as at:
            assert await at.attach(ue()) == f"{ue().subscriber}-7"
            assert await at.attach(ue(apn="ims")) == f"{ue().subscriber}-8"

    async def test_the_same_number_serves_different_subscribers(self) -> None:
        """A number is taken for one subscriber only."""
        async with gateway(clock=Dice(7, 7)) as at:
            assert [await at.attach(ue(number)) for number in (1, 2)] == [f"{ue(n).subscriber}-7" for n in (1, 2)]

    async def test_drawing_is_bounded(self) -> None:
        """After many numbers that are all taken a create is refused, to be tried again later."""
        async with gateway(clock=Dice(*[7] * (ID_ATTEMPTS + 1))) as at:
            await at.attach(ue())
            with pytest.raises(Unavailable) as refusal:
                await at.application.manager.create_session(ue(apn="ims"))
            assert refusal.value.reason == "SESSION_IDS_USED_UP"
            assert len(at.policy.calls("create")) == 1


class TestTunnels:
    """A session comes into force on its tunnels."""

    async def test_tunnels_put_rules_and_quotas_in_force(self, at: SimulatedGateway) -> None:
        """The rules of the policy side's answer go up on the tunnels, and its credit is there."""
        key = await at.attach(ue())
        assert at.data_plane.flows == [(key, ActivateFlows(teids=TEIDS, rules=(VersionedRule("video", 1),)))]
        assert (await at.session(key)).credits["1"].allowed_total == 1000
        assert [event.type for event in at.events.logged] == ["session_created"]

    @pytest.mark.parametrize(("subscriber", "bearer_id"), [("IMSI9", 5), (ue().subscriber, 1)])
    async def test_tunnels_of_nobody_are_refused(self, at: SimulatedGateway, subscriber: str, bearer_id: int) -> None:
        """An unknown subscriber, or a bearer that no session has, is not found."""
        await at.application.manager.create_session(ue())
        with pytest.raises(NotFound):
            await at.application.manager.update_tunnel_ids(subscriber, bearer_id, TEIDS)

    async def test_b6_the_session_id_tells_sessions_of_one_bearer_apart(self, at: SimulatedGateway) -> None:
        """With two sessions on the same bearer id, the one that is named comes into force."""
        first = await at.application.manager.create_session(ue())
        second = await at.application.manager.create_session(structs.replace(ue(), apn="ims"))
        await at.application.manager.update_tunnel_ids(ue().subscriber, bearer_of(ue()), TEIDS, second)
        await at.settle()
        assert [key for key, _ in at.data_plane.flows] == [second]
        assert (await at.session(first)).gateway != (await at.session(second)).gateway

    @pytest.mark.parametrize("context", [ue(), wifi()], ids=["lte", "wifi"])
    async def test_tunnels_of_an_ending_session_are_refused(self, at: SimulatedGateway, context: Context) -> None:
        """What is being released gets no flows any more."""
        await at.attach(context)
        await at.detach(context)
        told = list(at.data_plane.flows)
        with pytest.raises(NotFound):
            await at.application.manager.update_tunnel_ids(context.subscriber, bearer_of(context), TEIDS)
        await at.settle()
        assert at.data_plane.flows == told

    async def test_s6_tunnels_are_for_the_session_in_force(self, at: SimulatedGateway) -> None:
        """Carrier wifi: beside a session that never got an answer, the active one gets the tunnels."""
        await leftover(at, wifi())
        key = await at.application.manager.create_session(wifi())
        await at.application.manager.update_tunnel_ids(wifi().subscriber, 0, TEIDS)
        await at.settle()
        assert [told for told, _ in at.data_plane.flows] == [key]


class TestEnd:
    """A session ends."""

    async def test_flows_go_down_at_once_and_the_end_is_reported_later(self, at: SimulatedGateway) -> None:
        """Ending takes the flows down; the end is told when a table has no record of the session any more."""
        key = await at.attach(ue())
        await at.detach(ue())
        assert at.data_plane.flows[-1] == (key, DeactivateFlows(teids=TEIDS, everything=True))
        assert at.policy.terminated == []
        await at.report()
        assert [session.key for session in at.policy.terminated] == [key]
        assert [event.type for event in at.events.logged] == ["session_created", "session_terminated"]
        assert at.directory.records == {}
        assert await states(at) == {}

    @pytest.mark.parametrize(("subscriber", "apn"), [("IMSI9", "internet"), (ue().subscriber, "ims")])
    async def test_what_is_not_there_cannot_end(self, at: SimulatedGateway, subscriber: str, apn: str) -> None:
        """An unknown subscriber, or an APN without a session, is not found."""
        await at.attach(ue())
        with pytest.raises(NotFound):
            await at.application.manager.end_session(subscriber, apn)

    async def test_ending_twice_is_ending_once(self, at: SimulatedGateway) -> None:
        """A second end of a session that is being released changes nothing and is no mistake."""
        await at.attach(ue())
        await at.detach(ue())
        before = await at.sessions()
        await at.detach(ue())
        assert await at.sessions() == before

    async def test_g13_the_end_of_a_reattached_ue_ends_its_new_session(self, at: SimulatedGateway) -> None:
        """While the old session of the same APN still waits for its final usage, the new one is the one that ends."""
        old = await at.attach(ue())
        await at.detach(ue())
        new = await at.attach(ue())
        await at.detach(ue())
        assert await states(at) == {old: State.CLOSING, new: State.CLOSING}

    async def test_s6_the_end_is_for_the_session_in_force(self, at: SimulatedGateway) -> None:
        """Beside a session that never got an answer, the active one is the one that ends."""
        left = await leftover(at, ue())
        key = await at.attach(ue())
        await at.detach(ue())
        assert await states(at) == {left: State.CREATING, key: State.CLOSING}

    @pytest.mark.parametrize("failure", [None, refused()], ids=["allowed", "refused"])
    async def test_an_end_overtakes_the_policy_sides_answer(
        self, at: SimulatedGateway, failure: PeerFailed | None
    ) -> None:
        """A session that ends while it is created does not come into force, and the policy side hears of the end."""
        held = at.policy.hold("create")
        request = asyncio.create_task(at.application.manager.create_session(ue()))
        await at.settle()
        await at.detach(ue())
        held.release(failure or VIDEO)
        with pytest.raises(SessionError):
            await request
        await at.report()
        assert len(at.policy.terminated) == 1
        assert at.directory.records == {}
        assert await states(at) == {}

    async def test_s6_the_end_of_a_session_that_never_began_takes_no_flows_down(self, at: SimulatedGateway) -> None:
        """A session that never got an answer has no flows: those of its address are of the session in force."""
        left = await leftover(at, ue())
        key = await at.attach(ue())
        await at.application.manager.abort_session(ue().subscriber, left)
        await at.settle()
        assert [told for told, _ in at.data_plane.flows] == [key]
        assert at.access.bearers == []


class TestAbort:
    """The policy side ends a session."""

    async def test_flows_and_bearer_go_and_nothing_is_reported(self, at: SimulatedGateway) -> None:
        """Pipelined and the MME are told, there is an event, and no report: the policy side knows."""
        key = await at.attach(ue())
        await at.application.manager.abort_session(ue().subscriber, key)
        await at.settle()
        assert at.data_plane.flows[-1] == (key, DeactivateFlows(teids=TEIDS, everything=True))
        assert at.access.bearers == [(key, DeleteBearer(bearer_ids=(bearer_of(ue()),)))]
        assert [event.type for event in at.events.logged] == ["session_created", "session_terminated"]
        assert at.directory.records == {}
        assert at.policy.terminated == []
        assert await at.application.manager.sessions() == []

    async def test_g13_its_late_usage_is_not_the_next_sessions(self, at: SimulatedGateway) -> None:
        """A device that comes back right after an abort does not pay for what its aborted session used."""
        key = await at.attach(ue())
        await at.application.manager.abort_session(ue().subscriber, key)
        new = await at.attach(ue())
        version = (await at.session(new)).rules["video"].version
        await at.report(row(ue(), "video", 1, tx=500), row(ue(), "video", version, tx=3))
        assert (await at.session(new)).credits["1"].used_tx == 3

    async def test_it_is_forgotten_in_the_end(self, at: SimulatedGateway) -> None:
        """An aborted session is remembered for five minutes, and then it is gone."""
        key = await at.attach(ue())
        await at.application.manager.abort_session(ue().subscriber, key)
        await at.advance(VERSIONS_KEPT_MS - 1)
        assert await states(at) == {key: State.CLOSED}
        await at.advance(1)
        assert await states(at) == {}

    async def test_a_session_that_is_ending_can_be_aborted(self, at: SimulatedGateway) -> None:
        """An abort ends the wait for the final usage."""
        key = await at.attach(ue())
        await at.detach(ue())
        await at.application.manager.abort_session(ue().subscriber, key)
        await at.settle()
        assert await states(at) == {key: State.CLOSED}
        assert at.policy.terminated == []

    async def test_an_answer_to_an_aborted_session_changes_nothing(self, at: SimulatedGateway) -> None:
        """A usage report that is under way when its session is aborted is answered to nobody."""
        key = await at.attach(ue())
        held = at.policy.hold("update")
        await at.report(row(ue(), "video", 1, tx=900))
        await at.application.manager.abort_session(ue().subscriber, key)
        await at.settle()
        held.release()
        await at.settle()
        assert await states(at) == {key: State.CLOSED}
        assert at.policy.terminated == []

    @pytest.mark.parametrize(("subscriber", "key"), [("IMSI9", "IMSI9-1"), (ue().subscriber, "IMSI9-1")])
    async def test_what_is_not_there_cannot_be_aborted(self, at: SimulatedGateway, subscriber: str, key: str) -> None:
        """An unknown subscriber or session is not found."""
        await at.attach(ue())
        with pytest.raises(NotFound):
            await at.application.manager.abort_session(subscriber, key)

    async def test_a_session_of_somebody_else_is_not_found(self, at: SimulatedGateway) -> None:
        """A session id counts only together with its subscriber."""
        key = await at.attach(ue(1))
        await at.attach(ue(2))
        with pytest.raises(NotFound):
            await at.application.manager.abort_session(ue(2).subscriber, key)


class TestPolicyRequests:
    """What the policy side asks for while a session lasts."""

    async def test_a_credit_is_reauthorised_with_the_next_table(self, at: SimulatedGateway) -> None:
        """A re-authorisation of one credit, or of all, is reported with the next usage table, whatever was used."""
        key = await at.attach(ue())
        for credit in ("1", None):
            result = await at.application.manager.charging_reauth(ue().subscriber, key, credit)
            assert result is ReAuthResult.UPDATE_INITIATED
            await at.report()
        assert [len(reports) for reports in at.policy.updates] == [1, 1]

    async def test_reauthorisation_of_nobody_is_not_found(self, at: SimulatedGateway) -> None:
        """A credit of an unknown session cannot be re-authorised."""
        with pytest.raises(NotFound):
            await at.application.manager.charging_reauth(ue().subscriber, "IMSI9-1", None)

    async def test_policy_of_one_session_changes(self, at: SimulatedGateway) -> None:
        """Rules come and go in the session that is named; unknown static rules are named in the answer."""
        first, second = await at.attach(ue()), await at.attach(ue(apn="ims"))
        change = PolicyChange(remove=("video",), installs=(*static("free", "nonsense"), *dynamic(free("extra"))))
        assert await at.application.manager.policy_reauth(ue().subscriber, first, change) == ["nonsense"]
        assert in_force(await at.session(first)) == {"free", "extra"}
        assert in_force(await at.session(second)) == {"video"}

    async def test_policy_of_all_sessions_of_a_subscriber_changes(self, at: SimulatedGateway) -> None:
        """Without a session id every open session of the subscriber is meant, and no ending one."""
        await at.attach(ue(apn="old"))
        await at.detach(ue(apn="old"))
        keys = [await at.attach(ue()), await at.attach(ue(apn="ims"))]
        change = PolicyChange(installs=static("free"))
        assert await at.application.manager.policy_reauth(ue().subscriber, "", change) == []
        assert [in_force(await at.session(key)) for key in keys] == [{"video", "free"}] * 2

    @pytest.mark.parametrize("key", ["", "IMSI9-1"])
    async def test_policy_of_nobody_is_not_found(self, at: SimulatedGateway, key: str) -> None:
        """A change for an unknown session, or for a subscriber without one, is refused."""
        with pytest.raises(NotFound):
            await at.application.manager.policy_reauth(ue().subscriber, key, PolicyChange())

    async def test_b5_rule_sets_are_made_so(self, at: SimulatedGateway) -> None:
        """Each session has exactly the rules that are meant for its APN and for all; others are left alone."""
        internet, ims = await at.attach(ue()), await at.attach(ue(apn="ims"))
        sets = RuleSets(by_apn={"internet": RuleSet(frozenset({"web"}), (free("extra"),))})
        await at.application.manager.set_session_rules(ue().subscriber, sets)
        assert in_force(await at.session(internet)) == {"web", "extra"}
        assert in_force(await at.session(ims)) == {"video"}

    async def test_nothing_is_installed_before_the_policy_side_has_allowed_it(self, at: SimulatedGateway) -> None:
        """Rules for a session that is still being created are not put up: nobody knows yet whether it may be."""
        held = at.policy.hold("create")
        request = asyncio.create_task(at.application.manager.create_session(ue()))
        await at.settle()
        (creating,) = await at.sessions()
        for key in ("", creating.key):
            with pytest.raises(NotFound):
                await at.application.manager.policy_reauth(ue().subscriber, key, PolicyChange(installs=static("free")))
        sets = RuleSets(wide=RuleSet(frozenset({"web"})))
        await at.application.manager.set_session_rules(ue().subscriber, sets)
        await at.settle()
        assert await at.sessions() == [creating]
        assert at.data_plane.flows == []
        held.release(refused())
        with pytest.raises(PeerFailed):
            await request

    @pytest.mark.parametrize("gone", [False, True], ids=["ended", "gone"])
    async def test_a_session_that_ends_meanwhile_is_passed_over(self, gone: bool) -> None:
        """Of several sessions of a subscriber those that end while rules are being changed are left alone."""
        store = TroubledStore()
        async with gateway(store) as at:
            first, second = await at.attach(ue()), await at.attach(ue(apn="ims"))
            manager, subscriber = at.application.manager, ue().subscriber
            for change in (
                manager.policy_reauth(subscriber, "", PolicyChange(installs=static("free"))),
                manager.set_session_rules(subscriber, RuleSets(wide=RuleSet(frozenset({"free", "web"})))),
            ):
                held = store.hold("get")
                changing = asyncio.create_task(change)
                await at.settle()
                if gone:
                    await store.lose(first)
                elif (await at.session(first)).head.state is State.ACTIVE:
                    await at.detach(ue())
                held.set()
                await changing
            assert in_force(await at.session(second)) == {"free", "web"}
            left = await at.find(first)
            assert left is None or in_force(left) == set()

    async def test_rule_sets_of_nobody_are_no_mistake(self, at: SimulatedGateway) -> None:
        """Rules for a subscriber without a session change nothing."""
        await at.application.manager.set_session_rules("IMSI9", RuleSets(wide=RuleSet(frozenset({"web"}))))
        assert await at.sessions() == []


GOLD = dynamic(ocs("gold", 1, qci=1))
"""A rule that needs a bearer of its own."""


class TestBearers:
    """Dedicated bearers."""

    async def test_a_rule_goes_up_on_its_bearer(self, at: SimulatedGateway) -> None:
        """A rule of another QoS class has no flows until the MME names its bearer, and then on its tunnels."""
        at.policy.script("create", structs.replace(VIDEO, installs=(*static("video"), *GOLD)))
        key = await at.attach(ue())
        assert [type(effect).__name__ for _, effect in at.access.bearers] == ["CreateBearer"]
        teids = Teids(enb=77, agw=88)
        await at.application.manager.bind_bearer(ue().subscriber, bearer_of(ue()), "gold", Bearer(6, teids))
        await at.settle()
        assert at.data_plane.flows[-1] == (key, ActivateFlows(teids=teids, rules=(VersionedRule("gold", 1),)))

    @pytest.mark.parametrize(("subscriber", "rule"), [("IMSI9", "gold"), (ue().subscriber, "nonsense")])
    async def test_a_bearer_of_nobody_is_only_logged(self, at: SimulatedGateway, subscriber: str, rule: str) -> None:
        """The MME's word on a bearer of an unknown session or rule changes nothing."""
        await at.attach(ue())
        before = await at.sessions()
        await at.application.manager.bind_bearer(subscriber, bearer_of(ue()), rule, Bearer(6, TEIDS))
        assert await at.sessions() == before


async def test_all_sessions_that_are_not_over_can_be_listed(at: SimulatedGateway) -> None:
    """A session of which only the policy side has still to hear is over."""
    at.policy.usually("terminate", unreachable())
    active, ending = await at.attach(ue(1)), await at.attach(ue(2))
    await at.detach(ue(2))
    await at.attach(ue(3))
    await at.detach(ue(3))
    await at.report(row(ue(2), "video", 1, tx=1))
    assert {session.key for session in await at.application.manager.sessions()} == {active, ending}


async def test_a_refusal_before_the_beginning_is_an_event(at: SimulatedGateway) -> None:
    """What was refused before there was a session is told to eventd with its reason."""
    at.application.manager.note_refusal(ue().subscriber, "internet", "Received an invalid RAT type 7")
    await at.settle()
    (event,) = at.events.logged
    assert (event.type, event.value["failure_reason"]) == ("session_create_failure", "Received an invalid RAT type 7")


class Dice(HandClock):
    """A clock whose numbers are known."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self._left = list(numbers)

    def number(self, bound: int) -> int:
        """Return the next number."""
        assert bound == 1_000_000
        return self._left.pop(0)


async def leftover(at: SimulatedGateway, context: Context) -> str:
    """Leave a session behind whose policy answer never came."""
    at.policy.script("create", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await at.application.manager.create_session(context)
    (session,) = await at.sessions()
    return session.key


def bearer_of(context: Context) -> int:
    """Return the id of the default bearer."""
    return context.lte.bearer_id if context.lte else 0


def in_force(session: Session) -> set[str]:
    """Return the Gx rules in force."""
    return {rule_id for rule_id, rule in session.rules.items() if rule.gx is not None}
