"""The store that the configuration names: Redis is needed by those who name it, and by nobody else."""

import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sessiond.daemon.clock import SystemClock
from sessiond.daemon.config import Config, ConfigError, Store
from sessiond.daemon.stores import open_store
from sessiond.store.memory import MemoryStore

WITHOUT_REDIS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"redis", "hiredis"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import sessiond.daemon.run
"""


async def test_memory_needs_nothing(tmp_path: Path) -> None:
    """Without a word about it, sessions are in memory, and nobody can take them over."""
    async with AsyncExitStack() as stack:
        opened = await open_store(Config(), tmp_path / "sessiond.yml", SystemClock(), stack)
        assert isinstance(opened.store, MemoryStore)
        assert not opened.taken_over.is_set()
        assert opened.lease is None


def test_a_daemon_starts_without_the_client_of_redis() -> None:
    """The client of Redis is an extra: all that is imported at the start does without it."""
    subprocess.run([sys.executable, "-c", WITHOUT_REDIS], check=True)


async def test_redis_without_its_client_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a Redis and has no client for it is told what to install."""
    file = tmp_path / "sessiond.yml"
    file.write_text("store:\n  url: redis://h:1\n", encoding="utf-8")
    for module in ("sessiond.store.redis", "sessiond.store.redis_link"):
        monkeypatch.setitem(sys.modules, module, None)
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError) as refused:
            await open_store(Config(store=Store("redis://h:1")), file, SystemClock(), stack)
    (problem,) = refused.value.problems
    assert (problem.line, problem.key) == (2, "store.url")
    assert "sessiond[redis]" in problem.message
