"""Group commit: what is decided while a group is being written is written as the next group.

A store takes many small changes in one go for much less than one by one. A decision that comes alone waits for nothing.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from sessiond.app.commit import Committer, Decision
from sessiond.core.draft import Draft

_Waiting: TypeAlias = list[tuple[Decision[None], "asyncio.Future[bool]"]]
"""Decisions about one session; whoever waits for one is told whether it is written with its group."""


class GroupCommit:
    """Commits decisions about sessions, group after group."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._waiting: dict[str, _Waiting] = {}
        self._task: asyncio.Task[None] | None = None

    async def commit(self, key: str, decide: Decision[None]) -> None:
        """Decide about a session and write it, as `Committer.commit` does; `decide` may be called again after that."""
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        self._waiting.setdefault(key, []).append((decide, written))
        if self._task is None:
            self._task = loop.create_task(self._run())
        if not await written:  # it is gone, or busy, or the decision fails: that is said to whoever is alone
            await self._committer.commit(key, decide)

    async def close(self) -> None:
        """Stop; who still waits does so in vain. It can be taken up again."""
        task, self._task = self._task, None
        self._waiting.clear()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, {}
                await self._write(group)
        finally:
            self._task = None

    async def _write(self, group: dict[str, _Waiting]) -> None:
        decisions = {key: partial(_all, [decide for decide, _ in waiting]) for key, waiting in group.items()}
        try:
            replies = await self._committer.commit_many(decisions)
        except Exception as error:  # noqa: BLE001, each of those who wait is told
            for _, written in _everybody(group):
                written.set_exception(error)
        else:
            for key, written in _everybody(group):
                written.set_result(key in replies)


def _everybody(group: dict[str, _Waiting]) -> list[tuple[str, "asyncio.Future[bool]"]]:
    """Return those who still wait, with the key of the session."""
    return [(key, written) for key, waiting in group.items() for _, written in waiting if not written.done()]


def _all(decisions: Sequence[Decision[None]], draft: Draft) -> None:
    for decide in decisions:
        decide(draft)
