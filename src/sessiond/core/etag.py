"""Etags: a short text that changes whenever what its owner sees of a session does (AIP-154)."""

from hashlib import blake2b

import msgspec

from sessiond.core.session import Session


def etag_of(session: Session) -> str:
    """Return the etag of a session: of a native one its count of changes, of any other a digest of what is said of it.

    Neither mere use of a native session nor the usage of a gateway session changes it.
    """
    if session.record is not None:
        return f"{session.head.created_at_ms:x}-{session.record.changes:x}"
    seen = (session.head, session.context, session.identity, session.stream, session.details, session.associates)
    return blake2b(msgspec.json.encode(seen), digest_size=8).hexdigest()
