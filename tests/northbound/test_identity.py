"""Who makes a call: by token, by certificate, or nobody."""

from collections.abc import Mapping
from typing import Any

import pytest

from sessiond.app.callers import caller
from sessiond.core.callers import EVERYBODY, Caller
from sessiond.core.errors import PermissionDenied, Unauthenticated
from sessiond.northbound.identity import Callers, Gate, digest

BILLING = Caller("billing", writable=("billing",))
ADMIN = Caller("admin", writable=("*",), operator=True)
CLOSED = Callers(
    {digest("a-token-of-billing"): BILLING},
    {"spiffe://example.org/admin": ADMIN, "CN=admin": ADMIN, "admin.example.org": ADMIN},
    None,
)
OPEN = Callers(CLOSED.by_token, CLOSED.by_name, EVERYBODY)


class Context:
    """A call as the server sees it."""

    def __init__(self, authorization: str | bytes | None = None, **names: bytes) -> None:
        self._metadata = () if authorization is None else (("x", "y"), ("authorization", authorization))
        self._names = names

    def invocation_metadata(self) -> Any:
        """Return what the caller sent beside the message."""
        return self._metadata or None

    def auth_context(self) -> Mapping[str, list[bytes]]:
        """Return what the connection says of the caller."""
        return {name: [b"other", value] for name, value in self._names.items()}


def refusal(callers: Callers, context: Context) -> str:
    """Return the reason for which a call is refused."""
    with pytest.raises(Unauthenticated) as caught:
        callers.of(context)
    return caught.value.reason


@pytest.mark.parametrize("shown", ["Bearer a-token-of-billing", "bearer  a-token-of-billing "])
def test_a_token_says_who_calls(shown: str) -> None:
    """Whatever case the scheme is in."""
    assert CLOSED.of(Context(shown)) is BILLING


@pytest.mark.parametrize("callers", [CLOSED, OPEN])
@pytest.mark.parametrize("shown", ["Bearer another", "Bearer ", "Bearer " + "x" * 10_000])
def test_a_wrong_token_is_refused(callers: Callers, shown: str) -> None:
    """Also where strangers are let in, and where a certificate would do: who shows a token wants it to count."""
    assert refusal(callers, Context(shown, x509_common_name=b"admin")) == "CALLER_UNKNOWN"


@pytest.mark.parametrize(
    "names",
    [
        {"x509_subject_alternative_name": b"spiffe://example.org/admin"},
        {"x509_subject_alternative_name": b"admin.example.org"},
        {"x509_common_name": b"admin"},
    ],
)
def test_a_certificate_says_who_calls(names: dict[str, bytes]) -> None:
    """By one of its names; another scheme than bearer says nothing."""
    assert CLOSED.of(Context(**names)) is ADMIN
    assert CLOSED.of(Context("Basic YTpi", **names)) is ADMIN


@pytest.mark.parametrize(
    "context",
    [
        Context(),
        Context("Basic YTpi"),
        Context(b"Bearer a-token-of-billing"),
        Context(x509_common_name=b"billing"),
        Context(x509_common_name=b"\xff"),
        Context(x509_subject_alternative_name=b"admin"),
    ],
)
def test_strangers(context: Context) -> None:
    """Who shows nothing that is known is refused, or anybody."""
    assert refusal(CLOSED, context) == "CALLER_UNKNOWN"
    assert OPEN.of(context) is EVERYBODY


async def test_the_gate_notes_who_calls() -> None:
    """The method finds out who called; the operator's methods are for operators."""
    gate = Gate()
    gate.admit("/sessiond.v1.AdminService/GetStatus", Context())
    assert caller() is EVERYBODY
    gate.callers = CLOSED
    gate.admit("/sessiond.v1.SessionService/GetSession", Context("Bearer a-token-of-billing"))
    assert caller() is BILLING
    with pytest.raises(PermissionDenied):
        gate.admit("/sessiond.v1.AdminService/GetStatus", Context("Bearer a-token-of-billing"))
    gate.admit("/sessiond.v1.SessionService/GetSession", Context(x509_common_name=b"admin"))
    assert caller() is ADMIN
    gate.admit("/sessiond.v1.AdminService/DrainSessions", Context(x509_common_name=b"admin"))
    assert caller() is EVERYBODY


def test_tokens_are_not_kept() -> None:
    """What is kept of a token is no token."""
    assert b"a-token" not in b"".join(CLOSED.by_token)
    assert "a-token" not in repr(CLOSED)
