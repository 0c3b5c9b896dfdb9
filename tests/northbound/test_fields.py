"""What filters compare is what clients see: the fields of the core and those of the message are one."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import structs

from sessiond.core.fields import FIELDS, Field, Kind
from sessiond.core.rules import Rule, Teids
from sessiond.core.session import Session
from sessiond.northbound.native.session_messages import session_to_wire
from sessiond.pb.sessiond.v1 import session_pb2
from tests.core.builders import lte_context, wlan_context
from tests.core.test_filters import ATTACHED, PEER, RECORDING

NOT_COMPARED = {
    "ttl": "input only",
    "etag": "says nothing but that it is another one",
}


def leaves(message: Descriptor, prefix: str = "") -> Iterator[str]:
    """Yield the paths of all fields of a message; lists, maps and messages of others are leaves."""
    for field in message.fields:
        inner = field.message_type
        path = f"{prefix}{field.name}"
        if inner is not None and inner.file.package == "sessiond.v1" and not field.is_repeated:
            yield from leaves(inner, f"{path}.")
        else:
            yield path


def test_fields_have_the_names_of_the_message() -> None:
    """What clients see can be compared, and nothing else."""
    shown = set(leaves(session_pb2.Session.DESCRIPTOR))
    parts = {path.rpartition(".")[0] for path in shown} - {""}
    assert FIELDS.keys() - shown - parts == set()
    assert shown - FIELDS.keys() == NOT_COMPARED.keys()


def shown(session: session_pb2.Session, path: str, field: Field) -> Any:
    """Return the value of a field of a message, as the core has it."""
    *parts, name = path.split(".")
    message: Any = session
    for part in parts:
        message = getattr(message, part)
    value = getattr(message, name)
    descriptor: FieldDescriptor = message.DESCRIPTOR.fields_by_name[name]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Timestamp):
        return value.ToMilliseconds()
    if isinstance(value, Duration):
        return value.ToNanoseconds() // 1_000_000 if message.HasField(name) else None
    if field.kind is Kind.NAME and descriptor.enum_type is not None:
        return value_name(descriptor, value)
    return tuple(value) if field.kind is Kind.LIST else value


def value_name(descriptor: FieldDescriptor, number: int) -> str:
    """Return the name of a value of an enum, without its prefix."""
    names = descriptor.enum_type
    assert names is not None
    prefix = names.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return names.values_by_number[number].name.removeprefix(prefix)


CONTEXTS = (lte_context(teids=Teids(4097, 8193)), wlan_context(ue_ipv6="2001:db8::1"))
RULES = {"a": Rule(moved_tx=5, moved_rx=7), "b": Rule(moved_tx=11)}


@pytest.mark.parametrize(
    "session", [RECORDING, PEER, *(structs.replace(ATTACHED, context=context, rules=RULES) for context in CONTEXTS)]
)
def test_fields_have_the_values_of_the_message(session: Session) -> None:
    """Whatever a session is, what is compared is what is shown."""
    message = session_to_wire(session)
    for path, field in FIELDS.items():
        if field.kind not in {Kind.MAP, Kind.PART}:
            assert field.read(session) == shown(message, path, field), path


def test_names_are_those_of_the_message() -> None:
    """A filter knows every state, reason and origin that a message can have, and no other."""
    for path, field in FIELDS.items():
        if field.kind is Kind.NAME:
            descriptor = session_pb2.Session.DESCRIPTOR.fields_by_name[path]
            assert descriptor.enum_type is not None
            known = {value_name(descriptor, value.number) for value in descriptor.enum_type.values}
            assert set(field.names) - {"UNSPECIFIED"} == known - {"UNSPECIFIED"}
