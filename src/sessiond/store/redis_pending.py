"""The writes to Redis whose outcome is not known yet: who reads what they are about waits for them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sessiond.app.ports.store import Count, Counted, Write, Written, key_of
from sessiond.store.patience import Patience

if TYPE_CHECKING:
    import asyncio

NO_CLAIMS: Final[Mapping[str, str]] = {}


class Pending:
    """Holds outcomes by the places that they are about: scopes and names; and who is being created with a claim."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._outcomes: dict[str, set[asyncio.Future[Any]]] = {}
        self._claimed: dict[str, str] = {}

    def __contains__(self, place: str) -> bool:
        return place in self._outcomes

    def __iter__(self) -> Iterator[str]:
        """Yield the places that something is under way to now, whatever happens in between."""
        return iter(list(self._outcomes))

    def hold(
        self, places: Sequence[str], outcome: "asyncio.Future[Any]", claims: Mapping[str, str] = NO_CLAIMS
    ) -> None:
        """Let whoever reads these places wait for an outcome; `claims` says which key is to have which."""
        for place in dict.fromkeys(places):
            self._outcomes.setdefault(place, set()).add(outcome)
        self._claimed.update(claims)
        outcome.add_done_callback(partial(self._settle, places, claims))

    def claimed(self, claims: Sequence[str]) -> str:
        """Return the key that is being created with one of these claims; empty if there is none."""
        return next((self._claimed[claim] for claim in claims if claim in self._claimed), "")

    async def settled(self, place: str, timeout_s: float) -> bool:
        """Wait until what is under way to a place is known to have happened or not; False if that is too long."""
        outcomes = self._outcomes.get(place)
        return outcomes is None or await self._patience.wait(outcomes, timeout_s)

    def _settle(self, places: Sequence[str], claims: Mapping[str, str], outcome: "asyncio.Future[Any]") -> None:
        """Take a write off those whose outcome is not known."""
        for place in dict.fromkeys(places):
            outcomes = self._outcomes[place]
            outcomes.discard(outcome)
            if not outcomes:
                del self._outcomes[place]
        for claim in claims:
            self._claimed.pop(claim, None)
        if not outcome.cancelled():
            outcome.exception()  # nobody may be waiting any more


def answer_of(write: Write | Count, answers: Sequence[Any]) -> Written | Counted:
    """Return the one answer to a write, however many commands carried it out, and of however many it was one."""
    if not isinstance(write, Count):
        answer: Written = answers[0][key_of(write)] if isinstance(answers[0], dict) else answers[0]
        return answer
    return Counted(tuple(key for answer in answers if isinstance(answer, Counted) for key in answer.conflicts))
