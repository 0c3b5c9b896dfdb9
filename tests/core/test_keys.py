"""Keys: HKDF as in RFC 5869, and what two nodes derive with it, byte by byte."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sessiond.core.errors import InvalidArgument
from sessiond.core.keys import (
    Handshake,
    KeyMaterial,
    SessionSecret,
    check_peer,
    check_rotation_nonce,
    check_session_id,
    derived,
    first,
    hkdf,
    rotated,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "keys.md"
NODE_A, NODE_B = bytes(range(32)), bytes(range(32, 64))
NONCE_A, NONCE_B = b"\xa0" * 16, b"\xb0" * 24
HANDSHAKE = Handshake(
    initiator_node_id=NODE_A, responder_node_id=NODE_B, initiator_nonce=NONCE_A, responder_nonce=NONCE_B
)
SHARED = structs.replace(HANDSHAKE, shared_secret=b"\x5e" * 32)

_NODES = st.binary(min_size=32, max_size=32)
_NONCES = st.binary(min_size=8, max_size=64)


@pytest.mark.parametrize(
    ("salt", "material", "info", "octets", "expected"),
    [
        (
            bytes(range(13)),
            b"\x0b" * 22,
            bytes(range(0xF0, 0xFA)),
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x60, 0xB0)),
            bytes(range(0x50)),
            bytes(range(0xB0, 0x100)),
            82,
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
                "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (
            b"",
            b"\x0b" * 22,
            b"",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_as_in_rfc_5869(salt: bytes, material: bytes, info: bytes, octets: int, expected: str) -> None:
    """The test cases 1 to 3 of its appendix A."""
    assert hkdf(salt, material, info, octets).hex() == expected


VECTORS = {
    "id": "e04f8ddd130648a2",
    "secret": "14e2fd7d63d11dac3a28b2c968bfe7f0d1e6cb0bd523024a0237cd10de79cc29",
    "shared_id": "52cbe1550b52eb8a",
    "shared_secret": "5da0979fcd7a40250f97b11838c8caa8d6dfc73dc716dbcc8a1f50fcdfad5ad6",
    "rotated": "64885b63ace798d0299d1ed5c3b7612f25a08edd7ec4b6b5e5b6e20372c9d02a",
    "scheduled": "2da6d151fcbb19c922191a12d8179774b8c6fdc8cdceae996e8f3b5dc4836153",
}
"""docs/keys.md has the same."""


def test_vectors() -> None:
    """What is documented is what is derived."""
    (plain_id, plain), (shared_id, shared) = derived(HANDSHAKE), derived(SHARED)
    second = rotated(shared_id, shared, b"\x01" * 32)
    found = {
        "id": plain_id,
        "secret": plain.secret.hex(),
        "shared_id": shared_id,
        "shared_secret": shared.secret.hex(),
        "rotated": second.secret.hex(),
        "scheduled": rotated(shared_id, second).secret.hex(),
    }
    assert found == VECTORS
    documented = DOCUMENT.read_text(encoding="utf-8")
    assert [value for value in found.values() if value not in documented] == []


@given(_NODES, _NODES, _NONCES, _NONCES, st.sampled_from([b"", b"\x01" * 32, b"\x02" * 64]))
def test_both_sides_come_to_the_same(one: bytes, other: bytes, first: bytes, second: bytes, shared: bytes) -> None:
    """Whoever is called the initiator, id and secret are the same; other nonces give others."""
    if one == other:
        return
    begun = Handshake(
        initiator_node_id=one,
        responder_node_id=other,
        initiator_nonce=first,
        responder_nonce=second,
        shared_secret=shared,
    )
    seen_from_there = Handshake(
        initiator_node_id=other,
        responder_node_id=one,
        initiator_nonce=second,
        responder_nonce=first,
        shared_secret=shared,
    )
    assert derived(begun) == derived(seen_from_there)
    again = structs.replace(begun, initiator_nonce=first[:-1] + bytes([first[-1] ^ 1]))
    assert derived(again) != derived(begun)


@given(st.lists(st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)), min_size=1, max_size=6))
def test_both_sides_stay_in_step(nonces: list[bytes]) -> None:
    """The same nonces lead both sides through the same secrets, no two of which are equal."""
    key, first = derived(SHARED)
    mine = theirs = first
    secrets = {first.secret}
    for nonce in nonces:
        mine, theirs = rotated(key, mine, nonce), rotated(key, theirs, nonce)
        assert mine == theirs
        secrets.add(mine.secret)
    assert (len(secrets), mine.version) == (len(nonces) + 1, len(nonces) + 1)


def test_nonces_cannot_be_cut_elsewhere() -> None:
    """The same octets, parted otherwise, are another handshake."""
    one = structs.replace(HANDSHAKE, initiator_nonce=b"a" * 8, responder_nonce=b"a" * 9)
    other = structs.replace(HANDSHAKE, initiator_nonce=b"a" * 9, responder_nonce=b"a" * 8)
    assert derived(one) != derived(other)


def test_a_secret_is_not_shown() -> None:
    """Neither a key nor a handshake tells it when it is printed."""
    _, material = derived(SHARED)
    for value in (material, SHARED, [material], {"a": SHARED}):
        assert not any(text in repr(value) for text in ("\\x5e", "^^", repr(material.secret)))
    assert repr(material) == "KeyMaterial(version=1, ***)"
    assert repr(KeyMaterial(version=2, secret=b"x")) == "KeyMaterial(version=2, ***)"
    assert repr(SessionSecret(version=3, sealed="x")) == "SessionSecret(version=3, ***)"


def test_a_key_without_a_handshake() -> None:
    """It depends on what the service makes up, and on the nonce."""
    made = {first(material, nonce).secret for material in (b"a" * 32, b"b" * 32) for nonce in (b"", b"n" * 32)}
    assert len(made) == 4
    assert first(b"a" * 32, b"n" * 32) == KeyMaterial(
        version=1, secret=first(b"a" * 32, b"n" * 32).secret, nonce=b"n" * 32
    )


def test_the_other_node_is_one_of_the_two() -> None:
    """Who is said to be the peer must have shaken hands, if anybody has."""
    check_peer(b"", None)
    check_peer(NODE_B, HANDSHAKE)
    check_peer(b"x" * 32, None)
    refused(lambda: check_peer(b"x" * 32, HANDSHAKE), "session.peer.node_id")
    refused(lambda: check_peer(b"x", None), "session.peer.node_id")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"initiator_node_id": b"short"}, "handshake.initiator_node_id"),
        ({"responder_node_id": b"x" * 33}, "handshake.responder_node_id"),
        ({"responder_node_id": NODE_A}, "handshake.responder_node_id"),
        ({"initiator_nonce": b"1234567"}, "handshake.initiator_nonce"),
        ({"responder_nonce": b"x" * 65}, "handshake.responder_nonce"),
        ({"shared_secret": b"x" * 31}, "handshake.shared_secret"),
        ({"shared_secret": b"x" * 1025}, "handshake.shared_secret"),
    ],
)
def test_what_is_no_handshake(fields: dict[str, bytes], field: str) -> None:
    """It is refused by the path of its field."""
    refused(lambda: derived(structs.replace(HANDSHAKE, **fields)), field)


@pytest.mark.parametrize("nonce", [b"", b"x" * 31, b"x" * 33])
def test_what_is_no_nonce_for_a_rotation(nonce: bytes) -> None:
    """It has 32 bytes."""
    check_rotation_nonce(b"x" * 32)
    refused(lambda: check_rotation_nonce(nonce), "nonce")


@pytest.mark.parametrize("key", ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdeg"])
def test_what_is_no_session_id(key: str) -> None:
    """It has 16 hex digits in lower case."""
    check_session_id("0123456789abcdef", "session.key")
    refused(lambda: check_session_id(key, "session.key"), "session.key")


def refused(call: Callable[[], object], field: str) -> None:
    """Hold a call to its refusal."""
    with pytest.raises(InvalidArgument) as caught:
        call()
    assert (caught.value.reason, caught.value.field) == ("INVALID_CONFIGURATION", field)
