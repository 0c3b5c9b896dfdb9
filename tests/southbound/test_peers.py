"""The peers over a real connection: which method carries what, and what comes of the answer."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import pytest
from grpc import StatusCode, aio
from msgspec import structs

from sessiond.app.ports.peers import SetupResult, UnknownFlows, UsageReport
from sessiond.core.charging import ChargingCredit, UpdateReason
from sessiond.core.credit import Report
from sessiond.core.decide.answer import UpdateAnswer
from sessiond.core.effects import ActivateFlows, CreateBearer, DeactivateFlows, DeleteBearer, LogEvent, VersionedRule
from sessiond.core.errors import PeerFailed
from sessiond.core.rules import Installed, Rule
from sessiond.core.session import Session
from sessiond.pb.magma.lte import pipelined_pb2, session_proxy_pb2, spgw_pb2
from sessiond.pb.magma.orc8r import directory_pb2, event_pb2
from sessiond.southbound.access.peer import Spgw
from sessiond.southbound.directory.peer import Directoryd
from sessiond.southbound.events.peer import Eventd
from sessiond.southbound.pipelined.peer import Pipelined
from sessiond.southbound.policy.peer import PolicyController
from tests.southbound import fakes, recorded
from tests.southbound.fakes import FakePeer
from tests.southbound.recorded import SUBSCRIBER, TEIDS, content

DEADLINE_MS = 20_000
EPOCH = 1_700_000_007
CATALOGUE = recorded.catalogue()
SetupFlowsResult = pipelined_pb2.SetupFlowsResult


class Closable(Protocol):
    """A peer, as far as this file closes it."""

    async def close(self) -> None:
        """Close the connection."""


P = TypeVar("P", bound=Closable)


@asynccontextmanager
async def talking(make: Callable[[str, int], P], fake: FakePeer) -> AsyncIterator[P]:
    """Yield a peer that is connected to a fake one."""
    async with fakes.served(fake) as (address, _):
        peer = make(address, DEADLINE_MS)
        try:
            yield peer
        finally:
            await peer.close()


def policy(address: str, deadline_ms: int) -> PolicyController:
    """Return a policy controller as the recordings were made with."""
    return PolicyController(address, deadline_ms, requested_units=10_000_000, timezone_offset_min=0)


def reporting(key: str = "a-1", number: int = 1) -> Session:
    """Return a session with usage in flight."""
    charge = ChargingCredit(used_tx=5, used_rx=6, in_flight=Report(number, 5, 6, UpdateReason.QUOTA_EXHAUSTED))
    return recorded.session(key, credits={"1": charge})


async def test_creation_is_asked_and_answered() -> None:
    """A session is asked for, and the answer is what the policy side allows."""
    fake = FakePeer(CreateSession=recorded.response("create", session_proxy_pb2.CreateSessionResponse))
    async with talking(policy, fake) as peer:
        answer = await peer.create(recorded.session("a-1"))
    assert fake.request("CreateSession", session_proxy_pb2.CreateSessionRequest).requested_units.total == 10_000_000
    assert [credit.key for credit in answer.credits] == ["1", "3", "9"]


async def update(peer: PolicyController, reports: Sequence[UsageReport]) -> Mapping[str, UpdateAnswer]:
    """Report usage in one request."""
    (request,) = peer.requests(reports, 3 * 2**20)
    return await request.send()


async def test_usage_of_many_sessions_goes_in_one_call() -> None:
    """One call reports every session; those it does not answer get an empty answer."""
    response = session_proxy_pb2.UpdateSessionResponse()
    response.responses.add(session_id="a-2", charging_key=1, success=True)
    fake = FakePeer(UpdateSession=response)
    reports = [UsageReport(reporting("a-1"), frozenset({1})), UsageReport(reporting("a-2"), frozenset({1}))]
    async with talking(policy, fake) as peer:
        answers = await update(peer, reports)
    request = fake.request("UpdateSession", session_proxy_pb2.UpdateSessionRequest)
    assert [update.session_id for update in request.updates] == ["a-1", "a-2"]
    assert {key: len(answer.credits) for key, answer in answers.items()} == {"a-1": 0, "a-2": 1}


async def test_nothing_to_report_is_not_sent() -> None:
    """A report whose usage is no longer in flight is answered without a call."""
    fake = FakePeer()
    async with talking(policy, fake) as peer:
        answers = await update(peer, [UsageReport(reporting(), frozenset({9}))])
    assert answers == {"a-1": UpdateAnswer(numbers=frozenset({9}))}
    assert fake.calls == []


async def test_ends_are_reported() -> None:
    """The end of a session, and of one of which only the names are left, are the same call."""
    fake = FakePeer()
    async with talking(policy, fake) as peer:
        await peer.terminate(reporting())
        await peer.terminate_stale(SUBSCRIBER, "a-2")
    kind = session_proxy_pb2.SessionTerminateRequest
    assert fake.methods() == ["TerminateSession", "TerminateSession"]
    assert [kind.FromString(request).session_id for _, request in fake.calls] == ["a-1", "a-2"]


async def test_refusal_of_the_policy_side_is_passed_on() -> None:
    """Status and text are those of the policy side."""

    async def refuse(_: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        await context.abort(StatusCode.PERMISSION_DENIED, "unknown subscriber")
        return b""

    async with talking(policy, FakePeer(refuse)) as peer:
        with pytest.raises(PeerFailed, match="unknown subscriber") as caught:
            await peer.create(recorded.session("a-1"))
    assert (caught.value.status, caught.value.answered) == ("PERMISSION_DENIED", True)


@pytest.mark.parametrize(
    ("default", "policies", "expected"),
    [
        ("SUCCESS", "SUCCESS", SetupResult.SUCCESS),
        ("SUCCESS", "FAILURE", SetupResult.FAILURE),
        ("FAILURE", "SUCCESS", SetupResult.FAILURE),
        ("OUTDATED_EPOCH", "FAILURE", SetupResult.OUTDATED_EPOCH),
        ("FAILURE", "OUTDATED_EPOCH", SetupResult.OUTDATED_EPOCH),
    ],
)
async def test_set_up_is_as_good_as_the_worse_of_two_calls(default: str, policies: str, expected: SetupResult) -> None:
    """Both calls are made with the epoch, whatever the other one says."""
    fake = FakePeer(
        SetupDefaultControllers=SetupFlowsResult(result=SetupFlowsResult.Result.Value(default)),
        SetupPolicyFlows=SetupFlowsResult(result=SetupFlowsResult.Result.Value(policies)),
    )
    session = recorded.session("a-1", rules={"static_nt": Rule(version=3, gx=Installed())})
    async with talking(Pipelined, fake) as peer:
        assert await peer.set_up(EPOCH, [session], CATALOGUE) is expected
    assert fake.request("SetupDefaultControllers", pipelined_pb2.SetupDefaultRequest).epoch == EPOCH
    request = fake.request("SetupPolicyFlows", pipelined_pb2.SetupPolicyRequest)
    assert request.epoch == EPOCH
    assert [[policy.version for policy in flows.policies] for flows in request.requests] == [[3], []]


@pytest.mark.parametrize("failing", ["SetupDefaultControllers", "SetupPolicyFlows"])
async def test_set_up_fails_with_either_call_but_makes_both(failing: str) -> None:
    """A call that is refused does not keep the other one from being made."""

    async def refuse(_: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        if fake.calls[-1][0] == failing:
            await context.abort(StatusCode.UNAVAILABLE, "not initialized")
        return b""

    fake = FakePeer(refuse)
    async with talking(Pipelined, fake) as peer:
        with pytest.raises(PeerFailed, match="not initialized"):
            await peer.set_up(EPOCH, [], CATALOGUE)
    assert sorted(fake.methods()) == ["SetupDefaultControllers", "SetupPolicyFlows"]


async def test_set_up_of_many_sessions_is_complete() -> None:
    """However many sessions there are, each is told in its place."""
    fake = FakePeer()
    sessions = [recorded.session(f"a-{number}") for number in range(250)]
    async with talking(Pipelined, fake) as peer:
        assert await peer.set_up(EPOCH, sessions, CATALOGUE) is SetupResult.SUCCESS
    assert len(fake.request("SetupPolicyFlows", pipelined_pb2.SetupPolicyRequest).requests) == 2 * 250


async def test_rules_that_were_not_installed_are_named() -> None:
    """Both the rules that nobody can define and those that pipelined refuses come back."""
    result = pipelined_pb2.RuleModResult(rule_id="static_nt", result=pipelined_pb2.RuleModResult.FAILURE)
    fake = FakePeer(ActivateFlows=pipelined_pb2.ActivateFlowsResult(policy_results=[result]))
    wanted = tuple(VersionedRule(rule_id, 1) for rule_id in ("static_ocs", "static_nt", "lost"))
    async with talking(Pipelined, fake) as peer:
        failed = await peer.activate(recorded.session("a-1"), ActivateFlows(teids=TEIDS, rules=wanted), CATALOGUE)
    assert failed == ("lost", "static_nt")


async def test_flows_are_removed() -> None:
    """Rules are removed by a call, no rules by none, and unknown flows altogether."""
    fake = FakePeer()
    session = recorded.session("a-1")
    async with talking(Pipelined, fake) as peer:
        await peer.deactivate(session, DeactivateFlows(teids=TEIDS))
        assert fake.calls == []
        await peer.deactivate(session, DeactivateFlows(teids=TEIDS, rules=(VersionedRule("static_nt", 2),)))
        await peer.deactivate_unknown(UnknownFlows(SUBSCRIBER, "192.168.128.11"))
    first, second = (pipelined_pb2.DeactivateFlowsRequest.FromString(request) for _, request in fake.calls)
    assert [policy.rule_id for policy in first.policies] == ["static_nt"]
    assert second.remove_default_drop_flows


async def test_result_of_a_removal_decides_nothing() -> None:
    """Only the status of a removal counts; pipelined says FAILURE of flows that are not there."""
    failed = pipelined_pb2.DeactivateFlowsResult(result=pipelined_pb2.DeactivateFlowsResult.FAILURE)
    async with talking(Pipelined, FakePeer(DeactivateFlows=failed)) as peer:
        await peer.deactivate(recorded.session("a-1"), DeactivateFlows(teids=TEIDS, everything=True))


async def test_bearers_are_asked_for_and_taken_down() -> None:
    """A bearer for lost rules is not asked for."""
    fake = FakePeer()
    session = recorded.session("a-1")
    async with talking(Spgw, fake) as peer:
        await peer.create_bearer(session, CreateBearer(rules=("lost",)), CATALOGUE)
        assert fake.calls == []
        await peer.create_bearer(session, CreateBearer(rules=("static_qos",)), CATALOGUE)
        await peer.delete_bearer(session, DeleteBearer(bearer_ids=(6, 7)))
    assert fake.request("CreateBearer", spgw_pb2.CreateBearerRequest).link_bearer_id == 5
    assert fake.request("DeleteBearer", spgw_pb2.DeleteBearerRequest).eps_bearer_ids == [6, 7]


async def test_directory_records_are_written_read_and_deleted() -> None:
    """A record is written per session and deleted per subscriber."""
    record = directory_pb2.DirectoryRecord(id=SUBSCRIBER, fields={"session_id": "a-1"})
    fake = FakePeer(GetAllDirectoryRecords=directory_pb2.AllDirectoryRecords(records=[record]))
    async with talking(Directoryd, fake) as peer:
        await peer.write(recorded.session("a-1"))
        assert await peer.sessions() == [(SUBSCRIBER, "a-1")]
        await peer.delete(SUBSCRIBER)
    assert fake.request("UpdateRecord", directory_pb2.UpdateRecordRequest).fields["session_id"] == "a-1"
    assert fake.request("DeleteRecord", directory_pb2.DeleteRecordRequest).id == SUBSCRIBER


async def test_events_are_passed_on() -> None:
    """An event goes to the stream of this daemon."""
    fake = FakePeer()
    async with talking(Eventd, fake) as peer:
        await peer.log(LogEvent("session_created", {"imsi": SUBSCRIBER}, SUBSCRIBER))
    assert content(fake.request("LogEvent", event_pb2.Event)) == {
        "stream_name": "sessiond",
        "event_type": "session_created",
        "tag": SUBSCRIBER,
        "value": f'{{"imsi":"{SUBSCRIBER}"}}',
    }


SESSION = structs.replace(reporting(), rules={"static_nt": Rule(version=1, gx=Installed())})
CALLS: dict[str, tuple[Callable[[str, int], Any], Callable[[Any], Awaitable[Any]]]] = {
    "create": (policy, lambda peer: peer.create(SESSION)),
    "update": (policy, lambda peer: update(peer, [UsageReport(SESSION, frozenset({1}))])),
    "terminate": (policy, lambda peer: peer.terminate(SESSION)),
    "terminate_stale": (policy, lambda peer: peer.terminate_stale(SUBSCRIBER, "a-1")),
    "set_up": (Pipelined, lambda peer: peer.set_up(EPOCH, [SESSION], CATALOGUE)),
    "activate": (Pipelined, lambda peer: peer.activate(SESSION, ActivateFlows(teids=TEIDS), CATALOGUE)),
    "deactivate": (Pipelined, lambda peer: peer.deactivate(SESSION, DeactivateFlows(teids=TEIDS, everything=True))),
    "deactivate_unknown": (Pipelined, lambda peer: peer.deactivate_unknown(UnknownFlows(SUBSCRIBER))),
    "create_bearer": (Spgw, lambda peer: peer.create_bearer(SESSION, CreateBearer(rules=("static_qos",)), CATALOGUE)),
    "delete_bearer": (Spgw, lambda peer: peer.delete_bearer(SESSION, DeleteBearer(bearer_ids=(5,)))),
    "write": (Directoryd, lambda peer: peer.write(SESSION)),
    "delete": (Directoryd, lambda peer: peer.delete(SUBSCRIBER)),
    "sessions": (Directoryd, lambda peer: peer.sessions()),
    "log": (Eventd, lambda peer: peer.log(LogEvent("session_created", {}))),
}


@pytest.mark.parametrize(("make", "call"), CALLS.values(), ids=CALLS)
async def test_every_call_has_the_deadline_of_its_peer(
    make: Callable[[str, int], Any], call: Callable[[Any], Awaitable[Any]]
) -> None:
    """A peer that is silent holds nobody up for longer than was configured."""
    async with fakes.silent_peer() as address:
        peer = make(address, 50)
        with pytest.raises(PeerFailed) as caught:
            await call(peer)
        await peer.close()
    assert (caught.value.status, caught.value.answered) == ("DEADLINE_EXCEEDED", False)
