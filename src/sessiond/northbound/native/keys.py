"""Keys of sessions between nodes: handshakes as values, and secrets as messages to who made them."""

from typing import Any

from sessiond.core.keys import Handshake, KeyMaterial, check_handshake, resumption_token
from sessiond.pb.sessiond.v1 import session_service_pb2


def handshake_of(request: Any) -> Handshake | None:
    """Return what two nodes have said to each other, if a request tells."""
    if not request.HasField("handshake"):
        return None
    said = request.handshake
    handshake = Handshake(**{name: getattr(said, name) for name in Handshake.__struct_fields__})
    check_handshake(handshake)
    return handshake


def secret_to_wire(material: KeyMaterial | None) -> session_service_pb2.SessionSecret | None:
    """Return the secret of a session; nobody keeps this message."""
    if material is None:
        return None
    return session_service_pb2.SessionSecret(
        key_version=material.version, secret=material.secret, resumption_token=resumption_token(material)
    )
