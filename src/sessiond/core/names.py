"""Names: what a session is found by beside its key and its scope.

A list is borne by any number of sessions, a claim by one at a time: whoever is over bears no claim any more. Names are
derived from the session and never stored with it. They do not grow while it lives: no change gives it another one.
"""

from sessiond.core.lifecycle import State
from sessiond.core.session import Session

_OVER = frozenset({State.CLOSING, State.CLOSED})


def of_data_source(data_source: str) -> str:
    """Return the name of all sessions of a data source, ended ones too."""
    return f"data-source:{data_source}"


def of_number(type_: str, msisdn: str) -> str:
    """Return the name of the one session of a type that a phone number has (requirement W2)."""
    return f"msisdn:{type_}:{msisdn}"


def of_peer(type_: str, address: str) -> str:
    """Return the name of the one session of a type that there is with a node at an address (requirement P8)."""
    return f"peer:{type_}:{address}"


def lists(session: Session) -> tuple[str, ...]:
    """Return the names that it shares with others."""
    if session.identity is None or not session.identity.data_source:
        return ()
    return (of_data_source(session.identity.data_source),)


def claims(session: Session) -> tuple[str, ...]:
    """Return the names that nobody else bears."""
    if session.identity is None or session.head.state in _OVER:
        return ()
    msisdn, address = session.identity.msisdn, session.peer.address if session.peer is not None else ""
    number = (of_number(session.type, msisdn),) if msisdn else ()
    return (*number, of_peer(session.type, address)) if address else number


def names(session: Session) -> tuple[str, ...]:
    """Return all names."""
    return (*lists(session), *claims(session)) if session.identity is not None else ()


def renamed(before: Session, after: Session) -> bool:
    """Whether it may bear other names after a change."""
    return (
        before.identity is not after.identity
        or before.peer is not after.peer
        or before.head.state is not after.head.state
    )


def check_change(before: Session, after: Session) -> None:
    """Raise ValueError if a change would give a session a name that it did not bear."""
    if renamed(before, after) and (more := set(names(after)).difference(names(before))):
        raise ValueError(f"session {after.key} cannot come to bear {', '.join(sorted(more))}")


def age(session: Session) -> tuple[int, int, str]:
    """Return what sorts sessions by their creation; those of one data source are numbered."""
    return session.head.created_at_ms, session.identity.number if session.identity else 0, session.key
