"""Requests of sessions as commands: every field in its place, and what can never be right refused by its path."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import UNSET

from sessiond.core.access import Isolation, Permissions
from sessiond.core.decide.change import Wanted
from sessiond.core.decide.native import NewSession
from sessiond.core.decide.requests import ANY, Terms
from sessiond.core.errors import InvalidArgument
from sessiond.core.session import GivenTime, Options, Peer
from sessiond.northbound.native import fields as of
from sessiond.northbound.native.session_requests import new_session_of, request_of, terms_of, wanted_of
from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service

FULL: dict[str, Any] = {
    "key": "k", "type": "ussd", "data_source": "d", "namespace": "n", "msisdn": "+15550100001", "identifier": "i",
    "version": 3, "utc_offset": "-3600s", "details": {"a": [1, None, {"b": True}], "gone": None},
    "sensitive_details": ["a", "a"], "associate_keys": ["x"], "ttl": "5s", "max_duration": "60s", "idle_timeout": "0s",
    "permissions": {"execute_functions": True, "write_across_sessions": True},
    "isolation": {"readable_namespaces": ["r"], "denied_functions": ["f*"], "barrier": True},
    "quotas": {"bytes": {"limit": 5, "used": 3}}, "settings": {"execution_logging": True},
    "peer": {"node_id": "AAE=", "capabilities": ["c"], "address": "a:1", "transport": "udp"},
    "state": "SESSION_STATE_CLOSED", "origin": "SESSION_ORIGIN_GATEWAY", "pending": True, "etag": "e",
}  # fmt: skip
"""A session in which a client has said everything, also what it has no say in."""


def said(**fields: Any) -> session.Session:
    """Return a session as a client says it."""
    return ParseDict(fields, session.Session())


def refused(act: Callable[[], object]) -> tuple[str, str]:
    """Return the reason for which something is refused, and the path of the field."""
    with pytest.raises(InvalidArgument) as caught:
        act()
    return caught.value.reason, caught.value.field


def test_all_that_a_client_says_of_a_new_session() -> None:
    """What it has no say in is ignored."""
    request = service.CreateSessionRequest(session=said(**FULL), leave_inactive=True)
    assert new_session_of(request) == NewSession(
        type="ussd",
        data_source="d",
        namespace="n",
        msisdn="+15550100001",
        identifier="i",
        version=3,
        utc_offset=GivenTime(-3600),
        details={"a": [1.0, None, {"b": True}]},
        sensitive_details=("a",),
        associates=("x",),
        ttl_ms=5000,
        max_duration_ms=60_000,
        idle_timeout_ms=0,
        permissions=Permissions(execute_functions=True, write_across_sessions=True),
        isolation=Isolation(readable_namespaces=("r",), denied_functions=("f*",), barrier=True),
        quotas={"bytes": 5},
        options=Options(auto_expire=False, execution_logging=True),
        peer=Peer(node_id=b"\0\1", capabilities=("c",), address="a:1", transport="udp"),
        leave_inactive=True,
    )


def test_little_that_a_client_says() -> None:
    """What is not said is left to the profile."""
    assert new_session_of(service.CreateSessionRequest(session=said(type="sms"))) == NewSession(type="sms")


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        (Duration(seconds=-1), "DURATION_OUT_OF_RANGE", "f"),
        (Duration(seconds=2**40), "DURATION_OUT_OF_RANGE", "f"),
        (Duration(nanos=-1), "DURATION_OUT_OF_RANGE", "f"),
        (Duration(), "DURATION_OUT_OF_RANGE", "f"),
        (Timestamp(), "TIME_INVALID", "f"),
        (Timestamp(seconds=-5), "TIME_INVALID", "f"),
        (Timestamp(seconds=2**50), "TIME_INVALID", "f"),
        (Timestamp(seconds=5, nanos=2_000_000_000), "TIME_INVALID", "f"),
    ],
)
def test_times_that_are_none(wrong: Any, reason: str, field: str) -> None:
    """They are refused by the path of the field."""
    read = of.lasting_ms if isinstance(wrong, Duration) else of.moment_ms
    assert refused(lambda: read(wrong, "f")) == (reason, field)


@pytest.mark.parametrize("wrong", [Duration(seconds=86_400), Duration(seconds=1, nanos=-1), Duration(seconds=-90_000)])
def test_offsets_that_are_none(wrong: Duration) -> None:
    """Local time is less than a day ahead of UTC, or behind it."""
    assert refused(lambda: of.offset_of(wrong, "f")) == ("DURATION_OUT_OF_RANGE", "f")
    assert of.offset_of(Duration(seconds=-5, nanos=-7), "f") == GivenTime(-5, -7)


def update(mask: list[str] | None = None, **fields: Any) -> Wanted:
    """Return what an update wants."""
    return wanted_of(
        service.UpdateSessionRequest(session=said(**fields), update_mask=FieldMask(paths=mask) if mask else None)
    )


def test_without_a_mask_what_is_set_is_wanted() -> None:
    """What cannot be changed is held against what is there; what is output only is ignored."""
    full = {**FULL, "details": {"a": None}}
    assert update(**full) == Wanted(
        same={"type": "ussd", "data_source": "d", "namespace": "n", "msisdn": "+15550100001"},
        identifier="i",
        version=3,
        utc_offset=GivenTime(-3600),
        details={"a": None},
        sensitive_details=("a",),
        ttl_ms=5000,
        max_duration_ms=60_000,
        idle_timeout_ms=0,
        permissions=Permissions(execute_functions=True, write_across_sessions=True),
        isolation=Isolation(readable_namespaces=("r",), denied_functions=("f*",), barrier=True),
        quotas={"bytes": 5},
        options=Options(auto_expire=False, execution_logging=True),
    )
    assert update(expire_time="2026-01-01T00:00:00Z", ttl="5s") == Wanted(ttl_ms=5000)


def test_a_mask_says_what_is_wanted() -> None:
    """Fields that are in it and not set are emptied; entries of details are set or taken away by name."""
    assert update(["identifier", "utc_offset", "expire_time", "ttl"], version=3) == Wanted(
        identifier="", utc_offset=None, expire_at_ms=0, ttl_ms=UNSET
    )
    assert update(["details.a", "details.b c", "details"], details={"a": 1, "z": 2}).details == {
        "a": 1.0, "b c": None, "z": 2.0,
    }  # fmt: skip
    assert update(["details.a"]).details == {"a": None}
    everything = update(["*"], identifier="i")
    assert (everything.identifier, everything.details, everything.only_these_details) == ("i", {}, True)
    assert everything.options == Options(auto_expire=False)
    assert everything.ttl_ms is UNSET


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (["type"], ("FIELD_IMMUTABLE", "session.type")),
        (["gateway.apn"], ("FIELD_IMMUTABLE", "session.gateway.apn")),
        (["nothing"], ("FIELD_MASK_INVALID", "update_mask")),
        (["details."], ("FIELD_MASK_INVALID", "update_mask")),
        (["ttl", "expire_time"], ("INVALID_CONFIGURATION", "session.ttl")),
    ],
)
def test_masks_that_are_refused(mask: list[str], expected: tuple[str, str]) -> None:
    """By the reason and the path."""
    assert refused(lambda: update(mask, ttl="5s", expire_time="2026-01-01T00:00:00Z")) == expected


def test_requests_are_known_by_their_content() -> None:
    """The same content has the same digest, another message of the same fields another one."""
    pause = service.PauseSessionRequest(key="k", request_id="r")
    resume = service.ResumeSessionRequest(key="k", request_id="r")
    assert request_of(service.PauseSessionRequest(key="k")) is None
    assert request_of(pause) == request_of(service.PauseSessionRequest(key="k", request_id="r")) != request_of(resume)
    assert terms_of(service.PauseSessionRequest(key="k")) is ANY
    assert terms_of(pause, "e") == Terms("e", request_of(pause))
    long = service.PauseSessionRequest(request_id="x" * 65)
    assert refused(lambda: request_of(long)) == ("FIELD_TOO_LONG", "request_id")


def test_secrets_are_no_part_of_the_digest() -> None:
    """What is stored tells nothing of sensitive values and shared secrets; other values count."""

    def digest(pin: str, shared: bytes, plain: str = "p") -> object:
        wanted = said(type="ussd", details={"pin": pin, "plain": plain}, sensitive_details=["pin"])
        handshake = service.Handshake(shared_secret=shared)
        return request_of(service.CreateSessionRequest(session=wanted, handshake=handshake, request_id="r"))

    assert digest("1", b"a") == digest("2", b"b") != digest("1", b"a", "q")
