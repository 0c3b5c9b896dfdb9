"""Recollection: which requests were carried out that no session remembers, and how they were answered.

They are remembered as long as those of sessions are, by this daemon, until it ends.
"""

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from sessiond.app.ports.clock import Clock
from sessiond.core.decide import requests
from sessiond.core.decide.requests import Request
from sessiond.core.session import Remembered

MOST: Final = 100_000

Answer = TypeVar("Answer")


class Recollection(Generic[Answer]):
    """Remembers answers to requests, each of which is about a subject; beyond the most, the oldest go."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[Remembered, Answer]] = OrderedDict()

    def answer(self, subject: str, request: Request | None) -> Answer | None:
        """Return how a request was answered; None if it was not carried out. Its id on another one is refused."""
        self._forget()
        if request is None or (subject, request.id) not in self._known:
            return None
        known, answer = self._known[subject, request.id]
        requests.carried_out(known, request)
        return answer

    def keep(self, subject: str, request: Request | None, answer: Answer) -> None:
        """Remember how a request was answered, if it is to be known again."""
        if request is not None:
            self._known[subject, request.id] = Remembered(request.digest, self._clock.now_ms()), answer
            self._known.move_to_end((subject, request.id))
            self._forget()

    def _forget(self) -> None:
        """Forget what is too old, or too much."""
        now_ms = self._clock.now_ms()
        while self._known:
            oldest, _ = next(iter(self._known.values()))
            if len(self._known) <= MOST and oldest.at_ms + requests.REMEMBERED_MS > now_ms:
                break
            self._known.popitem(last=False)
