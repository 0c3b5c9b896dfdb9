"""Bad input: each is answered with a status, a reason and the field it is about, and changes nothing."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message

from sessiond.pb.magma.lte import (
    abort_session_pb2,
    rule_install_pb2,
    session_context_pb2,
    session_manager_pb2,
    session_proxy_responder_pb2,
)
from sessiond.pb.magma.lte.abort_session_pb2 import AbortSessionRequest, AbortSessionResult
from sessiond.pb.magma.lte.session_proxy_responder_pb2 import (
    SESSION_NOT_FOUND,
    UPDATE_INITIATED,
    ChargingReAuthAnswer,
    ChargingReAuthRequest,
    PolicyReAuthRequest,
)
from sessiond.pb.magma.orc8r import service303_pb2
from sessiond.pb.magma.orc8r.common_pb2 import INFO
from sessiond.pb.magma.orc8r.service303_pb2 import LogLevelMessage
from tests.blackbox.harness import Gateway, Refusal, gateway, refusal
from tests.blackbox.messages import Bind, Create, Device, End, Record, Table, Tunnels, amounts, sid

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

Code = grpc.StatusCode
WITNESS: Final = Device(1)
"""Is attached before the first test and must not feel any of them."""
NOBODY: Final = Device(2)
"""Is never attached."""
LOCAL: Final = "/magma.lte.LocalSessionManager/"
HEALTH: Final = "/grpc.health.v1.Health/Check"
FILES: Final[tuple[FileDescriptor, ...]] = (
    session_manager_pb2.DESCRIPTOR,
    session_proxy_responder_pb2.DESCRIPTOR,
    abort_session_pb2.DESCRIPTOR,
    service303_pb2.DESCRIPTOR,
)
MISSING: Final = "SUBSCRIBER_ID_MISSING"
MALFORMED: Final = "SUBSCRIBER_ID_MALFORMED"
NOT_SUBSCRIBERS: Final = {
    "no prefix": "001010000000001",
    "prefix only": "IMSI",
    "small letters": "imsi001010000000001",
    "too long": "IMSI0010100000000012",
    "no digits": "IMSI00101000000000x",
    "digits of another script": "IMSI\N{ARABIC-INDIC DIGIT ONE}",
    "blank before": " IMSI001010000000001",
    "line end": "IMSI001010000000001\n",
    "nul": "IMSI00101\0",
    "session id": "IMSI001010000000001-1",
    "enormous": "IMSI" + "1" * 100_000,
}


def methods() -> Iterator[MethodDescriptor]:
    """Yield every method of the gateway that can be called without ending the daemon."""
    for file in FILES:
        for service in file.services_by_name.values():
            yield from (method for method in service.methods if method.name != "StopService")


def path(method: MethodDescriptor) -> str:
    """Return the name of a method as it is on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


PATHS: Final = [path(method) for method in methods()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run one daemon for all of these tests, with one session whose end shows that nothing was counted beside it."""
    async with gateway(tmp_path_factory.mktemp("bad-input")) as running:
        await running.attach(WITNESS)
        await running.report(WITNESS.used(1000, 500))
        yield running
        assert amounts(await running.detach(WITNESS)) == [(1000, 500)]
        assert running.policy.update.requests == []


def with_rat(number: int) -> Create:
    """Return an attach over a radio access that is not ours."""
    request = NOBODY.create()
    request.common_context.rat_type = session_context_pb2.RATType.ValueType(number)
    return request


def rules_for(*subscribers: str) -> rule_install_pb2.SessionRules:
    """Return rule sets of some subscribers; each would take all rules away."""
    sets = [rule_install_pb2.RuleSet(apply_subscriber_wide=True)]
    entries = [rule_install_pb2.RulesPerSubscriber(imsi=name, rule_set=sets) for name in subscribers]
    return rule_install_pb2.SessionRules(rules_per_subscriber=entries)


class Takes(NamedTuple):
    """A method that takes a subscriber: an otherwise good request, and the path of the field."""

    method: str
    field: str

    def request(self, subscriber: str) -> Message:
        """Return a request about a subscriber."""
        match self.method:
            case "CreateSession":
                create = NOBODY.create()
                create.common_context.sid.id = subscriber
                return create
            case "UpdateTunnelIds":
                return Tunnels(sid=sid(subscriber), bearer_id=5, enb_teid=1, agw_teid=2)
            case "EndSession":
                return End(sid=sid(subscriber), apn="internet")
            case "BindPolicy2Bearer":
                return Bind(sid=sid(subscriber), linked_bearer_id=5, policy_rule_id="web", bearer_id=0)
            case _:
                return rules_for(WITNESS.subscriber, subscriber)


TAKE_A_SUBSCRIBER: Final = [
    Takes("CreateSession", "common_context.sid.id"),
    Takes("UpdateTunnelIds", "sid.id"),
    Takes("EndSession", "sid.id"),
    Takes("BindPolicy2Bearer", "sid.id"),
    Takes("SetSessionRules", "rules_per_subscriber[1].imsi"),
]


@pytest.mark.parametrize("takes", TAKE_A_SUBSCRIBER, ids=lambda takes: takes.method)
async def test_empty_subscriber_is_refused(whole: Gateway, takes: Takes) -> None:
    """A request about nobody is refused with the path of the field that is empty."""
    async with whole.unchanged():
        refused = await refusal(whole.call(LOCAL + takes.method, takes.request("")))
    assert refused == Refusal(Code.INVALID_ARGUMENT, "the subscriber id is empty", MISSING, (takes.field,))


@pytest.mark.parametrize("takes", TAKE_A_SUBSCRIBER, ids=lambda takes: takes.method)
async def test_malformed_subscriber_is_refused(whole: Gateway, takes: Takes) -> None:
    """What is not IMSI and up to 15 digits is refused with the path of the field, in a text of bounded length."""
    async with whole.unchanged():
        for name in NOT_SUBSCRIBERS.values():
            refused = await refusal(whole.call(LOCAL + takes.method, takes.request(name)))
            assert refused._replace(text="") == Refusal(Code.INVALID_ARGUMENT, "", MALFORMED, (takes.field,))
            assert len(refused.text) < 200


@pytest.mark.parametrize("name", ["", *NOT_SUBSCRIBERS.values()], ids=["empty", *NOT_SUBSCRIBERS])
async def test_policy_side_hears_that_there_is_no_such_session(whole: Gateway, name: str) -> None:
    """The responders answer a subscriber that cannot be one as the policy side knows it: session not found."""
    async with whole.unchanged():
        charging = await whole.responder.ChargingReAuth(ChargingReAuthRequest(sid=name, charging_key=1))
        assert charging.result == SESSION_NOT_FOUND
        refused = await refusal(whole.responder.PolicyReAuth(PolicyReAuthRequest(imsi=name, rules_to_remove=["web"])))
        assert refused == Refusal(Code.NOT_FOUND, "Session not found", "SESSION_NOT_FOUND")
        aborted = await whole.abort.AbortSession(AbortSessionRequest(user_name=name, session_id="x"))
        assert aborted.code == AbortSessionResult.SESSION_NOT_FOUND


@pytest.mark.parametrize("number", [2, 3, 99, -1, 2**31 - 1])
async def test_unknown_radio_access_is_refused(whole: Gateway, number: int) -> None:
    """Anything but LTE and carrier wifi is refused in the words the MME knows, and an event tells of it."""
    text = f"Received an invalid RAT type {number}"
    async with whole.unchanged():
        refused = await refusal(whole.sessions.CreateSession(with_rat(number)))
    assert refused == Refusal(Code.FAILED_PRECONDITION, text, "RAT_TYPE_INVALID", ("common_context.rat_type",))
    events = await whole.eventd.log.asked(wanted=lambda event: text in event.value)
    assert (events[0].event_type, events[0].tag) == ("session_create_failure", NOBODY.subscriber)
    asked = {request.common_context.sid.id for request in whole.policy.create.requests}
    assert NOBODY.subscriber not in asked


UNKNOWN_SESSIONS: Final = {
    "end, unknown subscriber": ("EndSession", NOBODY.end(), Code.FAILED_PRECONDITION, "Session not found"),
    "end, other apn": ("EndSession", Device(1, apn="ims").end(), Code.FAILED_PRECONDITION, "Session not found"),
    "end, no apn": ("EndSession", Device(1, apn="").end(), Code.FAILED_PRECONDITION, "Session not found"),
    "tunnels, unknown subscriber": (
        "UpdateTunnelIds",
        NOBODY.tunnels(),
        Code.ABORTED,
        "Failed to Update tunnels Ids",
    ),
    "tunnels, other bearer": (
        "UpdateTunnelIds",
        Device(1, bearer_id=6).tunnels(),
        Code.ABORTED,
        "Failed to Update tunnels Ids",
    ),
    "tunnels, other session id": (
        "UpdateTunnelIds",
        WITNESS.tunnels("IMSI001010000000001-0x"),
        Code.ABORTED,
        "Failed to Update tunnels Ids",
    ),
}


@pytest.mark.parametrize(("method", "request_", "code", "text"), UNKNOWN_SESSIONS.values(), ids=UNKNOWN_SESSIONS)
async def test_unknown_session_is_refused(
    whole: Gateway, method: str, request_: Message, code: grpc.StatusCode, text: str
) -> None:
    """A session that is not there is told in the status and words the MME knows."""
    async with whole.unchanged():
        refused = await refusal(whole.call(LOCAL + method, request_))
    assert refused == Refusal(code, text, "SESSION_NOT_FOUND")


@pytest.mark.parametrize(
    "bind",
    [
        Bind(sid=sid(NOBODY.subscriber), linked_bearer_id=5, policy_rule_id="web", bearer_id=0),
        Bind(sid=sid(WITNESS.subscriber), linked_bearer_id=9, policy_rule_id="web", bearer_id=0),
        Bind(sid=sid(WITNESS.subscriber), linked_bearer_id=5, policy_rule_id="never heard of", bearer_id=0),
        Bind(sid=sid(WITNESS.subscriber), linked_bearer_id=5, policy_rule_id="", bearer_id=2**32 - 1),
    ],
    ids=["subscriber", "bearer", "rule", "no rule"],
)
async def test_bearer_of_something_unknown_is_left_alone(whole: Gateway, bind: Bind) -> None:
    """The MME does not look at the answer: it is OK, nothing changes, and the log says what was meant."""
    before = len(whole.pipelined.activate.requests), len(whole.pipelined.deactivate.requests)
    async with whole.unchanged():
        await whole.sessions.BindPolicy2Bearer(bind)
    assert any(line["event"].startswith("bearer_of_unknown") for line in whole.daemon.lines)
    assert (len(whole.pipelined.activate.requests), len(whole.pipelined.deactivate.requests)) == before


async def test_policy_side_names_something_unknown(whole: Gateway) -> None:
    """A session of another subscriber is not found, rules never heard of are logged and passed over."""
    session_id = (await whole.states())[WITNESS.subscriber][WITNESS.apn][0]["session_id"]
    async with whole.unchanged():
        for wrong in (
            PolicyReAuthRequest(imsi=NOBODY.subscriber, session_id=session_id, rules_to_remove=["web"]),
            PolicyReAuthRequest(imsi=WITNESS.subscriber, session_id=f"{session_id}0", rules_to_remove=["web"]),
        ):
            assert (await refusal(whole.responder.PolicyReAuth(wrong))).code is Code.NOT_FOUND
        request = PolicyReAuthRequest(
            imsi=WITNESS.subscriber, session_id=session_id, rules_to_remove=["never heard of"]
        )
        request.rules_to_install.add(rule_id="nor of this")
        request.rules_to_install.add()
        assert (await whole.responder.PolicyReAuth(request)).result == UPDATE_INITIATED
        await whole.daemon.logged("rules_unknown", session=session_id, rules=["nor of this", ""])


async def test_unknown_kind_of_reauthorisation_is_refused(whole: Gateway) -> None:
    """A type that there is not is answered OTHER_FAILURE, even for a session that there is."""
    session_id = (await whole.states())[WITNESS.subscriber][WITNESS.apn][0]["session_id"]
    request = ChargingReAuthRequest(sid=WITNESS.subscriber, session_id=session_id, charging_key=1)
    request.type = ChargingReAuthRequest.Type.ValueType(7)
    async with whole.unchanged():
        answer = await whole.responder.ChargingReAuth(request)
    assert answer == ChargingReAuthAnswer(result=session_proxy_responder_pb2.OTHER_FAILURE)


@pytest.mark.parametrize("number", [5, -1, 1000])
async def test_unknown_log_level_is_refused(whole: Gateway, number: int) -> None:
    """A level that there is not is refused with the field it is in."""
    level: Any = number
    refused = await refusal(whole.service.SetLogLevel(LogLevelMessage(level=level)))
    assert refused._replace(text="") == Refusal(Code.INVALID_ARGUMENT, "", "LOG_LEVEL_UNKNOWN", ("level",))


ANSWERS_TO_NOTHING: Final = {
    "CreateSession": (Code.INVALID_ARGUMENT, MISSING),
    "UpdateTunnelIds": (Code.INVALID_ARGUMENT, MISSING),
    "ReportRuleStats": (Code.OK, ""),
    "BindPolicy2Bearer": (Code.INVALID_ARGUMENT, MISSING),
    "SetSessionRules": (Code.OK, ""),
    "EndSession": (Code.INVALID_ARGUMENT, MISSING),
    "ChargingReAuth": (Code.OK, ""),
    "PolicyReAuth": (Code.NOT_FOUND, "SESSION_NOT_FOUND"),
    "AbortSession": (Code.OK, ""),
    "GetServiceInfo": (Code.OK, ""),
    "GetMetrics": (Code.OK, ""),
    "SetLogLevel": (Code.OK, ""),
    "SetLogVerbosity": (Code.UNIMPLEMENTED, ""),
    "ReloadServiceConfig": (Code.OK, ""),
    "GetOperationalStates": (Code.OK, ""),
}
"""What an empty message is answered: it is a request about nobody, about nothing, or a good one."""


NEWER: Final = b"\xc2\x3e\x03new" + b"\xc8\x3e\x07"
"""Fields of a caller that is newer than we are."""


@pytest.mark.parametrize("octets", [b"", NEWER], ids=["empty", "unknown fields only"])
@pytest.mark.parametrize("name", PATHS)
async def test_empty_message(whole: Gateway, name: str, octets: bytes) -> None:
    """Every method has an answer to a message without any field, or without any that it knows."""
    async with whole.unchanged():
        code, reason = Code.OK, ""
        try:
            await whole.call(name, octets)
        except grpc.aio.AioRpcError as error:
            code, reason = error.code(), (await refusal(whole.call(name, octets))).reason
        assert (code, reason) == ANSWERS_TO_NOTHING[name.rpartition("/")[2]]
    await whole.service.SetLogLevel(LogLevelMessage(level=INFO))
    await whole.create(WITNESS)  # the data plane is still taken to be set up


GARBAGE: Final = {
    "no tag": b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    "cut off": b"\x0a\x05ab",
    "field 0": b"\x00\x01",
    "group without an end": b"\x0b",
    "length of 4 GiB": b"\x0a\xff\xff\xff\xff\x0f",
}


@pytest.mark.parametrize("name", [*PATHS, HEALTH])
async def test_garbage(whole: Gateway, name: str) -> None:
    """Octets that are no message are refused before anything is done about them."""
    async with whole.unchanged():
        for octets in GARBAGE.values():
            refused = await refusal(whole.call(name, octets))
            assert refused._replace(text="") == Refusal(Code.INVALID_ARGUMENT, "", "MESSAGE_MALFORMED")


async def test_text_that_is_not_utf8(whole: Gateway) -> None:
    """A field of text with octets that are none makes the message malformed."""
    end = End(sid=sid(WITNESS.subscriber), apn="internet").SerializeToString().replace(b"internet", b"\xc3\x28ternet")
    async with whole.unchanged():
        refused = await refusal(whole.call(f"{LOCAL}EndSession", end))
    assert refused._replace(text="") == Refusal(Code.INVALID_ARGUMENT, "", "MESSAGE_MALFORMED")


async def test_unknown_fields_are_passed_over(whole: Gateway) -> None:
    """A message of a newer caller, with fields that we do not know, is taken for what we know of it."""
    device = Device(10)
    await whole.call(f"{LOCAL}CreateSession", device.create().SerializeToString() + NEWER)
    await whole.call(f"{LOCAL}EndSession", NEWER + device.end().SerializeToString())
    session_id = (await whole.states())[device.subscriber][device.apn][0]["session_id"]
    await whole.report_until_ended(session_id, WITNESS.used(1000, 500))
    refused = await refusal(whole.call(f"{LOCAL}UpdateTunnelIds", NOBODY.tunnels().SerializeToString() + NEWER))
    assert refused.reason == "SESSION_NOT_FOUND"


async def test_unknown_methods_are_not_served(whole: Gateway) -> None:
    """A method or a service that there is not is UNIMPLEMENTED."""
    for name in ("/magma.lte.LocalSessionManager/NoSuchMethod", "/no.such.Service/Method"):
        assert (await refusal(whole.call(name, b""))).code is Code.UNIMPLEMENTED


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=["plain", "gzip"])
async def test_message_over_the_limit(whole: Gateway, compression: grpc.Compression) -> None:
    """A message of more than 64 MiB is refused, also one that is small until it is unpacked."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = whole.channel.unary_unary(f"{LOCAL}EndSession")
    octets = End(sid=sid(WITNESS.subscriber), apn="x" * (64 * 2**20)).SerializeToString()
    async with whole.unchanged():
        refused = await refusal(method(octets, compression=compression))
    assert refused.code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("name", PATHS)
async def test_every_method_has_the_limit(whole: Gateway, name: str) -> None:
    """No method reads a message of more than 64 MiB, whatever is in it."""
    length = 64 * 2**20
    async with whole.unchanged():
        refused = await refusal(whole.call(name, b"\xc2\x3e\x80\x80\x80\x20" + bytes(length)))
    assert refused.code is Code.RESOURCE_EXHAUSTED


async def test_message_just_under_the_limit(whole: Gateway) -> None:
    """A message of almost 64 MiB is read and answered."""
    async with whole.unchanged():
        refused = await refusal(whole.sessions.EndSession(End(sid=sid(WITNESS.subscriber), apn="x" * (63 * 2**20))))
    assert refused.reason == "SESSION_NOT_FOUND"


class TestContradicting:
    """What contradicts itself has one meaning, and it is that of the order of the reference (rpc.md)."""

    async def test_a_device_of_two_kinds_of_access(self, whole: Gateway) -> None:
        """A carrier wifi session that brings what only LTE has lives and ends as any other."""
        device = Device(50)
        request = device.create()
        request.common_context.rat_type = session_context_pb2.TGPP_WLAN
        await whole.sessions.CreateSession(request)
        await whole.sessions.UpdateTunnelIds(device.tunnels())
        await ends(whole, device)

    async def test_a_bearer_that_is_there_and_is_not(self, whole: Gateway) -> None:
        """Bearer id 0 says that there is none, whatever tunnels are named with it."""
        device = Device(51)
        await whole.attach(device)
        bind = Bind(sid=sid(device.subscriber), linked_bearer_id=5, policy_rule_id="web", bearer_id=0)
        bind.teids.enb_teid = bind.teids.agw_teid = 9
        await whole.sessions.BindPolicy2Bearer(bind)
        await whole.pipelined.deactivate.asked(wanted=lambda request: request.ip_addr == device.ue_ipv4)
        await ends(whole, device)

    async def test_a_rule_that_is_to_go_and_to_come(self, whole: Gateway) -> None:
        """It goes and comes: flows go down, and up under a new version."""
        device = Device(52)
        session_id = await whole.attach(device)
        change = PolicyReAuthRequest(imsi=device.subscriber, session_id=session_id, rules_to_remove=["web", "web"])
        change.rules_to_install.add(rule_id="web")
        change.rules_to_install.add(rule_id="web")
        assert (await whole.responder.PolicyReAuth(change)).result == UPDATE_INITIATED
        requests = await whole.pipelined.activate.asked(2, wanted=lambda request: request.ip_addr == device.ue_ipv4)
        assert [(policy.rule.id, policy.version) for policy in requests[1].policies] == [("web", 3)]
        await ends(whole, device, device.used(10, 1, version=1), device.used(5, 1, version=3), total=(15, 2))

    async def test_a_credit_of_a_whole_session(self, whole: Gateway) -> None:
        """Who wants a whole session re-authorised may name any credit beside it."""
        device = Device(53)
        session_id = await whole.attach(device)
        request = ChargingReAuthRequest(sid=device.subscriber, session_id=session_id, charging_key=77)
        request.type = ChargingReAuthRequest.ENTIRE_SESSION
        assert (await whole.responder.ChargingReAuth(request)).result == UPDATE_INITIATED
        await whole.report(WITNESS.used(1000, 500))
        (update,) = await whole.policy.update.asked(wanted=lambda sent: sent.updates[0].session_id == session_id)
        assert [item.usage.charging_key for item in update.updates] == [1]
        whole.policy.update.requests.clear()
        await ends(whole, device)

    async def test_the_session_of_another_subscriber(self, whole: Gateway) -> None:
        """Subscriber and session must belong together."""
        session_id = (await whole.states())[WITNESS.subscriber][WITNESS.apn][0]["session_id"]
        async with whole.unchanged():
            aborted = await whole.abort.AbortSession(
                AbortSessionRequest(user_name=NOBODY.subscriber, session_id=session_id)
            )
            assert aborted.code == AbortSessionResult.SESSION_NOT_FOUND
            charging = ChargingReAuthRequest(sid=NOBODY.subscriber, session_id=session_id, charging_key=1)
            assert (await whole.responder.ChargingReAuth(charging)).result == SESSION_NOT_FOUND
            tunnels = Tunnels(sid=sid(NOBODY.subscriber), bearer_id=5, session_id=session_id)
            assert (await refusal(whole.sessions.UpdateTunnelIds(tunnels))).reason == "SESSION_NOT_FOUND"

    async def test_a_rule_set_that_is_for_all_and_for_one_apn(self, whole: Gateway) -> None:
        """A set for every APN counts beside that of its own, and a rule in both is there once."""
        device = Device(54)
        await whole.attach(device)
        rules = rule_install_pb2.RuleSet(apply_subscriber_wide=True, apn=device.apn)
        rules.static_rules.add(rule_id="web")
        rules.static_rules.add(rule_id="web")
        entry = rule_install_pb2.RulesPerSubscriber(imsi=device.subscriber, rule_set=[rules, rules])
        await whole.sessions.SetSessionRules(rule_install_pb2.SessionRules(rules_per_subscriber=[entry, entry]))
        state = (await whole.states())[device.subscriber][device.apn][0]
        assert [json.loads(rule)["id"] for rule in state["active_policy_rules"]] == ["web"]
        await ends(whole, device)

    async def test_a_table_that_contradicts_itself(self, whole: Gateway) -> None:
        """Of two counts of one rule and version the larger one is true; with two addresses it is counted for one."""
        device = Device(55)
        await whole.attach(device)
        both = device.used(40, 4)
        both.ue_ipv6 = "2001:db8::1"
        await ends(whole, device, device.used(40, 4), device.used(30, 3), both, total=(40, 4))


async def ends(whole: Gateway, device: Device, *records: Record, total: tuple[int, int] = (0, 0)) -> None:
    """Report the last usage of a device and let it detach: that, and nothing else, is in its end."""
    await whole.report(WITNESS.used(1000, 500), *records)
    assert amounts(await whole.detach(device, WITNESS.used(1000, 500))) == [total]


IGNORED: Final = {
    "RULE_UNKNOWN": WITNESS.used(5000, 5000, rule="never heard of"),
    "VERSION_UNKNOWN": WITNESS.used(5000, 5000, version=2),
    "VERSION_OUTDATED": WITNESS.used(5000, 5000, version=0),
    "COUNTER_DECREASED": WITNESS.used(999, 5000),
}


@pytest.mark.parametrize(("reason", "record"), IGNORED.items(), ids=IGNORED)
async def test_usage_that_cannot_be_counts_nothing(whole: Gateway, reason: str, record: Record) -> None:
    """Such a record is passed over, with its reason in the log; the others of the same table count all the same."""
    device = Device(20 + list(IGNORED).index(reason))
    await whole.attach(device)
    async with whole.unchanged():
        await whole.report(record, WITNESS.used(1000, 500), device.used(70, 7))
        await whole.daemon.logged("usage_ignored", reason=reason)
    assert amounts(await whole.detach(device, WITNESS.used(1000, 500))) == [(70, 7)]


async def test_largest_numbers_in_usage(whole: Gateway) -> None:
    """Counters that no device can reach break nothing: the session goes on, and its end is reported."""
    device, most = Device(30), 2**64 - 1
    session_id = await whole.attach(device)
    change = PolicyReAuthRequest(imsi=device.subscriber, session_id=session_id)
    change.rules_to_install.add(rule_id="more_web")
    await whole.responder.PolicyReAuth(change)
    await whole.report(
        device.used(most, most), device.used(most, most, rule="more_web"), device.used(1, 1, version=most)
    )
    await whole.policy.update.asked(wanted=lambda request: request.updates[0].session_id == session_id)
    await whole.detach(device, WITNESS.used(1000, 500))
    await whole.eventd.heard("session_terminated", device.subscriber)
    whole.policy.update.requests.clear()


@pytest.mark.parametrize("subscriber", [NOBODY.subscriber, "001010000000001", "IMSI1\n", "x" * 10_000])
async def test_flows_of_unknown_subscribers_are_taken_down(whole: Gateway, subscriber: str) -> None:
    """What pipelined counts for a session that nobody knows is removed there, by the names it has there."""
    async with whole.unchanged():
        await whole.report(
            Record(sid=subscriber, rule_id="web", rule_version=1, bytes_tx=9, ue_ipv4="10.9.9.9", teid=7)
        )
        requests = await whole.pipelined.deactivate.asked(wanted=lambda request: request.sid.id == subscriber)
    assert (requests[0].ip_addr, requests[0].uplink_tunnel, list(requests[0].policies)) == ("10.9.9.9", 7, [])
    assert requests[0].remove_default_drop_flows


async def test_flows_of_nobody_are_left_alone(whole: Gateway) -> None:
    """A record without a subscriber must not become a request to remove the flows of everybody."""
    asked = len(whole.pipelined.deactivate.requests)
    async with whole.unchanged():
        await whole.report(Record(rule_id="web", rule_version=1, bytes_tx=9))
        await whole.report(Record(sid="IMSI77", ue_ipv4="10.7.7.7"))
        await whole.pipelined.deactivate.asked(wanted=lambda request: request.sid.id == "IMSI77")
    assert [request.sid.id for request in whole.pipelined.deactivate.requests[asked:]] == ["IMSI77"]


async def test_table_without_an_epoch(whole: Gateway) -> None:
    """A table that does not say when pipelined started does not make it be set up again."""
    setups = len(whole.pipelined.set_up_policies.requests)
    await whole.sessions.ReportRuleStats(Table())
    await whole.create(WITNESS)
    await whole.report()
    assert len(whole.pipelined.set_up_policies.requests) == setups


async def test_texts_of_all_kinds_in_a_context(whole: Gateway) -> None:
    """What the MME says about a device is not judged: such a session lives and ends as any other."""
    device = Device(40, apn='%s\n\0"é' + "a" * 5000)
    request = device.create(imei="'; --")
    request.common_context.msisdn = bytes(range(256))
    request.common_context.ue_ipv6 = "no address"
    request.rat_specific_context.lte_context.user_location = bytes(range(256))
    request.rat_specific_context.lte_context.qos_info.qos_class_id = 2**31 - 1
    await whole.sessions.CreateSession(request)
    await whole.sessions.UpdateTunnelIds(Tunnels(sid=sid(device.subscriber), bearer_id=5, enb_teid=2**32 - 1))
    await whole.eventd.heard("session_created", device.subscriber)
    assert device.apn in (await whole.states())[device.subscriber]
    await whole.detach(device, WITNESS.used(1000, 500))
    await whole.eventd.heard("session_terminated", device.subscriber)
