"""The testing kit as its users have it (requirement L10): a project of their own, run by pytest in its own process.

The project has nothing of this repository but what docs/testing.md says.
"""

import re
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.blackbox.harness import Finished
from tests.house.tree import ROOT

pytestmark = pytest.mark.blackbox

FILE: Final = re.compile(r"```(?:python|ini)\n# (?P<name>\S+)\n(?P<text>.*?)```", re.DOTALL)
BY_URL: Final = '''
import os

from sessiond.store import redis_scripts
from sessiond.store.redis import RedisStore
from sessiond.store.redis_link import connect


@pytest.fixture
async def store():
    """Give an empty store, in Valkey if the environment says where."""
    url = os.environ["STORE_URL"]
    if url == "memory:":
        yield MemoryStore()
        return
    link = connect(url, redis_scripts.ALL)
    store = RedisStore(link, "mine", lambda session: None, exclusive=True, watch_s=60)
    await store.open()
    yield store
    await store.close()
'''
"""A fixture for the store of the documented test, in place of the one it shows."""
EMPTIED: Final = '''

@pytest.fixture(autouse=True)
async def emptied():
    """Begin with nothing."""
    if (url := os.environ["STORE_URL"]) != "memory:":
        import redis

        redis.Redis.from_url(url).flushall()
'''
"""A server is emptied before each test of the project."""
BROKEN: Final = '''
class Forgetful(MemoryStore):
    """Takes every second write of several for done."""

    async def write(self, writes):
        """Carry out some writes."""
        return await super().write(writes[:1]) * len(writes)


class Careless(MemoryStore):
    """Overwrites whatever others have written."""

    async def write(self, writes):
        """Carry out writes on whatever version there is."""
        written = []
        for write in writes:
            known = await self.get(write.key) if hasattr(write, "revision") else None
            mine = structs.replace(write, revision=known.revision) if known else write
            written += await super().write([mine])
        return written


class TestForgetful(TestMyStore):
    @pytest.fixture
    def store(self):
        return Forgetful()


class TestCareless(TestMyStore):
    @pytest.fixture
    def store(self):
        return Careless()
'''
"""Stores that look like one, and are none."""
WITHOUT_PYTEST: Final = """
import importlib, pkgutil, sys
sys.modules["pytest"] = None
import sessiond.testing as kit
for module in pkgutil.iter_modules(kit.__path__):
    importlib.import_module(f"{kit.__name__}.{module.name}")
"""


def documented() -> dict[str, str]:
    """Return the files that the documentation shows."""
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    return {match["name"]: match["text"] for match in FILE.finditer(text)}


async def ran(folder: Path, *arguments: str, url: str = "memory:") -> Finished:
    """Run Python in a folder, with nothing of this repository in reach but what is installed."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "STORE_URL": url}
    process = await create_subprocess_exec(
        sys.executable, *arguments, cwd=folder, env=environment, stdout=PIPE, stderr=PIPE
    )
    try:
        stdout, stderr = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return Finished(process.returncode or 0, stdout.decode(), stderr.decode())


async def checked(folder: Path, url: str = "memory:") -> Finished:
    """Run the tests of a project."""
    return await ran(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", url=url)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project that has what the documentation shows."""
    files = documented()
    assert set(files) == {"pytest.ini", "test_time_and_peers.py", "test_my_store.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


class TestL10:
    """A testing kit for users: fake clock, scripted peers, store contract."""

    async def test_it_works_as_it_is_documented(self, project: Path) -> None:
        """An hour passes at once, a lost answer is asked for again, and a store keeps its contract."""
        finished = await checked(project)
        assert finished.status == 0, finished.stdout
        assert re.search(r"^\d\d passed", finished.stdout, re.MULTILINE), finished.stdout

    @pytest.mark.parametrize("store", ["memory", "valkey"])
    async def test_one_contract_for_every_store(
        self, project: Path, request: pytest.FixtureRequest, store: str
    ) -> None:
        """The same clauses hold in memory and on Valkey."""
        server = request.getfixturevalue("one_valkey") if store == "valkey" else None
        mine = project / "test_my_store.py"
        text = mine.read_text(encoding="utf-8")
        start, end = text.index("    @pytest.fixture\n    def store"), text.index("    @pytest.fixture\n    def rival")
        mine.write_text(text[:start] + text[end:] + BY_URL + EMPTIED, encoding="utf-8")
        finished = await checked(project, server.url if server else "memory:")
        assert finished.status == 0, finished.stdout
        assert server is None or server.client().dbsize() > 0, "nobody has used it"

    @pytest.mark.slow
    async def test_a_store_that_breaks_its_contract_is_found_out(self, project: Path) -> None:
        """By the clauses that it breaks, and no test of the others fails."""
        with (project / "test_my_store.py").open("a", encoding="utf-8") as file:
            file.write("\n\nfrom msgspec import structs\n" + BROKEN)
        finished = await checked(project)
        failed = set(re.findall(r"^FAILED test_my_store\.py::(\w+)::", finished.stdout, re.MULTILINE))
        assert (finished.status, failed) == (1, {"TestForgetful", "TestCareless"}), finished.stdout
        assert "TestCareless::test_one_of_two_writers_wins" in finished.stdout

    async def test_it_needs_no_pytest(self, tmp_path: Path) -> None:
        """Whoever tests with something else can have all of it."""
        finished = await ran(tmp_path, "-c", WITHOUT_PYTEST)
        assert finished == Finished(0, "", "")
