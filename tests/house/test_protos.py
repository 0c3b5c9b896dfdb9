"""The wire as our descriptors have it, against the wire as it was written down."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

import sessiond.pb

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FACTS = ROOT / "tests" / "data" / "wire"
ORIGINALS = ROOT.parent / "shared" / "wire"

# Which packages each file of facts describes, whole.
WIRES = {
    "gateway": {"magma.lte", "magma.orc8r", "aaa.protos", "io.prometheus.client"},
    "stream_api": {"ma.streaming.api.v1", "ma.streaming.open_data.v1"},
}
KINDS = ("services", "messages", "enums")


@cache
def files() -> list[FileDescriptorProto]:
    """Return what every generated module declares."""
    found = pkgutil.walk_packages(sessiond.pb.__path__, f"{sessiond.pb.__name__}.")
    modules = [importlib.import_module(module.name) for module in found if module.name.endswith("_pb2")]
    return [FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in modules]


def written(wire: str, kind: str) -> dict[str, Any]:
    """Return one kind of the facts by full name, without the name of the file they were found in."""
    facts: dict[str, dict[str, Any]] = json.loads((FACTS / f"{wire}.json").read_text(encoding="utf-8"))[kind]
    return {name: {key: value for key, value in fact.items() if key != "file"} for name, fact in facts.items()}


def declared(wire: str, kind: str) -> dict[str, Any]:
    """Return one kind of what our files declare, in the shape of the facts."""
    ours = [file for file in files() if file.package in WIRES[wire]]
    return {name: fact for file in ours for name, declared_kind, fact in facts_of_file(file) if declared_kind == kind}


def facts_of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the name, kind and facts of everything in a file."""
    for service in file.service:
        yield f"{file.package}.{service.name}", "services", facts_of_service(service)
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}", "enums", facts_of_enum(enum)
    for message in file.message_type:
        yield from facts_of_message(message, file.package)


def facts_of_message(message: DescriptorProto, scope: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the facts of a message and of what is declared inside it."""
    name = f"{scope}.{message.name}"
    maps = {f".{name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    yield name, "messages", {"fields": {field.name: facts_of_field(field, message, maps) for field in message.field}}
    for enum in message.enum_type:
        yield f"{name}.{enum.name}", "enums", facts_of_enum(enum)
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from facts_of_message(nested, name)


def facts_of_field(
    field: FieldDescriptorProto, message: DescriptorProto, maps: dict[str, DescriptorProto]
) -> dict[str, Any]:
    """Return the facts of one field; a map is a field whose type is an entry message."""
    facts: dict[str, Any] = {"number": field.number, "type": type_of(field)}
    if entry := maps.get(field.type_name):
        facts["type"] = f"map<{type_of(entry.field[0])}, {type_of(entry.field[1])}>"
    elif field.label == FieldDescriptorProto.LABEL_REPEATED:
        facts["repeated"] = True
    if field.proto3_optional:
        facts["optional"] = True
    elif field.HasField("oneof_index"):
        facts["oneof"] = message.oneof_decl[field.oneof_index].name
    return facts


def type_of(field: FieldDescriptorProto) -> str:
    """Return the full name of a message or enum type, or the keyword of a scalar."""
    named = field.type_name.removeprefix(".")
    return named or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def facts_of_enum(enum: EnumDescriptorProto) -> dict[str, Any]:
    """Return the values of an enum, aliases included."""
    return {"values": {value.name: value.number for value in enum.value}}


def facts_of_service(service: ServiceDescriptorProto) -> dict[str, Any]:
    """Return the methods of a service."""
    return {
        "methods": {
            method.name: {
                "request": method.input_type.removeprefix("."),
                "response": method.output_type.removeprefix("."),
                "client_streaming": method.client_streaming,
                "server_streaming": method.server_streaming,
            }
            for method in service.method
        }
    }


def symbols(file: FileDescriptorProto) -> Iterator[str]:
    """Name what a file puts into the scope of its package; the values of an enum stand beside the enum."""
    yield from (f"{file.package}.{message.name}" for message in file.message_type)
    yield from (f"{file.package}.{service.name}" for service in file.service)
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}"
        yield from (f"{file.package}.{value.name}" for value in enum.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wire", WIRES)
def test_what_the_facts_name_is_declared_and_nothing_else(wire: str, kind: str) -> None:
    """The packages of a wire hold exactly the services, messages or enums that the facts list."""
    assert sorted(declared(wire, kind)) == sorted(written(wire, kind))


@pytest.mark.parametrize(
    ("wire", "kind", "name"), [(wire, kind, name) for wire in WIRES for kind in KINDS for name in written(wire, kind)]
)
def test_a_declaration_is_the_same_on_the_wire(wire: str, kind: str, name: str) -> None:
    """Each field, method and value has the name, number, type and presence that the facts give it."""
    assert declared(wire, kind)[name] == written(wire, kind)[name]


@pytest.mark.parametrize("wire", WIRES)
def test_the_copied_facts_are_the_facts(wire: str) -> None:
    """The copy that comes with the project says what the original says, where there is one."""
    original = ORIGINALS / f"{wire}.json"
    if not original.exists():
        pytest.skip("the facts are copied into the project; the original is not at hand")
    assert json.loads((FACTS / original.name).read_text(encoding="utf-8")) == json.loads(
        original.read_text(encoding="utf-8")
    )


def test_every_file_is_proto3() -> None:
    """Scalar fields have no presence unless they say so, as the facts assume."""
    assert {file.syntax for file in files()} == {"proto3"}


def test_no_symbol_is_declared_twice() -> None:
    """All files can be loaded in one process, which two declarations of one symbol would prevent."""
    counted = Counter(symbol for file in files() for symbol in symbols(file))
    assert [symbol for symbol, count in counted.items() if count > 1] == []


def test_every_proto_file_is_generated() -> None:
    """No proto file is left out of the package that is shipped."""
    sources = {path.relative_to(ROOT / "proto").as_posix() for path in (ROOT / "proto").rglob("*.proto")}
    assert {file.name for file in files()} == sources


def test_the_generated_code_is_fresh() -> None:
    """Generating again changes no committed file."""
    command = [sys.executable, str(ROOT / "scripts" / "gen_proto"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
