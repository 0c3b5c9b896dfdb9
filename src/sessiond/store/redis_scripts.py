"""The scripts that run inside Redis: their texts lie beside this file."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from msgspec import Struct


class Script(Struct, frozen=True):
    """A script, and the name that Redis gives it."""

    text: str
    sha: str

    def run(self, keys: Sequence[str], *args: Any) -> tuple[Any, ...]:
        """Return the command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


def _script(name: str) -> Script:
    text = files("sessiond.store").joinpath(f"redis_{name}.lua").read_text(encoding="utf-8")
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


WRITE: Final = _script("write")
COUNT: Final = _script("count")
CHANGE_MANY: Final = _script("change_many")
CLAIM: Final = _script("claim")
TAKE: Final = _script("take")
KEEP: Final = _script("keep")
RESERVE: Final = _script("reserve")
ENTER: Final = _script("enter")
LOG: Final = _script("log")
LEASE: Final = _script("lease")
HAND: Final = _script("hand")
ALL: Final = tuple(
    script.text for script in (WRITE, COUNT, CHANGE_MANY, CLAIM, TAKE, KEEP, RESERVE, ENTER, LOG, LEASE, HAND)
)
