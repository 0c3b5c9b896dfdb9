"""What the errors that a Redis replies with mean, and what is to be done about them."""

import re
from enum import Enum, auto
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)


class Meaning(Enum):
    """What is to be done about an error; in no case has anything been done."""

    ELSEWHERE = auto()
    """Another node has the slot."""
    WAIT = auto()
    """This command cannot be carried out now; others can."""
    RECONNECT = auto()
    """Nothing can be carried out now on this connection; a new one may lead to a server that can, or that knows us."""
    NO_MEMORY = auto()
    """The server is full."""
    NO_RIGHTS = auto()
    """The user may not do this."""
    UNKNOWN = auto()
    """One of us has made a mistake."""


REPLIES: Final = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
"""What the server says; every other error of the client says that it was not heard."""
REFUSALS: Final = (AuthenticationError, AuthorizationError, NoPermissionError)
"""An operator must act: user, password or rights are wrong."""

_KINDS: Final[tuple[tuple[type[RedisError], Meaning], ...]] = (
    (AskError, Meaning.ELSEWHERE),  # and MOVED, its subclass
    (TryAgainError, Meaning.WAIT),
    (ClusterDownError, Meaning.WAIT),
    (AuthenticationError, Meaning.RECONNECT),
    (AuthorizationError, Meaning.RECONNECT),
    (BusyLoadingError, Meaning.RECONNECT),
    (NoScriptError, Meaning.RECONNECT),
    (ReadOnlyError, Meaning.RECONNECT),
    (OutOfMemoryError, Meaning.NO_MEMORY),
    (NoPermissionError, Meaning.NO_RIGHTS),
)
_CODES: Final = {
    "BUSY": Meaning.WAIT,
    "MISCONF": Meaning.WAIT,
    "NOREPLICAS": Meaning.WAIT,
    "UNKILLABLE": Meaning.WAIT,
    "READONLY": Meaning.RECONNECT,
    "OOM": Meaning.NO_MEMORY,
}
"""Those that the client has no class for, or that come from within a script."""
_IN_SCRIPT: Final = re.compile(r"@user_script: ?\d+: -?([A-Z]+) ")
"""How Redis before 7.0 says which error stopped a script."""
_NO_RIGHTS_IN_SCRIPT: Final = re.compile(r"ACL failure in script|user executing the script can't")


def meaning(error: RedisError) -> Meaning:
    """Return what an error means."""
    for kind, meant in _KINDS:
        if isinstance(error, kind):
            return meant
    text = str(error)
    in_script = _IN_SCRIPT.search(text)
    code = in_script[1] if in_script else text.partition(" ")[0]
    if code in _CODES:
        return _CODES[code]
    return Meaning.NO_RIGHTS if _NO_RIGHTS_IN_SCRIPT.search(text) else Meaning.UNKNOWN
