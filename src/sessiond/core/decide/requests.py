"""Requests: which changes of a session were asked for, so that one that is sent again is not carried out again."""

from typing import Final

from msgspec import Struct

from sessiond.core.draft import Draft
from sessiond.core.errors import Aborted, InvalidArgument
from sessiond.core.etag import etag_of
from sessiond.core.session import Remembered
from sessiond.core.update import Change

REMEMBERED_MS: Final = 600_000
"""How long a request is remembered (AIP-155)."""
MOST_REMEMBERED: Final = 1000
"""Of each session; beyond that the oldest goes."""


class Request(Struct, frozen=True):
    """A request by the id that its sender gave it, and a digest of all that it says."""

    id: str
    digest: str


class Terms(Struct, frozen=True):
    """What a change depends on: the etag that the session must have ("": any), and whether it was made before."""

    etag: str = ""
    request: Request | None = None


ANY: Final = Terms()


def carried_out(known: Remembered | None, request: Request) -> bool:
    """Whether a request was carried out before; the same id on another request is refused."""
    if known is not None and known.digest != request.digest:
        text = f"request id {request.id} was given to a request of other content"
        raise InvalidArgument("REQUEST_ID_REUSED", text, field="request_id")
    return known is not None


def check_etag(draft: Draft, terms: Terms) -> None:
    """Raise Aborted if a change was decided on another version of the session (AIP-154)."""
    if terms.etag and terms.etag != etag_of(draft.session()):
        raise Aborted("ETAG_MISMATCH", f"session {draft.key} was changed by others: read it again")


def settle(draft: Draft, request: Request | None, now_ms: int) -> None:
    """Note that a session was changed, if it was, and remember the request that wanted it."""
    if draft.changed and draft.is_native:
        used_at_ms = max(now_ms, draft.record.used_at_ms)
        draft.change("record", "", Change(add={"changes": 1}, set={"updated_at_ms": now_ms, "used_at_ms": used_at_ms}))
    if request:
        remember(draft, request, now_ms)


def note_change(draft: Draft, now_ms: int) -> None:
    """Note that a session was changed by nobody who uses it: by time, or by an operator."""
    draft.change("record", "", Change(add={"changes": 1}, set={"updated_at_ms": now_ms}))


def remember(draft: Draft, request: Request, now_ms: int) -> None:
    """Remember a request with the session, and forget those whose time is over."""
    known = draft.requests
    too_many = len(known) + 1 - MOST_REMEMBERED
    if too_many > 0 or any(old.at_ms + REMEMBERED_MS <= now_ms for old in known.values()):
        by_age = sorted(known, key=lambda request_id: known[request_id].at_ms)
        for number, request_id in enumerate(by_age):
            if number < too_many or known[request_id].at_ms + REMEMBERED_MS <= now_ms:
                draft.remove("requests", request_id)
    draft.put("requests", request.id, Remembered(request.digest, now_ms))
