"""Two daemons that both believe to own the sessions: one was only stopped, while the other took over."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path
from typing import Final

import pytest

from tests.store.conftest import Open
from tests.store.servers import Server
from tests.store.stubborn_writer import FENCED

pytestmark = pytest.mark.slow

ROUNDS: Final = int(os.environ.get("SPLIT_BRAIN_ROUNDS", "4"))
ROOT: Final = Path(__file__).parents[2]


@pytest.mark.timeout(60 + 5 * ROUNDS)
async def test_a_daemon_that_comes_back_from_a_stop_writes_nothing(valkey: Server, open_store: Open) -> None:
    """SIGSTOP in the middle of writing, take-over, SIGCONT: what the new owner has loaded is all there ever is."""
    for _ in range(ROUNDS):
        valkey.flush()
        writer = await create_subprocess_exec(
            sys.executable, "-m", "tests.store.stubborn_writer", valkey.url, cwd=ROOT, stdout=PIPE
        )
        assert writer.stdout is not None
        await writer.stdout.readuntil(b"writing\n")
        await asyncio.sleep(0.05)  # to be anywhere in its work
        writer.send_signal(signal.SIGSTOP)
        owner = await open_store(valkey.url)
        known = {stored.session.key: stored.revision async for stored in owner.load()}
        writer.send_signal(signal.SIGCONT)
        assert await writer.wait() == FENCED
        assert len(known) > 0
        assert _revisions(valkey) == known
        await owner.close()


def _revisions(server: Server) -> dict[str, int]:
    """Return the revision of every session that the server has."""
    with server.client() as client:
        return {
            str(client.hget(name, "key")): int(client.hget(name, "revision") or 0)
            for name in client.scan_iter("session:*", 1000)
        }
