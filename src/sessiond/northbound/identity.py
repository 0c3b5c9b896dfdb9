"""Who makes a call: found out once for each call of our own API, before anything else of it is looked at.

A caller shows a bearer token (`authorization: Bearer ...`) or, with TLS, a certificate of the authority that the server
trusts. A token that is shown counts, also if it is wrong. Nobody's token is kept: only what it hashes to.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct

from sessiond.app.callers import set_caller
from sessiond.core.callers import EVERYBODY, Caller, check_operator
from sessiond.core.errors import Unauthenticated

PREFIX: Final = "/sessiond.v1."
"""The methods of our own API; the others have callers who cannot say who they are, and are protected by the network."""
OPERATORS_PREFIX: Final = "/sessiond.v1.AdminService/"
_SCHEME: Final = "bearer "
_ALTERNATIVES: Final = "x509_subject_alternative_name"
_COMMON_NAME: Final = "x509_common_name"


class Callers(Struct, frozen=True):
    """Everybody who is known: by what a token hashes to, and by the names in a certificate."""

    by_token: Mapping[bytes, Caller]
    by_name: Mapping[str, Caller]
    """`spiffe://...` or another URI, a DNS name, or `CN=<common name>`."""
    stranger: Caller | None
    """What somebody is who shows nothing that is known; None: he is refused."""

    def of(self, context: Any) -> Caller:
        """Return who makes the call of a context."""
        if (token := _token(context)) is not None:
            return self._by_token(token)
        if self.by_name:
            for name in _names(context.auth_context()):
                if (found := self.by_name.get(name)) is not None:
                    return found
        if self.stranger is None:
            raise Unauthenticated("CALLER_UNKNOWN", "show a token, or a certificate, of a caller that is known here")
        return self.stranger

    def _by_token(self, token: str) -> Caller:
        found = self.by_token.get(digest(token))
        if found is None:
            raise Unauthenticated("CALLER_UNKNOWN", "nobody here has this token")
        return found


class Gate:
    """Where every call of our own API passes; None: nobody is asked who he is."""

    def __init__(self, callers: Callers | None = None) -> None:
        self.callers = callers

    def admit(self, method: str, context: Any) -> None:
        """Find out who makes a call, and note it; refuse who is not known, or may not call this method.

        What an operator does to the daemon is not bound to namespaces.
        """
        if self.callers is None:
            return
        found = self.callers.of(context)
        if method.startswith(OPERATORS_PREFIX):
            check_operator(found)
            found = EVERYBODY
        set_caller(found)


def digest(token: str) -> bytes:
    """Return what is kept of a token."""
    return sha256(token.encode()).digest()


def _token(context: Any) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME:
            return value[len(_SCHEME) :].strip()
    return None


def _names(shown: Mapping[str, Iterable[bytes]]) -> Iterable[str]:
    """Yield the names in the certificate of a caller; there are none without TLS."""
    for name in shown.get(_ALTERNATIVES, ()):
        yield name.decode(errors="replace")
    for name in shown.get(_COMMON_NAME, ()):
        yield f"CN={name.decode(errors='replace')}"
