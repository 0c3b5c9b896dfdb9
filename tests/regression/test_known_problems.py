"""Problems of the reference that ours must not have, each by its id in known-problems.md.

Those with a test beside their subject have the id in the name of that test; `tests/house/test_known_problems.py` knows.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sessiond.app.ports.peers import SetupResult, UsageReport
from sessiond.app.ports.store import Count, Counted, Delete, Stored, Write, Written
from sessiond.core import credit
from sessiond.core.charging import Service, UpdateReason, due
from sessiond.core.credit import Quota, Report
from sessiond.core.decide import reauth
from sessiond.core.decide.answer import CreditReply, MonitorReply, UpdateAnswer
from sessiond.core.decide.reauth import PolicyChange, ReAuthResult
from sessiond.core.effects import ActivateFlows, CreateBearer, DeactivateFlows, DeleteBearer, VersionedRule
from sessiond.core.errors import NotFound, Unavailable
from sessiond.core.ids import credit_key, credit_key_parts
from sessiond.core.lifecycle import State
from sessiond.core.quantity import GrantedUnits, Volume
from sessiond.core.rules import REDIRECT_RULE, Bearer, Lifetime, Teids
from sessiond.core.session import Context, DestinationHosts, Session
from sessiond.core.settings import Settings
from sessiond.core.update import applied
from sessiond.northbound.gateway.responder import SessionProxyResponder
from sessiond.pb.magma.lte.monitoring_pb2 import EventTrigger
from sessiond.pb.magma.lte.rule_install_pb2 import StaticRuleInstall
from sessiond.pb.magma.lte.session_proxy_responder_pb2 import PolicyReAuthAnswer, PolicyReAuthRequest
from sessiond.store.memory import MemoryStore
from sessiond.testing.gateway import TEIDS, SimulatedGateway, row
from sessiond.testing.peers import silent
from sessiond.translate.units import revalidation_at_ms
from tests.app.scenes import VIDEO, gateway, plan, ue
from tests.app.stores import TroubledStore
from tests.core.builders import (
    NOW_MS,
    Life,
    dynamic,
    failure,
    free,
    grant,
    monitor_grant,
    ocs,
    pcrf,
    redirect_grant,
    situation,
    started,
    static,
    terminate_grant,
)

NUMBERS = st.integers(0, 2**32 - 1)


# -- Consistency and races --------------------------------------------------------------------------------------------


async def test_r6_changes_of_one_subscriber_at_once_all_stand() -> None:
    """Tunnels, a re-authorisation and a second session at the same time: none overwrites another."""
    store = TroubledStore(turns=3)
    async with gateway(store) as at:
        at.policy.usually("create", plan("video", credits_=[grant("1"), grant("2")]))
        manager, device = at.application.manager, ue()
        key = await manager.create_session(device)
        await manager.update_tunnel_ids(device.subscriber, _bearer(device), TEIDS)
        moved = Teids(7, 8)
        await asyncio.gather(
            manager.update_tunnel_ids(device.subscriber, _bearer(device), moved),
            manager.charging_reauth(device.subscriber, key, "1"),
            manager.charging_reauth(device.subscriber, key, "2"),
            at.attach(ue(apn="ims")),
        )
        session = await at.session(key)
        assert session.context is not None
        assert session.context.teids == moved
        assert [str(charge.reauth) for charge in session.credits.values()] == ["REQUIRED", "REQUIRED"]
        assert len(await at.sessions()) == 2


@pytest.mark.parametrize("result", [SetupResult.FAILURE, SetupResult.OUTDATED_EPOCH, silent()])
async def test_r9_half_a_setup_is_none(result: object) -> None:
    """While any part of a setup has failed nobody is let in; that each part counts, `test_peers.py` holds."""
    async with gateway(ready=False) as at:
        at.data_plane.script("set_up", result)
        await at.report()
        with pytest.raises(Unavailable, match="PipelineD is not ready"):
            await at.application.manager.create_session(ue())
        await at.advance(5000)
        await at.report()
        assert await at.application.manager.create_session(ue())


# -- Lost state -------------------------------------------------------------------------------------------------------


def kept(session: Session) -> Session:
    """Return a session as it is after it was written down and read again."""
    return msgspec.json.decode(msgspec.json.encode(session), type=Session)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_s2_rules_of_both_kinds_end_in_time(kind: str, restarted: bool) -> None:
    """A dynamic rule is deactivated at its deactivation time as a static one is, also after a restart."""
    lifetime = Lifetime(0, NOW_MS + 1000)
    installs = static("rule", lifetime=lifetime) if kind == "static" else dynamic(free("rule"), lifetime=lifetime)
    life = started(situation(free("rule")), installs=installs)
    if restarted:
        life.session = kept(life.session)
    life.later(1000)
    life.tick()
    assert life.effects == [DeactivateFlows(teids=life_teids(life), rules=(VersionedRule("rule", 2),))]
    assert life.rule("rule").gx is None


def life_teids(life: Life) -> Teids:
    """Return the tunnel of a session."""
    assert life.session.context is not None
    return life.session.context.teids


def test_s3_diameter_hosts_and_quota_state_are_kept() -> None:
    """Whom to ask next, and what was said of the wallet, is known after a restart."""
    at = situation(pcrf("rule", "m1"), wallet_exhaustion_terminates=True)
    life = started(at, installs=static("rule"), monitors=[monitor_grant("m1", 100)], hosts=DestinationHosts("gx", "gy"))
    life.use("rule", 100)
    life.collect()
    newer = DestinationHosts("gx2", "")
    life.answered(monitors=[MonitorReply(answer=monitor_grant("m1", 100), hosts=newer)])
    gateway_ = kept(life.session).gateway
    assert gateway_ is not None
    assert (gateway_.hosts, gateway_.quota_state) == (DestinationHosts("gx2", "gy"), life.gateway.quota_state)
    assert gateway_.quota_state is not None


def test_s8_versions_leave_nothing_behind() -> None:
    """However often a rule changes, what is kept of it stays as small as it was."""
    life = started(situation(), installs=dynamic(free("rule")))
    sizes = []
    for _ in range(500):
        life.decide(lambda draft: reauth.change_policy(draft, PolicyChange(installs=dynamic(free("rule"))), life.at))
        life.use("rule", 10)
        life.struck()
        sizes.append(len(msgspec.json.encode(life.session.rules)))
    assert life.rule("rule").version == 501
    assert max(sizes) - sizes[0] <= 2 * len("501")


@given(one=st.tuples(NUMBERS, NUMBERS), other=st.tuples(NUMBERS, NUMBERS))
def test_s10_no_two_credits_share_a_key(one: tuple[int, int], other: tuple[int, int]) -> None:
    """Rating group and service stay apart: 1 and 12 are not 11 and 2."""
    assert (credit_key(*one) == credit_key(*other)) is (one == other)
    assert credit_key_parts(credit_key(*one)) == (one[0], one[1] or None)
    assert credit_key(1, 12) != credit_key(11, 2)


# -- Crashes ----------------------------------------------------------------------------------------------------------


class AwayStore(MemoryStore):
    """A store that one kind of call does not get through to, while it is said to be away."""

    away = ""

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        self._check("get")
        return await super().get(key)

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        self._check("find")
        return await super().find(scope)

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes."""
        self._check("write")
        return await super().write(writes)

    async def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        self._check("load")
        async for stored in super().load():
            yield stored

    async def now(self, key: str) -> Session:
        """Return a session as it is, away or not."""
        stored = await super().get(key)
        assert stored is not None
        return stored.session

    def _check(self, operation: str) -> None:
        if self.away == operation:
            raise Unavailable("STORE_UNAVAILABLE", "the store is away", retry_after_ms=1000)


Call = Callable[[SimulatedGateway, str], Awaitable[object]]
CALLS: dict[str, Call] = {
    "create": lambda at, _: at.application.manager.create_session(ue(2)),
    "create again": lambda at, _: at.application.manager.create_session(ue()),
    "tunnels": lambda at, _: at.application.manager.update_tunnel_ids(ue().subscriber, _bearer(ue()), TEIDS),
    "end": lambda at, _: at.application.manager.end_session(ue().subscriber, ue().apn),
    "charging": lambda at, key: at.application.manager.charging_reauth(ue().subscriber, key, "1"),
    "policy": lambda at, key: at.application.manager.policy_reauth(ue().subscriber, key, PolicyChange()),
    "abort": lambda at, key: at.application.manager.abort_session(ue().subscriber, key),
    "bearer": lambda at, _: at.application.manager.bind_bearer(ue().subscriber, _bearer(ue()), "video", Bearer(6)),
    "states": lambda at, _: at.application.manager.sessions(),
    "table": lambda at, _: at.application.usage.report([row(ue(), "video", 1, tx=5)], 1, counters_restart=False),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("operation", ["get", "find", "write", "load"])
async def test_c1_a_store_that_is_away_is_said_to_be_away(call: Call, operation: str) -> None:
    """Whatever is asked while the store is away is refused for the moment, or done later, and then all goes on."""
    store = AwayStore()
    async with gateway(store) as at:
        at.policy.usually("create", VIDEO)
        key = await at.attach(ue())
        store.away = operation
        with suppress(Unavailable):
            await call(at, key)
        await at.advance(5000)
        store.away = ""
        await at.advance(60_000)
        await at.report(row(ue(3), "video", 1, tx=5))
        assert await at.application.manager.create_session(ue(4))


async def test_c1_timers_outlive_a_store_that_is_away() -> None:
    """What is due while the store is away is done when it is back."""
    store = AwayStore()
    async with gateway(store) as at:
        lifetime = Lifetime(0, at.clock.now_ms() + 1000)
        at.policy.script("create", structs.replace(plan(), installs=dynamic(free("short"), lifetime=lifetime)))
        key = await at.attach(ue())
        store.away = "get"
        await at.advance(20_000)
        assert (await store.now(key)).rules["short"].gx is not None
        store.away = ""
        await at.advance(5000)
        assert (await at.session(key)).rules["short"].gx is None


@pytest.mark.parametrize("moment", ["table", "timer", "answer", "request"])
async def test_c2_a_session_that_is_gone_is_no_surprise(moment: str) -> None:
    """Nothing that comes for a session which somebody removed meanwhile stops the others."""
    store = MemoryStore()
    async with gateway(store) as at:
        at.policy.usually("create", VIDEO)
        gone, other = await at.attach(ue(1)), await at.attach(ue(2))
        held = at.policy.hold("update")
        if moment == "answer":
            await at.report(row(ue(1), "video", 1, tx=900), row(ue(2), "video", 1, tx=900))
        else:
            await at.detach(ue(1))
        stored = await store.get(gone)
        assert stored is not None
        await store.write([Delete(gone, stored.revision)])
        held.release()
        match moment:
            case "timer":
                await at.advance(10_000)
            case "request":
                with pytest.raises(NotFound):
                    await at.application.manager.end_session(ue(1).subscriber, ue(1).apn)
            case _:
                await at.report(row(ue(1), "video", 1, tx=950), row(ue(2), "video", 1, tx=950))
        await at.settle()
        await at.report(row(ue(2), "video", 1, tx=960))
        assert (await at.session(other)).credits["1"].used_tx == 960


@pytest.mark.parametrize("count", [1, 2, 50])
def test_c3_all_rules_go_at_once(count: int) -> None:
    """However many rules end at the same moment, by time or with their session, each of them does."""
    ending = Lifetime(0, NOW_MS + 1000)
    known = [free(f"static{n}") for n in range(count)]
    names = [rule.id for rule in known]
    rules = (*static(*names, lifetime=ending), *dynamic(*(free(f"dynamic{n}") for n in range(count)), lifetime=ending))
    by_time, by_release = (started(situation(*known), installs=rules) for _ in range(2))
    by_time.later(1000)
    by_time.tick()
    by_release.release()
    for life in (by_time, by_release):
        assert len(life.session.rules) == 2 * count
        assert all(rule.gx is None and rule.version == 2 for rule in life.session.rules.values())


# -- Charging logic ---------------------------------------------------------------------------------------------------


def test_g2_each_leg_has_a_floor_of_its_own() -> None:
    """Grants of tx alone are reported at 80 % of each, and what is asked for does not pile up (credit.md 4 C)."""
    quota = Quota()
    grant_ = GrantedUnits(tx=1000)
    for used, next_report in ((800, 1800), (1000, 2800), (1000, 3800)):
        quota = applied(quota, credit.granted(quota, grant_))
        assert not credit.exhausted(applied(quota, credit.used(quota, used - 1, 0, 1)), 0.8)
        quota = applied(quota, credit.used(quota, used, 0, 1))
        assert (quota.used_tx, credit.exhausted(quota, 0.8)) == (next_report - 1000, True)
        assert credit.requested(quota).tx == 800
    assert (quota.allowed_tx, quota.floor_tx) == (3000, 2000)


@given(used=st.integers(0, 2**40), reported=st.integers(0, 2**40), in_flight=st.integers(0, 2**40))
def test_g3_what_is_in_flight_is_not_unreported(used: int, reported: int, in_flight: int) -> None:
    """Up and down are reckoned alike: used is reported, in flight and unreported (credit.md 4 G)."""
    total = used + reported + in_flight
    quota = Quota(used_tx=total, used_rx=total, reported_tx=reported, reported_rx=reported)
    quota = structs.replace(quota, in_flight=Report(1, in_flight, in_flight, "X"))
    assert credit.unreported(quota) == Volume(used, used)


async def test_g5_validity_ends_without_a_table() -> None:
    """A credit is reported when its validity time is over, though pipelined says nothing."""
    async with gateway() as at:
        at.policy.script("create", plan("video", credits_=[grant("1", validity_ms=30_000)]))
        await at.attach(ue())
        await at.advance(29_999)
        assert at.policy.updates == []
        await at.advance(1)
        ((sent,),) = at.policy.updates
        in_flight = sent.session.credits["1"].in_flight
        assert in_flight is not None
        assert in_flight.reason == UpdateReason.VALIDITY_TIMER_EXPIRED


@pytest.mark.parametrize("grace_ms", [0, 60_000])
async def test_g6_traffic_without_quota_ends_if_so_configured(grace_ms: int) -> None:
    """While the OCS is silent a rating group that is used up goes on for a time of grace, by default for ever."""
    async with gateway(settings=Settings(quota_exhausted_grace_ms=grace_ms)) as at:
        at.policy.script("create", plan("video", "web", credits_=[grant("1"), grant("2", 10_000)]))
        at.policy.usually("update", silent())
        key = await at.attach(ue())
        await at.report(row(ue(), "video", 1, tx=1000))
        await at.advance(59_999)
        assert at.data_plane.calls("deactivate") == []
        await at.advance(1)
        down = [effect for _, effect in at.data_plane.flows if isinstance(effect, DeactivateFlows)]
        blocked = DeactivateFlows(teids=TEIDS, rules=(VersionedRule("video", 2),))
        assert down == ([blocked] if grace_ms else [])
        assert (await at.session(key)).head.state is State.ACTIVE
        at.policy.forget()
        await at.advance(60_000)
        up = [effect for _, effect in at.data_plane.flows if isinstance(effect, ActivateFlows)]
        assert (up[-1].rules == (VersionedRule("video", 3),)) is bool(grace_ms)


async def test_g7_empty_grants_are_not_asked_for_all_the_time() -> None:
    """An OCS that has nothing to give is asked less and less often while traffic goes on, not every two seconds."""
    async with gateway() as at:
        at.policy.script("create", plan("video", credits_=[grant("1")]))
        at.policy.usually("update", _nothing_to_give)
        key = await at.attach(ue())
        for table in range(300):
            await at.report(row(ue(), "video", 1, tx=1000 + table))
            await at.advance(2000)
        assert 10 <= len(at.policy.updates) <= 20
        assert (await at.session(key)).credits["1"].used_tx == 1299


def test_g8_a_credit_of_a_request_has_no_validity_time() -> None:
    """A rating group that a request brings up has no time at which it expires, and is reported for that request."""
    life = started(situation(ocs("rule", 9)), installs=static("rule"))
    assert life.decide(lambda draft: reauth.reauthorise_credit(draft, "9")) is ReAuthResult.UPDATE_INITIATED
    assert life.credit("9").expires_at_ms is None
    assert due(life.credit("9"), 2**62, 0.8) is UpdateReason.REAUTH_REQUIRED
    life.collect()
    life.answered(grant("9", validity_ms=5000))
    assert life.credit("9").expires_at_ms == NOW_MS + 5000


async def test_g10_rules_that_failed_are_named() -> None:
    """Static rules of a policy request that nobody knows are named to the operator, and the others are installed.

    The answer stays as gateways have always given it: with its result only.
    """
    async with gateway() as at:
        key = await at.attach(ue())
        request = PolicyReAuthRequest(imsi=ue().subscriber, session_id=key)
        request.rules_to_install.extend([StaticRuleInstall(rule_id="free"), StaticRuleInstall(rule_id="unheard_of")])
        with structlog.testing.capture_logs() as logs:
            answer = await SessionProxyResponder(at.application.manager).PolicyReAuth(request, None)
        assert [(line["session"], line["rules"]) for line in logs if line["event"] == "rules_unknown"] == [
            (key, ["unheard_of"])
        ]
        assert answer == PolicyReAuthAnswer()
        assert (await at.session(key)).rules["free"].gx is not None


def test_g12_a_service_needs_the_credit_of_that_service() -> None:
    """With online charging a rule of a service is installed only if this service got a credit."""
    rules = (ocs("whole", 1), ocs("service", 1, service_identifier=7), ocs("other", 1, service_identifier=8))
    life = started(
        situation(*rules), credits_=[grant("1/7")], installs=static("whole", "service", "other"), online=True
    )
    assert {name for name, rule in life.session.rules.items() if rule.gx} == {"service"}


@pytest.mark.parametrize("how", ["final unit", "permanent failure"])
@pytest.mark.parametrize("only_its_rating_group", [False, True])
def test_g14_one_rating_group_need_not_end_the_session(how: str, only_its_rating_group: bool) -> None:
    """A final unit or a 5xxx of one rating group blocks only that, if the operator wants it so."""
    at = situation(ocs("rule1", 1), ocs("rule2", 2), final_unit_blocks_rating_group_only=only_its_rating_group)
    first = terminate_grant("1") if how == "final unit" else grant("1")
    life = started(at, credits_=[first, grant("2")], installs=static("rule1", "rule2"))
    life.use("rule1", 1000)
    life.collect()
    if how == "permanent failure":
        life.answered(failure(5030, "1"))
    if only_its_rating_group:
        assert life.state() is State.ACTIVE
        (down,) = life.effects_of(DeactivateFlows)
        assert [rule.id for rule in down.rules] == ["rule1"]
    else:
        assert life.state() is State.CLOSING


def test_g15_a_redirection_stays_while_anybody_needs_it() -> None:
    """Of two redirected rating groups, the one that gets quota leaves the redirection to the other."""
    life = started(
        situation(ocs("rule1", 1), ocs("rule2", 2)),
        credits_=[redirect_grant("1"), redirect_grant("2")],
        installs=static("rule1", "rule2"),
    )
    life.use("rule1", 1000)
    life.use("rule2", 1000)
    life.collect()
    life.struck()
    for key, left in (("1", True), ("2", False)):
        life.decide(partial(reauth.reauthorise_credit, key=key))
        life.collect()
        life.answered(grant(key))
        assert (life.rule(REDIRECT_RULE).gy is not None) is left


def test_g16_rules_that_come_up_again_keep_their_end() -> None:
    """New quota brings the rules back, and their deactivation time still holds."""
    ending = Lifetime(0, NOW_MS + 60_000)
    life = started(situation(ocs("rule", 1)), credits_=[redirect_grant("1")], installs=static("rule", lifetime=ending))
    life.use("rule", 1000)
    life.collect()
    life.decide(reauth.reauthorise_all)
    life.collect()
    life.answered(grant("1", 5000))
    life.struck()
    life.collect()
    assert life.credit("1").service is Service.ENABLED
    assert life.effects == [ActivateFlows(teids=life_teids(life), rules=(VersionedRule("rule", 2),))]
    life.later(60_000)
    life.tick()
    assert life.rule("rule").gx is None


# -- Rules and bearers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_b1_requests_get_bearers_and_give_them_back(kind: str) -> None:
    """A rule of another QoS class has its bearer, whoever installs it; none is asked for without, and none is left."""
    qos = free("qos", qci=1)
    installs = static("qos") if kind == "static" else dynamic(qos)
    life = started(situation(qos, free("plain")))

    def change(**wanted: Any) -> None:
        life.struck()
        life.decide(lambda draft: reauth.change_policy(draft, PolicyChange(**wanted), life.at))

    change(installs=static("plain"))
    assert life.effects_of(CreateBearer) == []
    change(installs=installs)
    assert life.effects == [CreateBearer(rules=("qos",))]
    life.decide(lambda draft: draft.set("rules", "qos", bearer=Bearer(6, Teids(1, 2))))
    change(remove=("qos",))
    assert life.effects_of(DeleteBearer) == [DeleteBearer(bearer_ids=(6,))]


@pytest.mark.parametrize("trigger", [number for number in EventTrigger.values() if number != 17])
def test_b7_other_event_triggers_do_no_harm(trigger: int) -> None:
    """Only a revalidation is acted on: of a change of radio, place or network nobody on this surface tells us.

    The MME says such a thing only by creating the session anew, which replaces it if its context differs (G1).
    """
    assert revalidation_at_ms([trigger], _in_a_minute()) is None
    assert revalidation_at_ms([trigger, 17], _in_a_minute()) == 60_000


def _in_a_minute() -> Any:
    request = PolicyReAuthRequest()
    request.revalidation_time.FromSeconds(60)
    return request.revalidation_time


def _bearer(context: Context) -> int:
    assert context.lte is not None
    return context.lte.bearer_id


def _nothing_to_give(reports: Sequence[UsageReport]) -> dict[str, UpdateAnswer]:
    """Return an answer that takes all usage and grants nothing."""
    nothing = (CreditReply(answer=grant("1", 0)),)
    return {report.session.key: UpdateAnswer(numbers=report.numbers, credits=nothing) for report in reports}
