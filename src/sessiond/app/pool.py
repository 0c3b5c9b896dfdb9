"""Pool: what is used in a session counts in those that it acts for, too: a quota holds for all of them together.

Those above are written first. What then does not come about is given back; if nobody knows whether it did, or the
daemon dies in between, it stays counted: more than a quota is never used.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeAlias

from msgspec import Struct

from sessiond.app.commit import Committer
from sessiond.core.decide import executions
from sessiond.core.draft import Draft
from sessiond.core.errors import Fenced, NotFound, SessionError, Unavailable
from sessiond.core.session import Session

Usage: TypeAlias = Mapping[str, int]
Share: TypeAlias = Callable[[Draft, Usage], None]
"""How usage is counted in a session above: held against its quotas, or not."""


class Pledge(Struct):
    """Usage that was counted above for something that is to be done below; it stays if that has come about."""

    has_come_about: bool = False


class Pool:
    """Counts in the sessions above one what is used in it."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer

    async def share(self, above: Sequence[Session], usage: Usage, share: Share) -> list[Session]:
        """Count usage in all sessions above, or in none of them; return them as they are after that."""
        shared: list[Session] = []
        async with self.pledge(shared, usage) as pledge:
            for session in above:
                with suppress(NotFound):  # it has gone meanwhile
                    shared.append(await self._committer.commit(session.key, partial(_counted, share, usage)))
            pledge.has_come_about = True
        return shared

    @asynccontextmanager
    async def pledge(self, shared: Sequence[Session], usage: Usage) -> AsyncIterator[Pledge]:
        """Give back what was counted above, unless what it is for comes about meanwhile, or nobody knows."""
        pledge = Pledge()
        try:
            yield pledge
        except (Unavailable, Fenced):
            raise
        except SessionError:
            await self._give_back(shared, usage)
            raise
        if not pledge.has_come_about:
            await self._give_back(shared, usage)

    async def _give_back(self, shared: Sequence[Session], usage: Usage) -> None:
        for session in shared:
            with suppress(NotFound):
                await self._committer.commit(session.key, partial(_counted, executions.give_back, usage))


def _counted(share: Share, usage: Usage, draft: Draft) -> Session:
    share(draft, usage)
    return draft.session()
