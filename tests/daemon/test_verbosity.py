"""The level of the log: set by an operator, for good or for some time, and set back."""

from collections.abc import AsyncIterator, Iterator

import pytest

from sessiond.daemon import logs
from sessiond.daemon.verbosity import Verbosity
from sessiond.testing.clock import HandClock
from sessiond.testing.loop import settle


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = logs.level()
    yield
    logs.set_level(before)


class World:
    """A verbosity and its clock."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.verbosity = Verbosity(self.clock, "WARNING")
        self.verbosity.configure("WARNING")

    async def later(self, by_ms: int) -> str:
        """Return the level after some time."""
        await settle()
        self.clock.advance(by_ms)
        await settle()
        return logs.level()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Give a verbosity that is configured to be WARNING."""
    world = World()
    yield world
    await world.verbosity.close()


async def test_a_level_stays_until_it_is_set_again(world: World) -> None:
    """Without a duration it stays; the configured one can be asked for."""
    assert world.verbosity.set("DEBUG") == "WARNING"
    assert await world.later(10**9) == "DEBUG"
    assert world.verbosity.set(None) == "DEBUG"
    assert logs.level() == "WARNING"


async def test_a_level_goes_back_when_its_time_is_over(world: World) -> None:
    """Not earlier, and to the configured one."""
    world.verbosity.set("DEBUG", 1000)
    assert await world.later(999) == "DEBUG"
    assert await world.later(1) == "WARNING"


async def test_the_last_word_counts(world: World) -> None:
    """A newer level is not set back by the time of an older one."""
    world.verbosity.set("DEBUG", 1000)
    world.verbosity.set("ERROR", 5000)
    assert await world.later(1000) == "ERROR"
    assert await world.later(4000) == "WARNING"
    world.verbosity.set("DEBUG", 1000)
    world.verbosity.set("INFO")
    assert await world.later(10_000) == "INFO"


async def test_another_configured_level_is_in_force_at_once(world: World) -> None:
    """Reading the configuration again ends what an operator has set."""
    world.verbosity.set("DEBUG", 1000)
    world.verbosity.configure("ERROR")
    assert logs.level() == "ERROR"
    assert await world.later(1000) == "ERROR"


async def test_nothing_is_set_back_after_the_end(world: World) -> None:
    """A verbosity that is closed leaves the level as it is."""
    world.verbosity.set("DEBUG", 1000)
    await world.verbosity.close()
    await world.verbosity.close()
    assert await world.later(1000) == "DEBUG"
