"""What was decided is carried to the peers: in order, until it is taken or refused, over restarts."""

from collections.abc import AsyncIterator, Callable

import pytest
from msgspec import structs

from sessiond.app.delivery import BEARER_ATTEMPTS, NEWS_ATTEMPTS, OVERDUE_ATTEMPTS, RULE_ATTEMPTS
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    TerminateSession,
    VersionedRule,
)
from sessiond.core.errors import PeerFailed
from sessiond.core.lifecycle import State
from sessiond.core.settings import Settings
from sessiond.core.update import Change, UpdateCriteria
from sessiond.testing.gateway import TEIDS, SimulatedGateway, row
from sessiond.testing.peers import Lost, refused, silent, unreachable
from tests.app.scenes import VIDEO, effects, gateway, plan, ue, wifi
from tests.app.stores import TroubledStore
from tests.core.builders import dynamic, failure, grant, ocs, redirect_grant, static


@pytest.fixture
async def at() -> AsyncIterator[SimulatedGateway]:
    """Give a gateway whose policy side allows one rule on one credit."""
    async with gateway(TroubledStore()) as running:
        running.policy.usually("create", VIDEO)
        yield running


def kinds(at: SimulatedGateway) -> list[str]:
    """Return what pipelined was told about flows: + for up, - for down, with the rules or `all`."""
    return [_kind(effect, versions=False) for _, effect in at.data_plane.flows]


def told(at: SimulatedGateway) -> list[str]:
    """Return the same with versions."""
    return [_kind(effect, versions=True) for _, effect in at.data_plane.flows]


def _kind(effect: ActivateFlows | DeactivateFlows, *, versions: bool) -> str:
    if isinstance(effect, DeactivateFlows) and effect.everything:
        return "-all"
    sign = "-" if isinstance(effect, DeactivateFlows) else "+"
    return sign + ",".join(f"{rule.id} {rule.version}" if versions else rule.id for rule in effect.rules)


async def change(
    at: SimulatedGateway, key: str, *, remove: tuple[str, ...] = (), install: tuple[str, ...] = ()
) -> None:
    """Change the rules of a session."""
    wanted = PolicyChange(remove=remove, installs=static(*install))
    await at.application.manager.policy_reauth(ue().subscriber, key, wanted)
    await at.settle()


async def test_nobody_is_told_who_is_configured_away(at: SimulatedGateway) -> None:
    """News for a peer that is not there is not even carried; the others hear theirs."""
    at.peers.without = frozenset({"eventd"})
    await at.restart()
    await at.attach(ue())
    assert at.events.calls("log") == []
    assert at.directory.calls("write") != []


class TestOrder:
    """Who waits for whom."""

    async def test_one_peer_hears_of_a_session_in_order(self, at: SimulatedGateway) -> None:
        """While a peer has not answered, it is told nothing more about that session; then all of it, as decided."""
        held = at.data_plane.hold("activate")
        key = await at.attach(ue())
        await change(at, key, install=("free",))
        await change(at, key, remove=("free",))
        await change(at, key, install=("web",))
        assert kinds(at) == ["+video"]
        held.release()
        await at.settle()
        assert kinds(at) == ["+video", "+free", "-free", "+web"]

    async def test_order_is_kept_while_one_is_repeated(self, at: SimulatedGateway) -> None:
        """What comes later waits until what came first was taken."""
        at.data_plane.script("activate", unreachable(), silent())
        key = await at.attach(ue())
        await change(at, key, install=("free",))
        await at.advance(1000)
        assert kinds(at) == ["+video", "+video", "+video", "+free"]

    async def test_peers_do_not_wait_for_each_other(self, at: SimulatedGateway) -> None:
        """A session whose flows wait for pipelined has its bearer taken down and its events logged all the same."""
        at.data_plane.hold("activate")
        key = await at.attach(ue())
        await at.application.manager.abort_session(ue().subscriber, key)
        await at.settle()
        assert kinds(at) == ["+video"]
        assert len(at.access.bearers) == 1
        assert [event.type for event in at.events.logged] == ["session_created", "session_terminated"]

    async def test_subscribers_do_not_wait_for_each_other(self, at: SimulatedGateway) -> None:
        """A call that hangs holds nobody else back."""
        at.data_plane.hold("activate")
        keys = [await at.attach(ue(number)) for number in (1, 2)]
        assert [key for key, _ in at.data_plane.flows] == keys

    async def test_flows_of_one_address_are_told_in_order(self, at: SimulatedGateway) -> None:
        """A UE that attaches again under its old address gets its flows after those of its old session are gone."""
        held = at.data_plane.hold("deactivate")
        await at.attach(ue())
        await at.detach(ue())
        await at.attach(ue())
        assert kinds(at) == ["+video", "-all"]
        held.release()
        await at.settle()
        assert kinds(at) == ["+video", "-all", "+video"]

    async def test_flows_of_different_addresses_are_told_at_once(self, at: SimulatedGateway) -> None:
        """Two sessions of one subscriber do not wait for each other unless they share an address."""
        at.data_plane.hold("activate")
        await at.attach(ue())
        await at.attach(ue(apn="ims"))
        assert kinds(at) == ["+video", "+video"]

    async def test_draining_waits_for_all_of_it(self, at: SimulatedGateway) -> None:
        """Drained is a daemon of which no peer has anything to hear any more."""
        held = at.data_plane.hold("activate")
        await at.attach(ue())
        held.release()
        await at.application.drain()
        assert all(not session.effects for session in await at.sessions())


class TestRetry:
    """A peer that does not take what it is told."""

    @pytest.mark.parametrize("failing", [unreachable, silent])
    async def test_flows_are_told_until_they_are_taken(
        self, at: SimulatedGateway, failing: Callable[[], PeerFailed]
    ) -> None:
        """Without an answer it is tried again, each time after twice as long; the session stays as it is."""
        at.data_plane.script("activate", *[failing() for _ in range(4)])
        key = await at.attach(ue())
        times = []
        for _ in range(3200 // 100):
            times.append(len(at.data_plane.flows))
            await at.advance(100)
        assert [times.count(attempts) for attempts in range(1, 5)] == [2, 4, 8, 16]
        assert len(at.data_plane.flows) == 5
        assert effects(await at.session(key)) == []
        assert (await at.session(key)).head.state is State.ACTIVE

    async def test_the_wait_between_attempts_is_bounded(self, at: SimulatedGateway) -> None:
        """However long a peer is away, it is tried again within half a minute of its return."""
        at.data_plane.usually("activate", unreachable())
        await at.attach(ue())
        await at.advance(3_600_000)
        at.data_plane.forget()
        before = len(at.data_plane.flows)
        await at.advance(30_000)
        assert len(at.data_plane.flows) == before + 1

    async def test_b3_a_data_plane_that_is_not_set_up_yet_is_no_refusal(self, at: SimulatedGateway) -> None:
        """Flows that pipelined refuses because nobody has set it up are told again; the session goes on."""
        at.data_plane.script("activate", refused("Enforcement service not initialized!", "UNAVAILABLE"))
        key = await at.attach(ue())
        await at.advance(1000)
        assert kinds(at) == ["+video", "+video"]
        assert (await at.session(key)).head.state is State.ACTIVE

    @pytest.mark.parametrize("failing", [unreachable, silent, refused, Lost])
    async def test_g9_the_end_is_told_until_the_policy_side_has_it(
        self, at: SimulatedGateway, failing: Callable[[], object]
    ) -> None:
        """Neither silence nor refusal ends the attempts, and the session stays until one is acknowledged."""
        at.policy.script("terminate", *[failing() for _ in range(12)])
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=100))
        await at.detach(ue())
        await at.report()
        assert effects(await at.session(key)) == [TerminateSession()]
        await at.advance(600_000)
        assert [session.key for session in at.policy.terminated] == [key] * 13
        assert await at.sessions() == []
        assert at.policy.ledger.credit(key, "1").tx == 100
        assert at.policy.ledger.contradictions == []

    async def test_g9_an_end_that_is_not_heard_is_brought_to_notice(self, at: SimulatedGateway) -> None:
        """After some attempts it is counted, once, so that an operator can look."""
        at.policy.usually("terminate", unreachable())
        await at.attach(ue())
        await at.detach(ue())
        await at.report()
        for attempt in range(1, 3 * OVERDUE_ATTEMPTS):
            assert at.telemetry.overdue["TerminateSession"] == (attempt >= OVERDUE_ATTEMPTS)
            assert len(at.policy.terminated) == attempt
            await at.advance(min(30_000, 200 * 2 ** (attempt - 1)))
        assert at.telemetry.failures["session_proxy", "UNAVAILABLE"] == 3 * OVERDUE_ATTEMPTS

    @pytest.mark.parametrize(("failing", "attempts"), [(refused, 1), (unreachable, BEARER_ATTEMPTS)])
    async def test_bearers_are_given_up(
        self, at: SimulatedGateway, failing: Callable[[], PeerFailed], attempts: int
    ) -> None:
        """An MME that refuses, or is away for long, is not asked for the bearer any more; the session goes on."""
        at.access.usually("create_bearer", failing())
        at.policy.script("create", structs.replace(VIDEO, installs=dynamic(ocs("gold", 1, qci=1))))
        key = await at.attach(ue())
        await at.advance(600_000)
        assert at.access.bearers == [(key, CreateBearer(rules=("gold",)))] * attempts
        assert effects(await at.session(key)) == []
        assert (await at.session(key)).head.state is State.ACTIVE


class TestRefusal:
    """A peer that says no."""

    async def test_b3_without_its_flows_a_session_ends(self, at: SimulatedGateway) -> None:
        """If pipelined refuses the flows of a session, it ends: bearer down, flows down, end reported."""
        at.data_plane.script("activate", refused())
        key = await at.attach(ue())
        session = await at.session(key)
        assert (session.head.state, session.head.reason) == (State.CLOSING, "FLOWS_REFUSED")
        assert kinds(at) == ["+video", "-all"]
        assert at.access.bearers == [(key, DeleteBearer(bearer_ids=(ue().lte.bearer_id,)))]  # type: ignore[union-attr]
        await at.report()
        assert [session.key for session in at.policy.terminated] == [key]
        assert await at.sessions() == []

    async def test_flows_of_a_final_action_are_not_worth_a_session(self, at: SimulatedGateway) -> None:
        """If pipelined refuses a redirection, that is logged and struck off; the session goes on."""
        at.policy.script("create", plan("video", credits_=[redirect_grant(total=100)]))
        key = await at.attach(ue())
        at.data_plane.script("activate", refused())
        await at.report(row(ue(), "video", 1, tx=200))
        assert kinds(at) == ["+video", "+redirect"]
        assert effects(await at.session(key)) == []
        assert (await at.session(key)).head.state is State.ACTIVE

    async def test_a_refused_removal_is_struck_off(self, at: SimulatedGateway) -> None:
        """If pipelined refuses to remove flows it is not asked again; the session goes on."""
        key = await at.attach(ue())
        at.data_plane.script("deactivate", refused())
        await change(at, key, remove=("video",))
        await at.advance(60_000)
        assert kinds(at) == ["+video", "-video"]
        assert effects(await at.session(key)) == []
        assert at.telemetry.failures == {("pipelined", "FAILED_PRECONDITION"): 1}

    async def test_the_end_goes_on_without_the_removal_of_its_flows(self, at: SimulatedGateway) -> None:
        """A session whose flows pipelined refuses to take down completes like any other."""
        await at.attach(ue())
        at.data_plane.script("deactivate", refused())
        await at.detach(ue())
        await at.advance(5000)
        assert len(at.policy.terminated) == 1
        assert await at.sessions() == []

    async def test_b2_rules_that_cannot_be_installed_are_tried_again_and_then_taken_away(
        self, at: SimulatedGateway
    ) -> None:
        """Only the rules that failed are tried again; after a few attempts the session does without them."""
        at.policy.script("create", plan("video", "free", credits_=[grant("1")]))
        at.data_plane.usually("activate", ("free",))
        key = await at.attach(ue())
        await at.advance(10_000)
        assert kinds(at) == ["+video,free"] + ["+free"] * (RULE_ATTEMPTS - 1)
        session = await at.session(key)
        assert {rule_id: rule.gx is not None for rule_id, rule in session.rules.items()} == {
            "video": True,
            "free": False,
        }
        assert at.telemetry.rules_failed == 1
        assert effects(session) == []

    async def test_a_rule_that_is_installed_at_last_stays(self, at: SimulatedGateway) -> None:
        """A rule that fails once and is then installed is in force like any other."""
        at.data_plane.script("activate", ("video",))
        key = await at.attach(ue())
        await at.advance(1000)
        assert kinds(at) == ["+video", "+video"]
        assert (await at.session(key)).rules["video"].gx is not None
        assert at.telemetry.rules_failed == 0


class TestNotBefore:
    """Effects that wait for their time."""

    async def test_flows_without_credit_go_half_a_second_after_the_start(self, at: SimulatedGateway) -> None:
        """A session that begins with a transient failure keeps its flows for 500 ms, and not a millisecond less."""
        at.policy.script("create", plan("video", credits_=[failure(4012, granted=grant().granted)]))
        await at.attach(ue())
        await at.advance(499)
        assert kinds(at) == ["+video"]
        await at.advance(1)
        assert kinds(at) == ["+video", "-video"]


class TestNews:
    """What is told a few times and then forgotten."""

    @pytest.mark.parametrize("failing", [unreachable, silent])
    async def test_news_is_dropped_after_a_few_attempts(
        self, at: SimulatedGateway, failing: Callable[[], PeerFailed]
    ) -> None:
        """An event that nobody takes is tried a few times; the events after it are told all the same."""
        at.events.script("log", *[failing() for _ in range(NEWS_ATTEMPTS)])
        await at.attach(ue())
        await at.detach(ue())
        await at.report()
        await at.advance(60_000)
        types = [event.type for event in at.events.logged]
        assert types == ["session_created"] * NEWS_ATTEMPTS + ["session_terminated"]

    async def test_refused_news_is_not_repeated(self, at: SimulatedGateway) -> None:
        """What eventd or directoryd refuses is told once."""
        at.events.script("log", refused())
        at.directory.script("write", refused())
        await at.attach(ue())
        await at.advance(60_000)
        assert len(at.events.logged) == 1
        assert len(at.directory.calls("write")) == 1

    async def test_the_record_of_a_subscriber_is_written_in_order(self, at: SimulatedGateway) -> None:
        """Whichever session of a subscriber it names, the record is what was decided last."""
        held = at.directory.hold("write")
        await at.attach(ue())
        second = await at.attach(ue(apn="ims"))
        assert at.directory.records == {}
        held.release()
        await at.settle()
        assert at.directory.records == {ue().subscriber: second}

    async def test_the_record_names_a_session_that_is_left(self, at: SimulatedGateway) -> None:
        """When one of two sessions is over, the record is of the other one; when none is left it goes."""
        first = await at.attach(ue())
        await at.attach(ue(apn="ims"))
        await at.detach(ue(apn="ims"))
        await at.report(row(ue(), "video", 1))
        assert at.directory.records == {ue().subscriber: first}
        await at.detach(ue())
        await at.report()
        assert at.directory.records == {}


class TestTrouble:
    """What nobody foresaw."""

    async def test_a_peer_that_breaks_holds_nothing_else_back(self, at: SimulatedGateway) -> None:
        """An effect that fails in an unforeseen way is left on the session; the next one is carried out."""
        at.data_plane.script("activate", ZeroDivisionError())
        key = await at.attach(ue())
        await change(at, key, install=("free",))
        assert kinds(at) == ["+video", "+free"]
        assert effects(await at.session(key)) == [ActivateFlows(teids=TEIDS, rules=(VersionedRule("video", 1),))]

    async def test_striking_off_waits_for_the_store(self, at: SimulatedGateway) -> None:
        """An effect that was taken while the store is away is struck off when the store is back, and told once."""
        held = at.data_plane.hold("activate")
        key = await at.attach(ue())
        assert isinstance(at.store, TroubledStore)
        at.store.fail("write", 3)
        held.release()
        await at.settle()
        assert len(effects(await at.session(key))) == 1
        await at.advance(5000)
        assert effects(await at.session(key)) == []
        assert kinds(at) == ["+video"]

    async def test_taking_a_rule_away_waits_for_the_store(self, at: SimulatedGateway) -> None:
        """A rule that cannot be installed is taken away when the store is back, and the effect is struck off."""
        at.data_plane.usually("activate", ("video",))
        key = await at.attach(ue())
        await at.advance(200)
        assert isinstance(at.store, TroubledStore)
        at.store.fail("write", 3)
        await at.advance(60_000)
        session = await at.session(key)
        assert session.rules["video"].gx is None
        assert effects(session) == []

    async def test_a_session_that_is_gone_has_nothing_to_strike_off(self, at: SimulatedGateway) -> None:
        """If somebody else removed the session meanwhile, that is the end of it."""
        held = at.data_plane.hold("activate")
        key = await at.attach(ue())
        assert isinstance(at.store, TroubledStore)
        await at.store.lose(key)
        held.release()
        await at.application.drain()
        assert await at.sessions() == []


class TestRestart:
    """What was not carried out when the daemon died."""

    async def test_what_nobody_took_is_told_after_a_restart(self, at: SimulatedGateway) -> None:
        """An effect under way when the daemon dies is told again, in the order in which it was decided."""
        at.data_plane.hold("activate")
        key = await at.attach(ue())
        await change(at, key, install=("free",))
        await change(at, key, install=("web",))
        await at.restart()
        assert kinds(at) == ["+video", "+video", "+free", "+web"]
        assert effects(await at.session(key)) == []

    async def test_the_order_is_that_of_the_numbers(self, at: SimulatedGateway) -> None:
        """However many effects a session has made, and however many digits their numbers have."""
        at.data_plane.usually("activate", unreachable())
        key = await at.attach(ue())
        made = UpdateCriteria({("gateway", ""): Change(add={"effects_made": 999_997})})
        assert isinstance(at.store, TroubledStore)
        at.store.rival(key, made)
        for rule in ("free", "web", "voice"):
            await change(at, key, install=(rule,))
        assert [*(await at.session(key)).effects] == ["000001", "999999", "1000000", "1000001"]
        at.data_plane.forget()
        await at.restart()
        assert kinds(at)[-4:] == ["+video", "+free", "+web", "+voice"]

    async def test_g9_the_end_is_told_after_a_restart(self, at: SimulatedGateway) -> None:
        """An end that the policy side has not heard of when the daemon dies is told by the next one."""
        at.policy.script("terminate", unreachable())
        key = await at.attach(ue())
        await at.detach(ue())
        await at.report()
        await at.restart()
        assert [session.key for session in at.policy.terminated] == [key] * 2
        assert await at.sessions() == []

    async def test_flows_of_one_address_keep_their_order_over_a_restart(self, at: SimulatedGateway) -> None:
        """The flows of an older session of the address go down before those of the newer one go up."""
        at.data_plane.usually("deactivate", unreachable())
        await at.attach(ue())
        await at.detach(ue())
        await at.advance(1)
        await at.attach(ue())
        at.data_plane.forget()
        assert isinstance(at.store, TroubledStore)
        at.store.backwards = True
        await at.restart()
        assert kinds(at)[-2:] == ["-all", "+video"]


class TestCarrierWifi:
    """What carrier wifi wants told beside that."""

    async def test_aaa_server_and_mac_flow_hear_of_the_end(self, at: SimulatedGateway) -> None:
        """A session that the policy side aborts is told to the AAA server, and its MAC address is forgotten."""
        key = await at.attach(wifi())
        await at.application.manager.abort_session(wifi().subscriber, key)
        await at.settle()
        assert [call.arguments[0].key for call in at.wifi.calls("terminate")] == [key]
        assert [call.arguments[0].key for call in at.data_plane.calls("delete_mac_flow")] == [key]
        assert at.access.bearers == []
        assert await at.application.manager.sessions() == []

    async def test_flow_export_and_quota_state_are_told(self) -> None:
        """With IPFIX and wallet exhaustion pipelined hears what to export, and whether anything is left to spend."""
        settings = Settings(ipfix=True, wallet_exhaustion_terminates=True)
        async with gateway(settings=settings) as at:
            await at.attach(wifi())
            assert len(at.data_plane.calls("export_flows")) == 1
            assert len(at.data_plane.calls("update_quota_state")) == 1


class TestOvertaken:
    """Flows that were decided otherwise while they waited for pipelined."""

    async def test_flows_that_are_counted_anew_are_told_in_their_new_version(self, at: SimulatedGateway) -> None:
        """Flows that waited while the switch lost its counters were set up in a new version, and are told in that."""
        at.data_plane.script("activate", unreachable())
        await at.attach(ue())
        await at.report(epoch=2, counters_restart=True)
        await at.advance(60_000)
        assert told(at) == ["+video 1", "+video 2"]
        assert [call.arguments[0] for call in at.data_plane.calls("set_up")] == [1, 2]
        (session,) = await at.sessions()
        assert (session.rules["video"].version, session.effects) == (2, {})

    async def test_only_the_last_word_is_told_after_a_setup(self, at: SimulatedGateway) -> None:
        """A rule that was removed while it waited does not come up in between; the one beside it in its new version."""
        at.policy.script("create", plan("video", "free", credits_=[grant("1")]))
        at.data_plane.script("activate", unreachable())
        key = await at.attach(ue())
        await change(at, key, remove=("free",))
        await at.report(epoch=2, counters_restart=True)
        await at.advance(1000)
        assert told(at) == ["+video 1,free 1", "+video 2", "-free 2"]

    async def test_flows_of_a_session_that_ends_do_not_come_up_any_more(self, at: SimulatedGateway) -> None:
        """What waited when its session was released is not told; that all of its flows are to go is."""
        at.data_plane.script("activate", unreachable())
        await at.attach(ue())
        await at.detach(ue())
        await at.advance(1000)
        assert told(at) == ["+video 1", "-all"]

    async def test_flows_of_a_final_action_are_told_in_their_new_version(self, at: SimulatedGateway) -> None:
        """The redirection that waited while the switch lost its counters is told in the version it has by then."""
        at.policy.script("create", plan("video", credits_=[redirect_grant(total=100)]))
        await at.attach(ue())
        at.data_plane.script("activate", unreachable())
        await at.report(row(ue(), "video", 1, tx=200))
        await at.report(epoch=2, counters_restart=True)
        await at.advance(1000)
        assert told(at) == ["+video 1", "+redirect 1", "+redirect 2"]

    async def test_flows_of_a_session_that_is_gone_are_not_told(self, at: SimulatedGateway) -> None:
        """If somebody else finished the session meanwhile, its flows do not come up again."""
        at.data_plane.script("activate", unreachable())
        key = await at.attach(ue())
        assert isinstance(at.store, TroubledStore)
        await at.store.lose(key)
        await at.advance(60_000)
        assert kinds(at) == ["+video"]

    async def test_looking_at_the_session_waits_for_the_store(self, at: SimulatedGateway) -> None:
        """While the store is away nobody knows what is still wanted, and nothing is told; then it is."""
        held = at.data_plane.hold("activate")
        key = await at.attach(ue())
        await change(at, key, install=("free",))
        assert isinstance(at.store, TroubledStore)
        held.release(unreachable())
        at.store.fail("get", 2)
        await at.advance(10_000)
        assert kinds(at) == ["+video", "+video", "+free"]
        assert effects(await at.session(key)) == []
