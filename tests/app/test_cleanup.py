"""After a start without a store, the sessions of the last run are ended at the policy side."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from sessiond.app.cleanup import AT_ONCE, ROUNDS, Cleanup
from sessiond.testing.gateway import SimulatedGateway
from sessiond.testing.peers import refused, silent, unreachable
from tests.app.scenes import gateway, ue

OLD = {ue(1).subscriber: f"{ue(1).subscriber}-777", ue(2).subscriber: f"{ue(2).subscriber}-888"}
"""The records that the last run left."""


@pytest.fixture
async def at() -> AsyncIterator[SimulatedGateway]:
    """Give a gateway without sessions, whose directoryd remembers two."""
    async with gateway() as running:
        running.directory.records.update(OLD)
        yield running


def begin(at: SimulatedGateway) -> asyncio.Task[None]:
    """Begin the clean-up."""
    peers = at.peers
    return asyncio.create_task(Cleanup(at.store, peers.policy, peers.directory, at.clock).run())


def ended(at: SimulatedGateway) -> list[str]:
    """Return the sessions whose end was told, once for each time."""
    return [call.arguments[1] for call in at.policy.calls("terminate_stale")]


async def test_what_is_left_is_ended_and_forgotten(at: SimulatedGateway) -> None:
    """Each session that directoryd remembers is ended at the policy side, and its record goes."""
    await begin(at)
    assert ended(at) == list(OLD.values())
    assert at.directory.records == {}


async def test_nothing_left_is_nothing_to_do(at: SimulatedGateway) -> None:
    """Without records nobody is told anything."""
    at.directory.records.clear()
    await begin(at)
    assert ended(at) == []


async def test_sessions_of_this_run_are_not_stale(at: SimulatedGateway) -> None:
    """A session that is there, and its record, are left alone."""
    key = await at.attach(ue(1))
    await begin(at)
    assert ended(at) == [OLD[ue(2).subscriber]]
    assert at.directory.records == {ue(1).subscriber: key}


async def test_a_subscriber_who_came_back_keeps_the_new_record(at: SimulatedGateway) -> None:
    """If a UE attaches while its old session is being ended, only the old session ends."""
    held = at.policy.hold("terminate_stale")
    cleaning = begin(at)
    await at.policy.called("terminate_stale")
    key = await at.attach(ue(1))
    held.release()
    await cleaning
    assert ended(at) == list(OLD.values())
    assert at.directory.records == {ue(1).subscriber: key}


async def test_a_record_that_is_deleted_too_late_is_written_again(at: SimulatedGateway) -> None:
    """If a UE attaches while the record of its old session is being deleted, its new record is there in the end."""
    held = at.directory.hold("delete")
    cleaning = begin(at)
    await at.directory.called("delete")
    key = await at.attach(ue(1))
    held.release()
    await cleaning
    assert at.directory.records == {ue(1).subscriber: key}


async def test_one_that_hangs_holds_nobody_up(at: SimulatedGateway) -> None:
    """Some are ended at the same time, and not more than that."""
    many = {f"IMSI00101{number:010d}": f"IMSI00101{number:010d}-1" for number in range(100, 100 + 3 * AT_ONCE)}
    at.directory.records.update(many)
    held = at.policy.hold("terminate_stale")
    cleaning = begin(at)
    await at.settle()
    assert len(ended(at)) == len(many) + len(OLD)
    held.release()
    await cleaning
    assert at.directory.records == {}
    holds = [at.policy.hold("terminate_stale") for _ in range(3 * AT_ONCE)]
    at.directory.records.update(many)
    before = len(ended(at))
    cleaning = begin(at)
    await at.settle()
    assert len(ended(at)) - before == AT_ONCE
    for hold in holds:
        hold.release()
    await cleaning


@pytest.mark.parametrize("failure", [refused(), unreachable(), silent()], ids=["refused", "unreachable", "silent"])
async def test_what_fails_is_tried_again_later(at: SimulatedGateway, failure: Exception) -> None:
    """A session that could not be ended is tried again five seconds later; the others are ended at once."""
    at.policy.script("terminate_stale", failure)
    cleaning = begin(at)
    await at.advance(4999)
    first, second = OLD.values()
    assert ended(at) == [first, second]
    await at.advance(1)
    await cleaning
    assert ended(at) == [first, second, first]
    assert at.directory.records == {}


async def test_a_record_that_could_not_be_deleted_is_tried_again(at: SimulatedGateway) -> None:
    """The record of an ended session is not left behind because directoryd was away for a moment."""
    at.directory.script("delete", unreachable())
    cleaning = begin(at)
    await at.advance(5000)
    await cleaning
    assert at.directory.records == {}


async def test_it_is_tried_a_bounded_number_of_times(
    at: SimulatedGateway, logged: list[MutableMapping[str, Any]]
) -> None:
    """A policy side that stays away is left alone after some rounds, and an operator can read what is left."""
    at.policy.usually("terminate_stale", unreachable())
    cleaning = begin(at)
    await at.advance(60_000)
    await cleaning
    assert len(ended(at)) == ROUNDS * len(OLD)
    assert [entry["sessions"] for entry in logged if entry["event"] == "stale_sessions_left"] == [list(OLD.values())]


async def test_a_directory_that_is_away_is_asked_again(at: SimulatedGateway) -> None:
    """Directoryd may start after us: it is asked three times, five seconds apart."""
    at.directory.script("sessions", unreachable(), silent())
    cleaning = begin(at)
    await at.advance(9999)
    assert ended(at) == []
    await at.advance(1)
    await cleaning
    assert ended(at) == list(OLD.values())


async def test_a_directory_that_stays_away_is_given_up(at: SimulatedGateway) -> None:
    """Without directoryd nobody knows of old sessions, and nothing is ended."""
    at.directory.usually("sessions", unreachable())
    cleaning = begin(at)
    await at.advance(60_000)
    await cleaning
    assert len(at.directory.calls("sessions")) == ROUNDS
    assert ended(at) == []
