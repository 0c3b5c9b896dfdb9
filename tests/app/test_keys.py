"""Keys of sessions: what the daemon does when a secret cannot be opened, and that no secret lies about in clear."""

import pytest
from msgspec import structs

from sessiond.app.keys import AGAIN_MS, Keys
from sessiond.core.decide.native import NewSession, new_session
from sessiond.core.draft import Draft
from sessiond.core.errors import FailedPrecondition
from sessiond.core.keys import Handshake, KeyMaterial, SessionSecret, derived, rotated
from sessiond.core.profiles import Profile
from sessiond.core.session import Session
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation
from sessiond.testing.clock import HandClock
from sessiond.testing.vault import GlassVault
from tests.core.builders import NOW_MS

INTERVAL_MS = 60_000
PROFILE = Profile(key_rotation_interval_ms=INTERVAL_MS)
AT = Situation(NOW_MS, Settings(profiles={"peer": PROFILE}), {})
LATER = structs.replace(AT, now_ms=NOW_MS + INTERVAL_MS)
HANDSHAKE = Handshake(
    initiator_node_id=b"a" * 32, responder_node_id=b"b" * 32, initiator_nonce=b"a" * 8, responder_nonce=b"b" * 8
)
KEY, AGREED = derived(HANDSHAKE)


class LostVault(GlassVault):
    """A vault whose keys are gone."""

    def open(self, place: str, sealed: str) -> bytes:
        """Open nothing."""
        raise FailedPrecondition("SEALED_VALUE_UNREADABLE", f"no key for {place}")


@pytest.fixture
def keys() -> Keys:
    """Return what makes keys."""
    return Keys(GlassVault(), HandClock())


def made(secret: SessionSecret | None) -> Session:
    """Return a session between two nodes."""
    return new_session(KEY, NewSession(type="peer", secret=secret), PROFILE, None, AT)


def test_what_is_kept_is_sealed(keys: Keys) -> None:
    """The secret is not in the session, and opens only for it."""
    kept = keys.agreed(KEY, AGREED, "peer", AT)
    assert (kept.version, kept.rotate_at_ms, kept.changed_at_ms) == (1, NOW_MS + INTERVAL_MS, NOW_MS)
    assert keys.opened(made(kept)) == AGREED
    assert keys.opened(made(None)) is None
    with pytest.raises(FailedPrecondition):
        keys.opened(structs.replace(made(kept), key="another"))


def test_a_key_changes_when_it_is_due(keys: Keys) -> None:
    """Not before, not when the session is over, and not when it has none; the change is one that its etag shows."""
    session = made(keys.agreed(KEY, AGREED, "peer", AT))
    for unchanged, at in ((session, AT), (made(None), LATER)):
        draft = Draft(unchanged)
        keys.rotate_when_due(draft, at)
        assert not draft.changed
    draft = Draft(session)
    keys.rotate_when_due(draft, LATER)
    assert keys.opened(draft.session()) == rotated(KEY, AGREED)
    assert draft.record.changes == 2
    assert draft.secret is not None
    assert draft.secret.rotate_at_ms == LATER.now_ms + INTERVAL_MS


def test_a_secret_that_cannot_be_opened_waits(keys: Keys) -> None:
    """The session goes on with the key it has, and it is tried again."""
    draft = Draft(made(keys.agreed(KEY, AGREED, "peer", AT)))
    Keys(LostVault(), HandClock()).rotate_when_due(draft, LATER)
    assert draft.secret is not None
    assert (draft.secret.version, draft.secret.rotate_at_ms) == (1, LATER.now_ms + AGAIN_MS)


def test_only_the_first_key_is_told_again(keys: Keys) -> None:
    """To who tells the same handshake; after the next one there is nothing to tell."""
    draft = Draft(made(keys.agreed(KEY, AGREED, "peer", AT)))
    assert keys.made_with(draft.session(), HANDSHAKE) == AGREED
    other = structs.replace(HANDSHAKE, responder_nonce=b"c" * 8)
    assert keys.made_with(draft.session(), other) is None
    keys.rotate(draft, b"n" * 32, "request", AT)
    assert keys.made_with(draft.session(), HANDSHAKE) is None
    expected = rotated(KEY, AGREED, b"n" * 32)
    assert keys.opened(draft.session()) == KeyMaterial(version=2, secret=expected.secret, nonce=b"n" * 32)
