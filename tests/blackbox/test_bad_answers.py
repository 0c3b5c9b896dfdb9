"""Answers of the policy side that make no sense: their session lives on and ends, and no other feels it."""

from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any, Final

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.pb.magma.lte.credit_pb2 import ChargingCredit, CreditUnit, GrantedUnits
from sessiond.pb.magma.lte.monitoring_pb2 import PCC_RULE_LEVEL, REVALIDATION_TIMEOUT, UsageMonitoringCredit
from sessiond.pb.magma.lte.policy_pb2 import PolicyRule
from sessiond.pb.magma.lte.session_proxy_pb2 import (
    CreateSessionResponse,
    CreditUpdateResponse,
    UpdateSessionRequest,
    UpdateSessionResponse,
    UsageMonitoringUpdateResponse,
)
from tests.blackbox.harness import Gateway, gateway
from tests.blackbox.messages import GRANT, Device, allowed, amounts, granted, quota
from tests.blackbox.peers import answering, refill

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

WITNESS: Final = Device(1)
"""Is attached before the first test and must not feel any of them."""
WITNESS_USED: Final = (GRANT * 8 // 10 - 1, 0)
"""One octet less than makes a report due: any octet more, or any quota more, would show."""
MOST_32, MOST_64 = 2**32 - 1, 2**64 - 1
UNKNOWN: Any = 77
"""A number that no enum has."""
ALL: Final = GrantedUnits(**{leg: CreditUnit(is_valid=True, volume=MOST_64) for leg in ("total", "tx", "rx")})
NUMBERS: Final = count(2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run one daemon for all of these tests, with one session whose report and end show that it was left alone."""
    async with gateway(tmp_path_factory.mktemp("bad-answers")) as running:
        session_id = await running.attach(WITNESS)
        await running.report(WITNESS.used(*WITNESS_USED))
        yield running
        running.policy.update.behaviour = answering(refill)
        await running.report(WITNESS.used(WITNESS_USED[0] + 1, WITNESS_USED[1]))
        (report,) = await running.policy.update.asked(wanted=lambda request: mentions(request, session_id))
        (update,) = report.updates
        assert (update.usage.bytes_tx, update.usage.bytes_rx) == (WITNESS_USED[0] + 1, WITNESS_USED[1])
        assert update.request_number == 1
        await running.eventd.heard("session_updated", WITNESS.subscriber)
        assert amounts(await running.detach(WITNESS)) == [(0, 0)]


@pytest.fixture
def device() -> Device:
    """Return a device that no other test uses."""
    return Device(next(NUMBERS))


def mentions(request: UpdateSessionRequest, session_id: str) -> bool:
    """Whether usage of a session is reported."""
    return session_id in {update.session_id for update in request.updates}


def credits_of(*credits_: CreditUpdateResponse) -> Callable[[str], CreateSessionResponse]:
    """Return an answer to CreateSession with these credits."""
    return lambda session_id: allowed(session_id, quotas=credits_)


def monitors_of(*monitors: UsageMonitoringCredit) -> Callable[[str], CreateSessionResponse]:
    """Return an answer to CreateSession with these monitors."""

    def answer(session_id: str) -> CreateSessionResponse:
        response = allowed(session_id)
        for monitor in monitors:
            response.usage_monitors.add(success=True, session_id=session_id, credit=monitor)
        return response

    return answer


def dynamic(*rules: PolicyRule | None, **times: Timestamp) -> Callable[[str], CreateSessionResponse]:
    """Return an answer to CreateSession with these dynamic rules."""

    def answer(session_id: str) -> CreateSessionResponse:
        response = allowed(session_id)
        for rule in rules:
            response.dynamic_rules.add(policy_rule=rule, **times)
        return response

    return answer


def revalidated(at: Timestamp) -> Callable[[str], CreateSessionResponse]:
    """Return an answer to CreateSession that wants to be asked again."""

    def answer(session_id: str) -> CreateSessionResponse:
        response = allowed(session_id)
        response.event_triggers.extend([REVALIDATION_TIMEOUT, UNKNOWN])
        response.revalidation_time.CopyFrom(at)
        return response

    return answer


def of_another(session_id: str) -> CreateSessionResponse:
    """Return an answer to CreateSession that speaks of another session than it was asked about."""
    other = WITNESS.subscriber + "-1"
    response = allowed(other)
    response.credits[0].sid = WITNESS.subscriber
    response.usage_monitors.add(success=True, sid=WITNESS.subscriber, session_id=other)
    assert session_id != other
    return response


def credit(**fields: Any) -> CreditUpdateResponse:
    """Return a successful credit of rating group 1."""
    return CreditUpdateResponse(success=True, charging_key=1, credit=ChargingCredit(**fields))


INFINITE_FUTURE: Final = Timestamp(seconds=2**62, nanos=2**31 - 1)
FIRST_ANSWERS: Final[dict[str, Callable[[str], CreateSessionResponse]]] = {
    "nothing": lambda _: CreateSessionResponse(),
    "another session": of_another,
    "rules never heard of": lambda session_id: allowed(session_id, rules=["never heard of", "", "web", "web"]),
    "no units": credits_of(credit()),
    "units that are not valid": credits_of(credit(granted_units=GrantedUnits(total=CreditUnit(volume=GRANT)))),
    "no volume": credits_of(credit(granted_units=granted(0))),
    "largest volumes": credits_of(credit(granted_units=ALL), credit(granted_units=ALL), credit(granted_units=ALL)),
    "largest keys": credits_of(
        CreditUpdateResponse(success=True, charging_key=MOST_32, credit=ChargingCredit(granted_units=ALL)),
        quota("", rating_group=1),
    ),
    "largest validity": credits_of(credit(granted_units=granted(GRANT), validity_time=MOST_32)),
    "largest result code": credits_of(CreditUpdateResponse(charging_key=1, result_code=MOST_32)),
    "unknown enums in a credit": credits_of(
        CreditUpdateResponse(
            success=True,
            charging_key=1,
            limit_type=UNKNOWN,
            credit=ChargingCredit(type=UNKNOWN, is_final=True, final_action=UNKNOWN, granted_units=granted(GRANT)),
        )
    ),
    "seconds": credits_of(credit(type=ChargingCredit.SECONDS, granted_units=granted(GRANT))),
    "final unit without a server": credits_of(
        credit(is_final=True, final_action=ChargingCredit.REDIRECT, granted_units=granted(10))
    ),
    "final unit with rules never heard of": credits_of(
        credit(
            is_final=True,
            final_action=ChargingCredit.RESTRICT_ACCESS,
            restrict_rules=["", "never heard of"],
            granted_units=granted(10),
        )
    ),
    "unknown enums in a monitor": monitors_of(
        UsageMonitoringCredit(monitoring_key=b"k", level=UNKNOWN, action=UNKNOWN, granted_units=granted(10))
    ),
    "keys that are no text": monitors_of(
        UsageMonitoringCredit(monitoring_key=bytes(range(256)), granted_units=ALL),
        UsageMonitoringCredit(level=PCC_RULE_LEVEL, granted_units=granted(1)),
    ),
    "a rule without a definition": dynamic(None, PolicyRule()),
    "a rule with unknown enums": dynamic(PolicyRule(id="odd", tracking_type=UNKNOWN, app_name=UNKNOWN)),
    "a rule with our own name": dynamic(PolicyRule(id="redirect"), PolicyRule(id="internal_default_drop_flow_rule")),
    "a rule after the end of time": dynamic(PolicyRule(id="late"), activation_time=INFINITE_FUTURE),
    "a rule before the beginning": dynamic(
        PolicyRule(id="early"), activation_time=Timestamp(seconds=-(2**62)), deactivation_time=Timestamp(seconds=-1)
    ),
    "a rule that ends before it begins": dynamic(
        PolicyRule(id="never"), activation_time=INFINITE_FUTURE, deactivation_time=Timestamp(seconds=1)
    ),
    "many rules": dynamic(*(PolicyRule(id=f"rule {number}", rating_group=1) for number in range(2000))),
    "asked again after the end of time": revalidated(INFINITE_FUTURE),
    "asked again before the beginning": revalidated(Timestamp(seconds=-(2**62), nanos=-(2**31))),
}


async def lives_and_ends(whole: Gateway, device: Device) -> None:
    """Attach a device, let it use something, and detach it, as if nothing were odd."""
    await whole.attach(device)
    await whole.report(WITNESS.used(*WITNESS_USED), device.used(40, 2))
    await whole.report(WITNESS.used(*WITNESS_USED), device.used(90, 3))
    await whole.eventd.heard("session_created", device.subscriber)
    await whole.detach(device, WITNESS.used(*WITNESS_USED))
    await whole.eventd.heard("session_terminated", device.subscriber)


@pytest.mark.parametrize("answer", FIRST_ANSWERS.values(), ids=FIRST_ANSWERS)
async def test_first_answer(whole: Gateway, device: Device, answer: Callable[[str], CreateSessionResponse]) -> None:
    """Whatever the policy side says to CreateSession, the session can be used, and its end is reported."""
    whole.policy.create.behaviour = answering(lambda request: answer(request.session_id))
    whole.policy.update.behaviour = answering(refill)
    async with whole.unchanged():
        await lives_and_ends(whole, device)


def about(session_id: str, *replies: CreditUpdateResponse) -> UpdateSessionResponse:
    """Return an answer to UpdateSession with these credits, after a good one of this session."""
    return UpdateSessionResponse(responses=[quota(session_id), *replies])


def monitor_answer(session_id: str, **fields: Any) -> UpdateSessionResponse:
    """Return an answer to UpdateSession that has a monitor beside a good credit."""
    answer = about(session_id)
    answer.usage_monitor_responses.add(success=True, session_id=session_id, **fields)
    return answer


def odd_installs(session_id: str) -> UpdateSessionResponse:
    """Return an answer to UpdateSession with rules that are none."""
    answer = monitor_answer(session_id, rules_to_remove=["", "never heard of"], event_triggers=[UNKNOWN])
    answer.usage_monitor_responses[0].static_rules_to_install.add(rule_id="never heard of")
    answer.usage_monitor_responses[0].dynamic_rules_to_install.add()
    return answer


def contradictory_installs(session_id: str) -> UpdateSessionResponse:
    """Return an answer to UpdateSession that takes away what it brings, three times over."""
    answer = monitor_answer(session_id, rules_to_remove=["web", "web", "free"])
    for rule in ("web", "free", "web"):
        answer.usage_monitor_responses[0].static_rules_to_install.add(rule_id=rule)
        answer.usage_monitor_responses[0].dynamic_rules_to_install.add(policy_rule=PolicyRule(id=rule, rating_group=1))
    return answer


def serviced(session_id: str, service: int) -> CreditUpdateResponse:
    """Return a grant for a service of rating group 1."""
    reply = quota(session_id)
    reply.service_identifier.value = service
    return reply


NEXT_ANSWERS: Final[dict[str, Callable[[str], UpdateSessionResponse]]] = {
    "nothing": lambda _: UpdateSessionResponse(),
    "sessions never heard of": lambda session_id: about(
        session_id, quota("IMSI001019999999999-1"), quota(""), quota("no session id"), CreditUpdateResponse()
    ),
    "a session that was not reported": lambda session_id: about(session_id, quota(f"{WITNESS.subscriber}-0")),
    "the session of another subscriber": lambda session_id: UpdateSessionResponse(
        responses=[CreditUpdateResponse(success=True, sid=WITNESS.subscriber, session_id=session_id, charging_key=1)]
    ),
    "credits never heard of": lambda session_id: about(
        session_id, quota(session_id, rating_group=MOST_32), quota(session_id, rating_group=0)
    ),
    "largest volumes": lambda session_id: about(
        session_id,
        *[
            CreditUpdateResponse(
                success=True, session_id=session_id, charging_key=1, credit=ChargingCredit(granted_units=ALL)
            )
        ]
        * 300,
    ),
    "units that are not valid": lambda session_id: UpdateSessionResponse(
        responses=[
            CreditUpdateResponse(
                success=True,
                session_id=session_id,
                charging_key=1,
                credit=ChargingCredit(granted_units=GrantedUnits(total=CreditUnit(volume=GRANT))),
            )
        ]
    ),
    "unknown enums": lambda session_id: about(
        session_id,
        CreditUpdateResponse(
            success=True,
            session_id=session_id,
            charging_key=1,
            limit_type=UNKNOWN,
            credit=ChargingCredit(type=UNKNOWN, final_action=UNKNOWN, is_final=True, granted_units=granted(GRANT)),
        ),
    ),
    "an unknown result": lambda session_id: about(
        session_id, CreditUpdateResponse(session_id=session_id, charging_key=1, result_code=MOST_32)
    ),
    "a monitor never heard of": lambda session_id: monitor_answer(
        session_id, credit=UsageMonitoringCredit(monitoring_key=b"\xff", level=UNKNOWN, action=UNKNOWN)
    ),
    "a monitor without a credit": monitor_answer,
    "rules that are none": odd_installs,
    "a rule that goes and comes": contradictory_installs,
    "a credit that is granted, final and in trouble": lambda session_id: about(
        session_id,
        quota(session_id, is_final=True),
        CreditUpdateResponse(session_id=session_id, charging_key=1, result_code=4012),
        quota(session_id),
    ),
    "services never heard of": lambda session_id: about(
        session_id, *(serviced(session_id, service) for service in (1, MOST_32))
    ),
    "units of a kind that there is not": lambda session_id: about(session_id, quota(session_id, type=UNKNOWN)),
    "unknown fields": lambda session_id: UpdateSessionResponse.FromString(
        about(session_id).SerializeToString() + b"\xc2\x3e\x03new"
    ),
    "revalidation after the end of time": lambda session_id: monitor_answer(
        session_id, event_triggers=[REVALIDATION_TIMEOUT], revalidation_time=INFINITE_FUTURE
    ),
    "many answers": lambda session_id: UpdateSessionResponse(
        responses=[quota(session_id)],
        usage_monitor_responses=[UsageMonitoringUpdateResponse(session_id=f"IMSI{n}-{n}") for n in range(20_000)],
    ),
}


@pytest.mark.parametrize("answer", NEXT_ANSWERS.values(), ids=NEXT_ANSWERS)
async def test_next_answer(whole: Gateway, device: Device, answer: Callable[[str], UpdateSessionResponse]) -> None:
    """Whatever the policy side says to UpdateSession, the session can be used on, and all of its usage is reported."""
    whole.policy.create.behaviour = answering(lambda request: allowed(request.session_id))
    async with whole.unchanged():
        session_id = await whole.attach(device)
        whole.policy.update.behaviour = answering(lambda _: answer(session_id))
        await whole.report(WITNESS.used(*WITNESS_USED), device.used(GRANT, 0))
        await whole.eventd.heard("session_updated", device.subscriber)
        whole.policy.update.behaviour = answering(refill)
        await whole.report(WITNESS.used(*WITNESS_USED), device.used(GRANT + 5, 0))
        await whole.detach(device, WITNESS.used(*WITNESS_USED))
        await whole.eventd.heard("session_terminated", device.subscriber)


async def test_an_answer_for_a_session_that_was_not_reported_grants_nothing(whole: Gateway, device: Device) -> None:
    """Quota for the witness in an answer to another's report is not taken; its own report comes when it is due."""
    witness = (await whole.states())[WITNESS.subscriber][WITNESS.apn][0]["session_id"]
    whole.policy.create.behaviour = answering(lambda request: allowed(request.session_id))
    async with whole.unchanged():
        session_id = await whole.attach(device)
        whole.policy.update.behaviour = answering(lambda _: about(session_id, quota(witness), quota(witness, 1)))
        await whole.report(WITNESS.used(*WITNESS_USED), device.used(GRANT, 0))
        await whole.eventd.heard("session_updated", device.subscriber)
        assert amounts(await whole.detach(device, WITNESS.used(*WITNESS_USED))) == [(0, 0)]
    # That the witness still has the quota it had shows when the last of these tests is over.
