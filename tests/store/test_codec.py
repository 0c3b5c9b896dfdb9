"""Codec: what is stored is what is read back, in every format that was ever written."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from sessiond.core.errors import FailedPrecondition
from sessiond.core.session import Session
from sessiond.core.update import SINGLE_PARTS, UpdateCriteria, apply
from sessiond.store import codec
from sessiond.store.codec import Fields, decode, decode_note, encode, is_older, patch
from sessiond.testing.store_contract import session
from tests.core.strategies import SESSIONS, criteria, gateway_sessions
from tests.store.formats import FIXTURES, SCHEMA_HELP, schema

GATEWAY_SESSIONS = gateway_sessions()


@given(SESSIONS)
def test_what_is_encoded_is_decoded(one: Session) -> None:
    """A session that went through the hash is the same session."""
    assert decode(encode(one)) == one


@given(GATEWAY_SESSIONS, criteria())
def test_the_fields_of_a_change_lead_to_the_changed_session(before: Session, change: UpdateCriteria) -> None:
    """Writing only the fields that a change touches gives the session that the core makes of the change."""
    after = apply(before, change)
    assert decode(patched(encode(before), patch(after, change.parts))) == after


@given(GATEWAY_SESSIONS, criteria())
def test_a_change_writes_only_what_it_touches(before: Session, change: UpdateCriteria) -> None:
    """A change of one credit does not write the session."""
    written = patch(apply(before, change), change.parts)
    assert len(written.put) + len(written.drop) == len(change.parts)


@given(SESSIONS)
def test_a_person_can_read_the_fields(one: Session) -> None:
    """Each part is one JSON text, named for what it is; who it is stands in plain text."""
    for field, text in encode(one).items():
        name, colon, _ = field.decode().partition(":")
        if colon or name in SINGLE_PARTS:
            json.loads(text)
        else:
            assert text.decode() in {one.key, one.type, one.scope, str(codec.FORMAT)}


def test_effects_come_in_the_order_in_which_they_were_made() -> None:
    """The order of effects survives, also past the number of digits that they begin with."""
    numbers = ["000009", "000010", "999999", "1000000"]
    fields = encode(session())
    effect = b'{"type":"DeleteBearer","not_before_ms":0,"bearer_ids":[5]}'
    for number in reversed(numbers):
        fields[f"effect:{number}".encode()] = effect
    assert list(decode(fields).effects) == numbers


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.stem)
def test_every_format_that_was_released_is_read(fixture: Path) -> None:
    """The fields of a fixture, which some version has written, are the session beside them."""
    recorded = json.loads(fixture.read_text(encoding="utf-8"))
    fields = {name.encode(): text.encode() for name, text in recorded["fields"].items()}
    assert decode(fields) == msgspec.convert(recorded["session"], Session)
    assert is_older(fields) == (int(recorded["fields"]["format"]) < codec.FORMAT)


def test_the_present_format_has_a_fixture() -> None:
    """What is written today is held by a fixture too."""
    numbers = {json.loads(fixture.read_text(encoding="utf-8"))["fields"]["format"] for fixture in FIXTURES}
    assert numbers == {str(number) for number in range(1, codec.FORMAT + 1)}


def test_a_changed_part_has_a_new_format() -> None:
    """A part that changes its form must not be written under the same number."""
    recorded = json.loads((Path(__file__).parents[1] / "data" / "store" / "schema.json").read_text(encoding="utf-8"))
    assert recorded == {"format": codec.FORMAT, "parts": schema()}, SCHEMA_HELP


def test_an_older_format_is_brought_up_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields of format 1 pass through every later format."""
    fields = encode(session())

    def renamed(before: Fields) -> Fields:
        return {name.replace(b"monitor:", b"meter:"): text for name, text in before.items()}

    def named_back(before: Fields) -> Fields:
        return {name.replace(b"meter:", b"monitor:"): text for name, text in before.items()}

    monkeypatch.setattr(codec, "FORMAT", 3)
    monkeypatch.setattr(codec, "UPGRADES", {1: renamed, 2: named_back})
    assert decode(fields) == session()
    assert is_older(fields)
    assert not is_older(encode(session()))


def test_a_newer_format_is_refused() -> None:
    """A session of a later version is not read by half, and not dropped: it is named."""
    with pytest.raises(FailedPrecondition, match=f"session {session().key} is stored in format 2") as refusal:
        decode({**encode(session()), b"format": b"2"})
    assert refusal.value.reason == "STORED_FORMAT_NEWER"


@pytest.mark.parametrize(
    "spoiled",
    [
        {b"format": b"one"},
        {b"head": b"{"},
        {b"head": b'{"state":"ASLEEP","created_at_ms":1}'},
        {b"monitor:m": b'{"used_tx":"much"}'},
        {b"meter:m": b"{}"},
        {b"colour": b"blue"},
        {b"type": b"\xff"},
        {b"\xff": b""},
    ],
)
def test_fields_that_make_no_sense_are_refused(spoiled: Fields) -> None:
    """What cannot be read is named, with its session, instead of being left out."""
    with pytest.raises(FailedPrecondition, match=session().key) as refusal:
        decode({**encode(session()), **spoiled})
    assert refusal.value.reason == "STORED_SESSION_UNREADABLE"


@pytest.mark.parametrize("missing", [b"format", b"type", b"head"])
def test_missing_fields_are_refused(missing: bytes) -> None:
    """Half a session is none."""
    fields = encode(session())
    del fields[missing]
    with pytest.raises(FailedPrecondition):
        decode(fields)


def patched(fields: Fields, change: Any) -> Fields:
    """Return the fields after the commands of a change."""
    left = {name: text for name, text in fields.items() if name not in change.drop}
    return {**left, **change.put}


def test_a_change_that_cannot_be_read_is_refused() -> None:
    """What is told with a change is JSON of ours, or nobody is told anything."""
    with pytest.raises(FailedPrecondition) as refused:
        decode_note(b"{")
    assert refused.value.reason == "STORED_CHANGE_UNREADABLE"
