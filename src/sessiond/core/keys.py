"""Keys of sessions between nodes: derived from what both nodes have said (HKDF, RFC 5869), changed by both alike.

Each side sorts what it knows by node id, so that both come to the same result whoever began. A secret leads to the next
one and never back: who learns one learns nothing of those before it. docs/keys.md says it byte by byte, with vectors.
"""

import hmac
import re
from hashlib import sha256
from typing import Final

from msgspec import Struct

from sessiond.core.errors import InvalidArgument

NODE_ID_OCTETS: Final = 32
SECRET_OCTETS: Final = 32
SESSION_ID_OCTETS: Final = 8
NONCE_OCTETS: Final = (8, 64)
"""The shortest and the longest nonce of a handshake."""
ROTATION_NONCE_OCTETS: Final = 32
SHORTEST_SHARED_SECRET: Final = 32
LONGEST_SHARED_SECRET: Final = 1024

_CONTEXT: Final = b"sessiond/1 "
_SESSION_ID: Final = re.compile(r"[0-9a-f]{16}")


class Handshake(Struct, frozen=True, gc=False, kw_only=True):
    """What two nodes have said to each other."""

    initiator_node_id: bytes
    responder_node_id: bytes
    initiator_nonce: bytes
    responder_nonce: bytes
    shared_secret: bytes = b""
    """What both know and nobody else; without it, what is derived is only as secret as the nonces."""

    def __repr__(self) -> str:
        return "Handshake(***)"


class SessionSecret(Struct, frozen=True, gc=False, kw_only=True):
    """What is kept of the key of a session: its secret, sealed, and when it changes (unix ms; 0: on request only)."""

    version: int
    sealed: str
    nonce: bytes = b""
    """What this version was made with; empty for the first, and for one that was made because its time had come."""
    made_by: str = ""
    """The request that made this version, if it has an id."""
    changed_at_ms: int = 0
    rotate_at_ms: int = 0

    def __repr__(self) -> str:
        return f"SessionSecret(version={self.version}, ***)"


class KeyMaterial(Struct, frozen=True, kw_only=True):
    """The secret of a session in one version, in clear: never stored, never logged, shown to who made it."""

    version: int
    secret: bytes
    nonce: bytes = b""

    def __repr__(self) -> str:
        return f"KeyMaterial(version={self.version}, ***)"


def hkdf(salt: bytes, material: bytes, info: bytes, octets: int) -> bytes:
    """Return so many octets of key material: HKDF with SHA-256 (RFC 5869 clauses 2.2 and 2.3)."""
    key = hmac.digest(salt or bytes(sha256().digest_size), material, "sha256")
    block, output = b"", b""
    for number in range(1, -(-octets // sha256().digest_size) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        output += block
    return output[:octets]


def derived(handshake: Handshake) -> tuple[str, KeyMaterial]:
    """Return the session id and the first key that two nodes come to, whichever of them is called the initiator."""
    check_handshake(handshake)
    first, second = sorted((
        (handshake.initiator_node_id, handshake.initiator_nonce),
        (handshake.responder_node_id, handshake.responder_nonce),
    ))  # fmt: skip
    nonces = b"".join(bytes([len(nonce)]) + nonce for _, nonce in (first, second))
    nodes = first[0] + second[0]
    material = handshake.shared_secret or nonces
    session_id = hkdf(nonces, material, _CONTEXT + b"session-id" + nodes, SESSION_ID_OCTETS)
    secret = hkdf(nonces, material, _CONTEXT + b"secret" + nodes, SECRET_OCTETS)
    return session_id.hex(), KeyMaterial(version=1, secret=secret)


def first(material: bytes, nonce: bytes) -> KeyMaterial:
    """Return the first key of a session whose nodes have not shaken hands: its service makes it up."""
    return KeyMaterial(version=1, secret=hkdf(nonce, material, _CONTEXT + b"first", SECRET_OCTETS), nonce=nonce)


def rotated(key: str, now: KeyMaterial, nonce: bytes = b"") -> KeyMaterial:
    """Return the next key of a session; without a nonce, the one that both nodes can make by themselves."""
    version = now.version + 1
    info = _CONTEXT + b"rotation" + version.to_bytes(4, "big") + key.encode()
    return KeyMaterial(version=version, secret=hkdf(nonce, now.secret, info, SECRET_OCTETS), nonce=nonce)


def resumption_token(material: KeyMaterial) -> bytes:
    """Return what proves that a node has this key, without showing it; both nodes make it by themselves."""
    return hkdf(b"", material.secret, _CONTEXT + b"resumption", SECRET_OCTETS)


def is_token(material: KeyMaterial, token: bytes) -> bool:
    """Whether this is the resumption token of a key; how long that takes tells nothing."""
    return hmac.compare_digest(resumption_token(material), token)


def check_handshake(handshake: Handshake) -> None:
    """Refuse a handshake that cannot be one, by field path."""
    for name in ("initiator_node_id", "responder_node_id"):
        check_node_id(getattr(handshake, name), f"handshake.{name}")
    if handshake.initiator_node_id == handshake.responder_node_id:
        raise _refused("both nodes are the same", "handshake.responder_node_id")
    shortest, longest = NONCE_OCTETS
    for name in ("initiator_nonce", "responder_nonce"):
        if not shortest <= len(getattr(handshake, name)) <= longest:
            raise _refused(f"a nonce has {shortest} to {longest} bytes", f"handshake.{name}")
    shared = len(handshake.shared_secret)
    if shared and not SHORTEST_SHARED_SECRET <= shared <= LONGEST_SHARED_SECRET:
        text = f"a shared secret has {SHORTEST_SHARED_SECRET} to {LONGEST_SHARED_SECRET} bytes"
        raise _refused(text, "handshake.shared_secret")


def check_peer(node_id: bytes, handshake: Handshake | None) -> None:
    """Refuse the id of the other node if it is none, or is not one of those that have shaken hands."""
    if node_id:
        check_node_id(node_id, "session.peer.node_id")
    if node_id and handshake and node_id not in {handshake.initiator_node_id, handshake.responder_node_id}:
        raise _refused("the handshake was with other nodes", "session.peer.node_id")


def check_node_id(node_id: bytes, field: str) -> None:
    """Refuse a node id that has not 32 bytes."""
    if len(node_id) != NODE_ID_OCTETS:
        raise _refused(f"a node id has {NODE_ID_OCTETS} bytes, not {len(node_id)}", field)


def check_rotation_nonce(nonce: bytes) -> None:
    """Refuse a nonce for a rotation that has not 32 bytes."""
    if len(nonce) != ROTATION_NONCE_OCTETS:
        raise _refused(f"a nonce has {ROTATION_NONCE_OCTETS} bytes, not {len(nonce)}", "nonce")


def check_session_id(key: str, field: str) -> None:
    """Refuse the key of a session between nodes that is not 8 bytes, written as 16 hex digits."""
    if not _SESSION_ID.fullmatch(key):
        raise _refused("the key of a session between nodes is 8 bytes: 16 hex digits in lower case", field)


def _refused(text: str, field: str) -> InvalidArgument:
    return InvalidArgument("INVALID_CONFIGURATION", text, field=field)
