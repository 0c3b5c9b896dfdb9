"""Our own API, held to what `buf lint` would say (STANDARD and COMMENTS), without needing buf."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2, session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTO = Path(__file__).resolve().parents[2] / "proto"
OURS = ("sessiond/v1", "sessiond/peers/v1")
NAMES = sorted(path.relative_to(PROTO).as_posix() for folder in OURS for path in (PROTO / folder).glob("*.proto"))

# The numbers by which a path through a file goes from a declaration to what is in it; see descriptor.proto.
MESSAGES, ENUMS, SERVICES = (
    FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER,
    FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER,
    FileDescriptorProto.SERVICE_FIELD_NUMBER,
)
NESTED, FIELDS, ONEOFS, NESTED_ENUMS = (
    DescriptorProto.NESTED_TYPE_FIELD_NUMBER,
    DescriptorProto.FIELD_FIELD_NUMBER,
    DescriptorProto.ONEOF_DECL_FIELD_NUMBER,
    DescriptorProto.ENUM_TYPE_FIELD_NUMBER,
)
VALUES, METHODS = EnumDescriptorProto.VALUE_FIELD_NUMBER, ServiceDescriptorProto.METHOD_FIELD_NUMBER

Steps = tuple[int, ...]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    """Compile our own files with their comments."""
    output = tmp_path_factory.mktemp("native") / "descriptors"
    command = [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", f"--proto_path={PROTO}"]
    command += ["--include_source_info", f"--descriptor_set_out={output}", *NAMES]
    subprocess.run(command, check=True, capture_output=True)
    return list(FileDescriptorSet.FromString(output.read_bytes()).file)


def declarations(file: FileDescriptorProto) -> Iterator[tuple[Steps, str]]:
    """Yield the path and the name of everything that must say what it is."""
    for number, message in enumerate(file.message_type):
        yield from in_message(message, (MESSAGES, number))
    for number, enum in enumerate(file.enum_type):
        yield from in_enum(enum, (ENUMS, number))
    for number, service in enumerate(file.service):
        yield (SERVICES, number), service.name
        for inner, method in enumerate(service.method):
            yield (SERVICES, number, METHODS, inner), f"{service.name}.{method.name}"


def in_message(message: DescriptorProto, path: Steps) -> Iterator[tuple[Steps, str]]:
    """Yield a message and what is in it; entries of maps and the oneofs of `optional` are nobody's declaration."""
    yield path, message.name
    optional = {field.oneof_index for field in message.field if field.proto3_optional}
    for number, field in enumerate(message.field):
        yield (*path, FIELDS, number), f"{message.name}.{field.name}"
    for number, oneof in enumerate(message.oneof_decl):
        if number not in optional:
            yield (*path, ONEOFS, number), f"{message.name}.{oneof.name}"
    for number, enum in enumerate(message.enum_type):
        yield from in_enum(enum, (*path, NESTED_ENUMS, number))
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from in_message(nested, (*path, NESTED, number))


def in_enum(enum: EnumDescriptorProto, path: Steps) -> Iterator[tuple[Steps, str]]:
    """Yield an enum and its values."""
    yield path, enum.name
    for number, value in enumerate(enum.value):
        yield (*path, VALUES, number), f"{enum.name}.{value.name}"


def test_everything_says_what_it_is(sources: list[FileDescriptorProto]) -> None:
    """Every message, field, oneof, enum, value, service and method has a comment above it."""
    silent = []
    for file in sources:
        said = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
        silent += [name for path, name in declarations(file) if path not in said]
    assert silent == []


def test_enum_values_carry_the_name_of_their_enum(sources: list[FileDescriptorProto]) -> None:
    """A value begins with the name of its enum, and 0 is UNSPECIFIED."""
    for file in sources:
        for enum in file.enum_type:
            prefix = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", enum.name).upper()
            assert enum.value[0].name == f"{prefix}_UNSPECIFIED"
            assert all(value.name.startswith(f"{prefix}_") for value in enum.value)


def test_methods_have_messages_of_their_own(sources: list[FileDescriptorProto]) -> None:
    """A method takes `<Method>Request` and gives `<Method>Response`, so that each can grow by itself."""
    methods = [(file, method) for file in sources for service in file.service for method in service.method]
    for file, method in methods:
        assert method.input_type == f".{file.package}.{method.name}Request"
        assert method.output_type == f".{file.package}.{method.name}Response"


def test_the_methods_are_those_of_the_design() -> None:
    """Both services have the methods that the architecture lists."""
    sessions = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]
    admin = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
    assert [method.name for method in sessions.methods] == [
        *("CreateSession", "GetSession", "ListSessions", "UpdateSession", "EndSession", "DeleteSession"),
        *("ActivateSession", "PauseSession", "ResumeSession", "TouchSession", "AssociateSession"),
        *("AuthorizeExecution", "RecordTraffic", "RotateSessionKey"),
        *("GetSessionStatistics", "GetStatistics", "WatchSessions"),
    ]
    assert [method.name for method in admin.methods] == [
        *("GetStatus", "SetLogLevel", "ReloadConfig", "DrainSessions", "GetSessionPolicy"),
    ]


def test_the_states_are_those_of_requirement_l1() -> None:
    """The states of a session are the eight of the one lifecycle."""
    names = [name.removeprefix("SESSION_STATE_") for name in session_pb2.SessionState.keys()]  # noqa: SIM118  no mapping
    states = ["REQUESTED", "CREATING", "CREATED", "ACTIVATING", "ACTIVE", "PAUSED", "CLOSING", "CLOSED"]
    assert names == ["UNSPECIFIED", *states]


def test_every_change_can_be_repeated_safely() -> None:
    """Each request that changes a session has a request id (AIP-155)."""
    reads = {"GetSession", "ListSessions", "GetSessionStatistics", "GetStatistics", "WatchSessions"}
    methods = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].methods
    changes = [method for method in methods if method.name not in reads]
    assert [change.name for change in changes if "request_id" not in change.input_type.fields_by_name] == []
