"""Writes that travel together: what was counted for many sessions, and changes of many that nobody is told of.

A usage table changes many sessions at once, and so do the answers to its reports. A command for 50 of them is one
message, one reply and one outcome to wait for; each session is still written wholly or not at all, at its revision.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from sessiond.app.ports.store import Account, Conflict, Count, Counted, Stored, Written
from sessiond.core import names
from sessiond.core.errors import Fenced
from sessiond.store.redis_commands import Commands, Quiet
from sessiond.store.redis_lane import Call
from sessiond.store.redis_link import Command, Link
from sessiond.store.redis_pending import Pending
from sessiond.store.working_set import saved

Outcome: TypeAlias = "asyncio.Future[Any]"
"""The answer to a write; to changes that travel together, the answers by key."""


class Together:
    """Sends commands about many sessions.

    `learn` is told of each that is changed; `disputed` gives an outcome its answer once it is clear what there is of
    the sessions, by their keys, that are not at the revision that was named.
    """

    def __init__(
        self,
        link: Link,
        commands: Commands,
        pending: Pending,
        fence: Callable[[], Fenced],
        learn: Callable[[str, Stored], None],
        disputed: Callable[[Sequence[str], Outcome, Any], None],
    ) -> None:
        self._link = link
        self._commands = commands
        self._pending = pending
        self._fence = fence
        self._learn = learn
        self._disputed = disputed

    def count(self, count: Count) -> list[tuple[Outcome, Call | None]]:
        """Send what was counted on accounts; who has no meter was written by somebody else."""
        known: Outcome = asyncio.get_running_loop().create_future()
        known.set_result(Counted(tuple(account.session.key for account in count.accounts if account.meter is None)))
        begun: list[tuple[Outcome, Call | None]] = [(known, None)]
        for command, accounts in self._commands.count([one for one in count.accounts if one.meter is not None]):
            places = [account.session.scope for account in accounts]
            begun.append(self._send(command, places, partial(self._counted, accounts)))
        return begun

    def change(self, changes: Sequence[Quiet]) -> dict[str, tuple[Outcome, Call]]:
        """Send changes, as far as there are several for a command; return those by key, with the outcome they share."""
        begun: dict[str, tuple[Outcome, Call]] = {}
        for some in self._commands.grouped(changes, lambda change: change.session.scope):
            if len(some) > 1:
                places = [place for change in some for place in (change.session.scope, *names.names(change.session))]
                sent = self._send(self._commands.change_many(some), places, partial(self._changed, some))
                begun |= dict.fromkeys([change.session.key for change in some], sent)
        return begun

    def _send(
        self, command: Command, places: Sequence[str], answered: Callable[[Outcome, str], None]
    ) -> tuple[Outcome, Call]:
        outcome: Outcome = asyncio.get_running_loop().create_future()
        call = self._link.send(command)
        self._pending.hold(places, outcome)
        call.reply.add_done_callback(partial(self._replied, outcome, answered))
        return outcome, call

    def _replied(
        self, outcome: Outcome, answered: Callable[[Outcome, str], None], reply: "asyncio.Future[Any]"
    ) -> None:
        """Take the reply to a command: a letter for each session."""
        if reply.cancelled():
            outcome.cancel()
        elif error := reply.exception():
            outcome.set_exception(error)
        elif (word := reply.result()) == b"FENCED":
            outcome.set_exception(self._fence())
        else:
            answered(outcome, word.decode())

    def _counted(self, accounts: Sequence[Account], outcome: Outcome, word: str) -> None:
        conflicts: list[str] = []
        for account, letter in zip(accounts, word, strict=True):
            if letter == "O":
                saved(account)
            else:
                conflicts.append(account.session.key)
        self._disputed(conflicts, outcome, Counted(tuple(conflicts)))

    def _changed(self, changes: Sequence[Quiet], outcome: Outcome, word: str) -> None:
        answers: dict[str, Written] = {}
        for change, letter in zip(changes, word, strict=True):
            key = change.session.key
            if letter == "O":
                self._learn(key, change.after)
                answers[key] = change.after
            else:
                answers[key] = Conflict()
        self._disputed([key for key, answer in answers.items() if isinstance(answer, Conflict)], outcome, answers)
