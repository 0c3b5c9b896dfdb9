"""Errors: each has a reason that never changes."""

import pytest

from sessiond.core.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PeerFailed,
    SessionError,
    Unavailable,
)


@pytest.mark.parametrize("kind", [InvalidArgument, FailedPrecondition, NotFound, Aborted, Unavailable])
def test_an_error_says_reason_and_text(kind: type[SessionError]) -> None:
    """Whoever catches an error finds its reason for programs and its text for people."""
    error = kind("A_REASON", "what went wrong", field="a.field", retry_after_ms=7)
    assert isinstance(error, SessionError)
    assert (error.reason, error.text, error.field, error.retry_after_ms) == (
        "A_REASON",
        "what went wrong",
        "a.field",
        7,
    )
    assert str(error) == "what went wrong"


@pytest.mark.parametrize("answered", [True, False])
def test_a_failed_peer_passes_its_status_on(answered: bool) -> None:
    """The status name of the peer is kept, and whether it is certain that nothing was carried out."""
    error = PeerFailed("UNAVAILABLE", "connection refused", answered=answered)
    assert (error.status, error.reason, error.answered) == ("UNAVAILABLE", "PEER_UNAVAILABLE", answered)
