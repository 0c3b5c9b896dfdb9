"""The filter language: what is understood, what it means, and how what is wrong is said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sessiond.core.access import Access, Isolation, Permissions, Quota
from sessiond.core.comparisons import Literal
from sessiond.core.errors import InvalidArgument
from sessiond.core.fields import FIELDS, Kind
from sessiond.core.filters import And, Comparison, Expression, Filter, Not, Or, parse
from sessiond.core.keys import SessionSecret
from sessiond.core.lifecycle import State
from sessiond.core.rules import Rule
from sessiond.core.session import (
    Context,
    Gateway,
    GivenTime,
    Head,
    Identity,
    Limits,
    Options,
    Peer,
    Record,
    Session,
    Stream,
)
from sessiond.core.traffic import Traffic
from tests.core.strategies import SESSIONS

RECORDING = Session(
    key="7",
    type="stream",
    scope="7",
    head=Head(state=State.CLOSED, created_at_ms=1_700_000_000_000, activated_at_ms=1_700_000_000_500, reason="ENDED"),
    identity=Identity(data_source="Car", identifier="Monza", version=3, utc_offset=GivenTime(3600)),
    stream=Stream(),
    details={"lap": "12", "wet": True, "laps": 40, "pace": 1.5, "drivers": ["a", "b"], "track": {"turns": 11}},
    associates={"1": "other"},
)
ATTACHED = Session(
    key="IMSI001010000000001-1",
    type="lte",
    scope="IMSI001010000000001",
    head=Head(state=State.ACTIVE, created_at_ms=1_700_000_000_000),
    context=Context(subscriber="IMSI001010000000001", apn="internet", msisdn="+15550100001"),
    gateway=Gateway(),
)

PEER = Session(
    key="0123456789abcdef",
    type="peer",
    scope="0123456789abcdef",
    head=Head(state=State.CREATING, created_at_ms=1_700_000_000_000),
    identity=Identity(namespace="nodes", msisdn="+15550100002"),
    limits=Limits(expire_at_ms=1_700_000_060_000, max_duration_ms=60_000),
    record=Record(updated_at_ms=1_700_000_000_001, used_at_ms=1_700_000_000_002),
    options=Options(execution_logging=True, sensitive_details=("pin",)),
    access=Access(Permissions(execute_functions=True), Isolation(allowed_functions=("math.*",))),
    quotas={"executions": Quota(5, 3)},
    traffic=Traffic(packets_sent=4),
    secret=SessionSecret(version=2, sealed="", rotate_at_ms=1_700_000_060_000),
    peer=Peer(node_id=b"\x0a" * 32, capabilities=("relay",), address="192.0.2.7:4433", transport="udp"),
    details={"pin": "1234"},
)

LITERALS = st.builds(
    Literal, st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple), st.just(value=True)
) | st.builds(
    Literal, st.lists(st.text("abc019+:-/", min_size=1), min_size=1, max_size=2).map(tuple), st.just(value=False)
)


def _texts(name: str) -> st.SearchStrategy[Comparison]:
    operators = st.sampled_from(["=", "!=", ":"])
    return st.builds(Comparison, st.just((name,)), operators, LITERALS)


COMPARISONS: st.SearchStrategy[Expression] = st.one_of(
    _texts("key"),
    _texts("data_source"),
    st.builds(
        Comparison, st.just(("version",)), st.sampled_from(["=", "<", ">="]), st.sampled_from([Literal(("3",), False)])
    ),
    st.builds(
        Comparison, st.just(("state",)), st.just("="), st.sampled_from(State).map(lambda s: Literal((s,), False))
    ),
    st.builds(Comparison, st.tuples(st.just("details"), st.text(min_size=1, max_size=4)), st.just("="), LITERALS),
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_what_is_printed_is_read_again(expression: Expression) -> None:
    """Reading the text of an expression gives the expression, and its text is its own."""
    read = parse(str(expression))
    assert (read.expression, read.text) == (expression, str(expression))
    assert parse(read.text) == read


@given(EXPRESSIONS, EXPRESSIONS, SESSIONS)
def test_de_morgan(one: Expression, other: Expression, session: Session) -> None:
    """What is not both is not the one or not the other, and what is neither is not the one and not the other."""
    meant = {text: parse(text)(session) for text in (f"NOT (({one}) AND ({other}))", f"NOT ({one}) OR NOT ({other})")}
    assert len(set(meant.values())) == 1
    meant = {text: parse(text)(session) for text in (f"NOT (({one}) OR ({other}))", f"NOT ({one}) AND NOT ({other})")}
    assert len(set(meant.values())) == 1


@given(st.text(max_size=80) | st.text("()<>=!:\"'\\*.-ANDORT keystadils0", max_size=40), SESSIONS)
def test_any_text_is_a_filter_or_refused(text: str, session: Session) -> None:
    """Whatever is sent is understood, or refused with its reason; a filter answers for every session."""
    meant = _understood(text)
    if isinstance(meant, InvalidArgument):
        assert (meant.reason, meant.field) == ("FILTER_INVALID", "filter")
    else:
        assert meant(session) in {True, False}
        assert parse(meant.text) == meant


def _understood(text: str) -> Filter | InvalidArgument:
    try:
        return parse(text)
    except InvalidArgument as refused:
        return refused


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "state = CLOSED",
        'type = "stream" AND data_source = Car',
        "type=stream   AND   state!=ACTIVE",
        "NOT state = ACTIVE",
        "-state = ACTIVE",
        "NOT (NOT state = CLOSED)",
        "(state = ACTIVE OR state = CLOSED) AND type = stream",
        'identifier = "Mon*"',
        "identifier = M*n*a",
        'identifier : "onz"',
        "version >= 3 AND version < 3.5 AND version : 3",
        'create_time > "2023-11-14T22:13:19Z"',
        "create_time = 2023-11-14T23:13:20+01:00",
        "create_time <= 2023-11-14T22:13:20.000Z",
        "activate_time = 2023-11-14T22:13:20.5Z",
        "utc_offset = 1h AND utc_offset = 3600s AND utc_offset < 61m",
        "end_reason = CLIENT",
        "origin = STREAM_API",
        "associate_keys : other",
        "associate_keys : oth*",
        "associate_keys:*",
        "details : lap",
        "details.lap = 12",
        'details.lap = "12"',
        "details.laps = 40",
        "details.laps > 39.5",
        "details.pace < 2",
        "details.wet = true",
        "details.wet != false",
        "details.drivers : a",
        "details.track : turns",
        "details.track.turns = 11",
        'details."lap":*',
        "details.absent != 1",
        "NOT details.absent:*",
        "NOT gateway:*",
        "NOT end_time < 2038-01-01T00:00:00Z",
        "key < 8 AND key > 6",
    ],
)
def test_filters_that_mean_a_session(text: str) -> None:
    """Every kind of field, in every way it can be compared."""
    assert parse(text)(RECORDING)


@pytest.mark.parametrize(
    "text",
    [
        "state = ACTIVE",
        'identifier = "*x"',
        "identifier = M*a*a",
        'identifier = "M\\*"',
        "version > 3",
        "end_time > 1970-01-01T00:00:01Z",
        "end_time:*",
        "msisdn:*",
        'details.laps = "40"',
        "details.wet = 1",
        "details.laps = true",
        "details.wet > true",
        "details.drivers = a",
        "details.drivers : 3",
        "details.laps.deeper = 1",
        "details.absent = 1",
        "details.absent:*",
        "associate_keys : another",
        "gateway.apn = internet",
        "gateway:*",
        "subscriber:*",
        "type = lte OR state = ACTIVE",
    ],
)
def test_filters_that_do_not_mean_a_session(text: str) -> None:
    """What is not there is not equal to anything, and a text in quotes is no number."""
    assert not parse(text)(RECORDING)


@pytest.mark.parametrize(
    "text",
    [
        'subscriber = "IMSI00101*"',
        "gateway.apn = internet AND gateway:*",
        "gateway.radio_access = TGPP_LTE",
        "msisdn = +15550100001",
        "NOT end_reason:*",
        "origin = GATEWAY",
    ],
)
def test_filters_that_mean_a_gateway_session(text: str) -> None:
    """What only gateway sessions have is compared as everything else."""
    assert parse(text)(ATTACHED)


@pytest.mark.parametrize(
    "text",
    [
        "namespace = nodes AND msisdn = +15550100002 AND pending = true",
        "expire_time = 2023-11-14T22:14:20Z AND max_duration = 1m AND NOT idle_timeout:*",
        "update_time < 2023-11-14T22:13:20.002Z",
        "last_activity_time : 2023-11-14T22:13:20.002Z",
        "permissions.execute_functions = true AND permissions.compose_functions = false",
        "isolation.allowed_functions : 'math.\\*' AND isolation.barrier != true",
        "quotas : executions AND quotas.executions.used < 4 AND quotas.executions.limit = 5",
        "NOT quotas.bytes.limit < 5 AND NOT quotas.bytes.limit >= 5 AND quotas.bytes.used != 0",
        "key_version = 2 AND key_rotation_time = 2023-11-14T22:14:20Z AND NOT parent_key:*",
        "settings.execution_logging = true AND traffic.packets_sent = 4",
        f"peer.node_id = {'0a' * 32} AND peer.capabilities : relay AND peer.address = 192.0.2.7* AND peer:*",
        "sensitive_details : pin AND details.pin != 1234 AND details.pin : '***' AND details : pin",
    ],
)
def test_filters_that_mean_a_peer_session(text: str) -> None:
    """What native sessions have; what is nobody else's business cannot be guessed by asking."""
    assert parse(text)(PEER)


def test_traffic_through_a_gateway_is_that_of_its_rules() -> None:
    """What its rules let through, up and down."""
    rules = {"a": Rule(moved_tx=5, moved_rx=7), "b": Rule(moved_tx=1)}
    session = structs.replace(ATTACHED, rules=rules)
    assert parse("traffic.bytes_sent = 6 AND traffic.bytes_received = 7")(session)


def test_or_binds_more_tightly_than_and() -> None:
    """As AIP-160 has it, `a AND b OR c` is `a AND (b OR c)`."""
    meant = parse("state = ACTIVE AND type = lte OR type = stream")
    assert meant == parse("state = ACTIVE AND (type = lte OR type = stream)")
    assert not meant(RECORDING)


@pytest.mark.parametrize(
    ("text", "at", "wrong"),
    [
        ("state", 6, "one of ="),
        ("state =", 8, "a value is expected at the end"),
        ("= ACTIVE", 1, "a field is expected"),
        ("AND state = ACTIVE", 1, "a field is expected"),
        ("state = ACTIVE state = CLOSED", 16, "AND or OR is expected"),
        ("(state = ACTIVE", 16, "AND, OR or ) is expected"),
        ("state = ACTIVE)", 15, "AND or OR is expected"),
        ("colour = red", 1, "no field colour"),
        ("state.x = red", 1, "no field state.x"),
        ("details. = red", 9, "a name is expected"),
        ('key = "abc', 7, "no counterpart"),
        ("state = active", 9, "is one of REQUESTED, CREATING"),
        ("state > ACTIVE", 1, "is a name: it is compared with = or !="),
        ("version = three", 11, "is a number"),
        ("create_time > yesterday", 15, "is a time"),
        ("create_time > 2023-02-29T00:00:00Z", 15, "is a time"),
        ("utc_offset > 5", 14, "is a duration"),
        ("associate_keys = a", 1, "is a list: it is asked with :"),
        ("details = a", 1, "is a map: it is asked with :"),
        ("gateway = a", 1, "is a part"),
        ("key > a*", 7, "to a text that has a *"),
        ("(" * 21 + "key = a" + ")" * 21, 22, "more than 20 levels"),
        (" AND ".join(["key = a"] * 101), 1201, "more than 100 comparisons"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, at: int, wrong: str) -> None:
    """The error names the character at which the trouble begins, counted from 1."""
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert caught.value.text.startswith(f"at character {at}: ")
    assert wrong in caught.value.text
    assert (caught.value.reason, caught.value.field) == ("FILTER_INVALID", "filter")


def test_a_filter_has_a_longest_length() -> None:
    """A filter of any length would cost any time."""
    with pytest.raises(InvalidArgument, match="more than 4096"):
        parse("a" * 4097)


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("data_source = Car", "Car"),
        ('state = ACTIVE AND data_source = "Car 7"', "Car 7"),
        ('data_source = "Car*"', None),
        ("data_source != Car", None),
        ("data_source = Car OR state = ACTIVE", None),
        ("NOT data_source = Car", None),
        ("", None),
    ],
)
def test_the_value_that_a_filter_asks_for(text: str, pinned: str | None) -> None:
    """A filter that means one data source only says which, so that an index can be used."""
    assert parse(text).pinned("data_source") == pinned


def test_filters_are_equal_if_they_say_the_same() -> None:
    """Spaces and needless parentheses make no difference."""
    one, same, other = parse("(state=ACTIVE)"), parse("state  = ACTIVE"), parse("state = CLOSED")
    assert one == same
    assert hash(one) == hash(same)
    assert one not in {other, str(one)}
    assert repr(one) == "Filter('state = ACTIVE')"
    assert isinstance(one, Filter)


@given(SESSIONS)
def test_every_field_of_any_session_can_be_read(session: Session) -> None:
    """A field has a value of its kind, whatever parts the session has."""
    types: dict[Kind, Any] = {
        Kind.TEXT: str,
        Kind.NUMBER: int,
        Kind.FLAG: bool,
        Kind.TIME: int,
        Kind.SPAN: (int, type(None)),
        Kind.NAME: str,
        Kind.LIST: tuple,
        Kind.MAP: dict,
        Kind.PART: object,
    }
    for name, field in FIELDS.items():
        value = field.read(session)
        assert isinstance(value, types[field.kind]), name
        assert field.kind is not Kind.NAME or value in field.names
