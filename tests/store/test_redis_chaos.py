"""Many writers, and one fault after the other between them and the server: the books are right to the last octet."""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Final, TypeAlias

import pytest

from sessiond.app.commit import Committer, Outcome
from sessiond.core.draft import Draft
from sessiond.core.errors import Aborted, Unavailable
from sessiond.core.update import Change
from sessiond.daemon.clock import SystemClock
from sessiond.store import redis as redis_store
from sessiond.store import redis_lane
from sessiond.testing.store_contract import session
from tests.store.conftest import Open
from tests.store.proxy import FaultProxy
from tests.store.servers import Server

SESSIONS: Final = 20
WRITERS: Final = 10
ROUNDS: Final = 2
KEYS: Final = [f"IMSI{number}-1" for number in range(SESSIONS)]

Fault: TypeAlias = Callable[[FaultProxy], None]
FAULTS: Final[list[Fault]] = [
    FaultProxy.cut,
    lambda proxy: proxy.lose_reply(b"CHANGE"),
    FaultProxy.swallow,
    lambda proxy: proxy.cut(refuse=True),
    lambda proxy: setattr(proxy, "delay_s", 0.05),
    FaultProxy.half_close,
    lambda proxy: proxy.lose_reply(b"\r\n"),
]


@pytest.mark.parametrize("exclusive", [True, False])
async def test_every_decision_counts_once(
    valkey: Server, open_store: Open, monkeypatch: pytest.MonkeyPatch, *, exclusive: bool
) -> None:
    """What is stored is what was decided and let out: no decision twice, none lost, whatever its caller was told."""
    for module, name, seconds in (
        (redis_lane, "ATTEMPT_S", 0.1),
        (redis_lane, "LAST_PAUSE_S", 0.05),
        (redis_store, "OPERATION_S", 0.3),
    ):
        monkeypatch.setattr(module, name, seconds)
    valkey.flush()
    async with FaultProxy(valkey.port) as proxy:
        committer = Committer(await open_store(proxy.url, exclusive=exclusive), SystemClock())
        let_out: Counter[str] = Counter()
        committer.observe(lambda outcome: let_out.update({outcome.after.key: _used(outcome)}))
        for key in KEYS:
            await committer.create(session(key))
        let_out.clear()
        trouble = asyncio.create_task(_trouble(proxy))
        acknowledged = Counter[str]()
        await asyncio.gather(*(_write(committer, number, acknowledged, trouble) for number in range(WRITERS)))
        if committer._settling is not None:
            await committer._settling
        await committer.close()
    there = await open_store(valkey.url)
    stored = {key: await there.get(key) for key in KEYS}
    used = {key: one.session.monitors["m"].used_tx - 1 for key, one in stored.items() if one is not None}
    assert used == {key: let_out[key] for key in KEYS}
    assert all(acknowledged[key] <= used[key] for key in KEYS)
    assert sum(acknowledged.values()) > 0


async def _write(committer: Committer, number: int, acknowledged: Counter[str], trouble: "asyncio.Task[None]") -> None:
    """Add different amounts to one session after the other while there is trouble; note what is acknowledged."""
    for round_ in count():
        if trouble.done():
            return
        key, amount = KEYS[(number + round_) % SESSIONS], 1 + number + WRITERS * round_

        def add(draft: Draft, amount: int = amount) -> None:
            draft.change("monitors", "m", Change({"used_tx": amount}))

        try:
            await committer.commit(key, add)
            acknowledged[key] += amount
        except (Aborted, Unavailable):
            continue


async def _trouble(proxy: FaultProxy) -> None:
    """Have one fault after the other, with a little peace in between."""
    for fault in FAULTS * ROUNDS:
        await asyncio.sleep(0.03)
        fault(proxy)
        await asyncio.sleep(0.15)
        proxy.heal()


def _used(outcome: Outcome) -> int:
    before = outcome.before.monitors["m"].used_tx if outcome.before else 0
    return outcome.after.monitors["m"].used_tx - before
