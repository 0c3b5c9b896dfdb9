"""Keys of sessions: made from a handshake, or made up; changed on request and when their time has come; never in clear.

A session holds its secret sealed. It is opened to make the next one from it, and to answer the call that made it.
"""

from typing import Final

import structlog

from sessiond.app.ports.clock import Clock
from sessiond.app.ports.vault import Vault
from sessiond.core import keys
from sessiond.core.decide.native import OVER
from sessiond.core.decide.requests import note_change
from sessiond.core.draft import Draft
from sessiond.core.errors import FailedPrecondition, PermissionDenied, SessionError
from sessiond.core.keys import ROTATION_NONCE_OCTETS, SECRET_OCTETS, Handshake, KeyMaterial, SessionSecret
from sessiond.core.secrecy import place_of_secret
from sessiond.core.session import Session
from sessiond.core.situation import Situation

AGAIN_MS: Final = 60_000
"""How long after a change of a key that failed it is tried again."""

log = structlog.get_logger(__name__)


class Keys:
    """Makes the keys of sessions, and changes them."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock

    def agreed(self, key: str, material: KeyMaterial, session_type: str, at: Situation) -> SessionSecret:
        """Return what is kept of the key that two nodes have agreed on."""
        return self._kept(key, material, session_type, at)

    def opened(self, session: Session) -> KeyMaterial | None:
        """Return the key of a session in clear, if it has one."""
        kept = session.secret
        if kept is None:
            return None
        secret = self._vault.open(place_of_secret(session.key), kept.sealed)
        return KeyMaterial(version=kept.version, secret=secret, nonce=kept.nonce)

    def made_with(self, session: Session, handshake: Handshake) -> KeyMaterial | None:
        """Return the first key of a session if it still has it, and has it from this very handshake."""
        if session.secret is None or session.secret.version != 1:
            return None
        _, agreed = keys.derived(handshake)
        return agreed if agreed == self.opened(session) else None

    def check_token(self, session: Session, token: bytes, at: Situation) -> None:
        """Raise PermissionDenied for what is no resumption token of a session, FailedPrecondition for one too old."""
        material = self.opened(session)
        if session.secret is None or material is None or not keys.is_token(material, token):
            raise PermissionDenied("RESUMPTION_TOKEN_INVALID", "that is not the resumption token of this session")
        age_ms = at.settings.profile(session.type).resumption_age_ms
        if age_ms and at.now_ms >= session.secret.changed_at_ms + age_ms:
            raise FailedPrecondition("RESUMPTION_EXPIRED", "the key is too old to resume with: shake hands again")

    def rotate(self, draft: Draft, nonce: bytes, made_by: str, at: Situation) -> None:
        """Give a session its next key; without a nonce one is made up."""
        nonce = nonce or self._octets(ROTATION_NONCE_OCTETS)
        now = self.opened(draft.session())
        material = keys.rotated(draft.key, now, nonce) if now else keys.first(self._octets(SECRET_OCTETS), nonce)
        draft.put("secret", "", self._kept(draft.key, material, draft.type, at, made_by))

    def rotate_when_due(self, draft: Draft, at: Situation) -> None:
        """Give a session its next key if it is time; both nodes make this one by themselves."""
        kept = draft.secret
        if kept is None or not 0 < kept.rotate_at_ms <= at.now_ms or draft.head.state in OVER:
            return
        try:
            now = self.opened(draft.session())
            if now is not None:
                draft.put("secret", "", self._kept(draft.key, keys.rotated(draft.key, now), draft.type, at))
                note_change(draft, at.now_ms)
        except SessionError as error:
            log.error("key_not_rotated", session=draft.key, reason=error.reason, text=error.text)
            draft.set("secret", rotate_at_ms=at.now_ms + AGAIN_MS)

    def _kept(
        self, key: str, material: KeyMaterial, session_type: str, at: Situation, made_by: str = ""
    ) -> SessionSecret:
        """Return what is kept of a key."""
        interval_ms = at.settings.profile(session_type).key_rotation_interval_ms
        return SessionSecret(
            version=material.version,
            sealed=self._vault.seal(place_of_secret(key), material.secret),
            nonce=material.nonce,
            made_by=made_by,
            changed_at_ms=at.now_ms,
            rotate_at_ms=at.now_ms + interval_ms if interval_ms else 0,
        )

    def _octets(self, count: int) -> bytes:
        return self._clock.number(2 ** (8 * count)).to_bytes(count, "big")
