"""Native sessions for the tests of the core: at one moment, with a profile of one's own."""

from collections.abc import Callable
from typing import Any

from msgspec import structs

from sessiond.core.decide.native import NewSession, new_session
from sessiond.core.decide.requests import Request
from sessiond.core.draft import Draft
from sessiond.core.profiles import BUILT_IN, Profile
from sessiond.core.session import Session
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation
from sessiond.core.update import apply
from tests.core.builders import NOW_MS

KEY = "6f1c0f0e-0000-4000-8000-000000000001"
USSD = BUILT_IN["ussd"]


def profile(**fields: Any) -> Profile:
    """Return the profile of ussd sessions with some fields changed."""
    return structs.replace(USSD, **fields)


def at(now_ms: int = NOW_MS, **fields: Any) -> Situation:
    """Return a moment, with the profile of ussd sessions changed."""
    return Situation(now_ms, Settings(profiles={**BUILT_IN, "ussd": profile(**fields)}), {})


def native(key: str = KEY, request: Request | None = None, kind: Profile | None = None, **wanted: Any) -> Session:
    """Return a new ussd session."""
    return new_session(key, NewSession(**{"type": "ussd", **wanted}), kind or USSD, request, at())


def after(session: Session, *acts: Callable[[Draft], None]) -> Session:
    """Return a session after some decisions; what is written leads to what is decided."""
    for act in acts:
        draft = Draft(session)
        act(draft)
        assert apply(session, draft.criteria()) == draft.session()
        session = draft.session()
    return session
