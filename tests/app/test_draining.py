"""Draining: sessions end at a pace, and new ones are kept out as long as that is wanted."""

import asyncio

import pytest

from sessiond.app.draining import Drained
from sessiond.core.decide.native import NewSession
from sessiond.core.decide.streams import NewStream
from sessiond.core.errors import Unavailable
from sessiond.core.filters import parse
from sessiond.core.lifecycle import State
from tests.app.scenes import VIDEO, gateway, ue

EVERYTHING = parse("")


async def test_all_gateway_sessions_end() -> None:
    """Each is released with its reason, and the access side is told."""
    async with gateway() as at:
        at.policy.usually("create", VIDEO)
        keys = [await at.attach(ue(number)) for number in range(1, 4)]
        assert await at.application.draining.count(EVERYTHING) == Drained(3)
        assert await at.application.draining.drain(EVERYTHING, "", 0) == Drained(3, 0, 3)
        await at.settle()
        assert {(await at.session(key)).head.reason for key in keys} == {"DRAINED"}
        assert len(at.access.bearers) == 3
        await at.report()
        await at.settle()
        assert await at.application.draining.count(EVERYTHING) == Drained(0)
        assert len(at.policy.terminated) == 3


async def test_those_that_are_meant_end_each_in_its_way() -> None:
    """Sessions of every kind, and no others; what the operator says is kept with them."""
    async with gateway() as at:
        at.policy.usually("create", VIDEO)
        attached = await at.attach(ue(1))
        stream = (await at.application.streams.create(NewStream(data_source="Car"))).key
        wanted = NewSession(type="ussd", msisdn="+15550100001")
        native, _ = await at.application.sessions.create("", wanted, None, reuse_active=False, wait=True)
        other, _ = await at.application.sessions.create("", NewSession(type="sms"), None, reuse_active=False, wait=True)
        assert await at.application.draining.drain(parse("NOT type = sms"), "moving out", 0) == Drained(3, 2, 1)
        assert (await at.session(other.key)).head.state is State.ACTIVE
        heads = [(await at.session(key)).head for key in (attached, stream, native.key)]
        assert {(head.reason, head.message) for head in heads} == {("DRAINED", "moving out")}
        assert [head.state for head in heads] == [State.CLOSING, State.CLOSED, State.CLOSED]


async def test_sessions_end_at_a_pace() -> None:
    """No more than so many end in one second."""
    async with gateway() as at:
        at.policy.usually("create", VIDEO)
        for number in range(1, 6):
            await at.attach(ue(number))
        draining = asyncio.create_task(at.application.draining.drain(EVERYTHING, "slowly", 2))
        left = []
        for _ in range(3):
            await at.settle()
            sessions = await at.sessions()
            left.append(sum(session.head.state is State.ACTIVE for session in sessions))
            await at.advance(1000)
        assert left == [3, 1, 0]
        assert (await draining).matched == 5


async def test_new_sessions_are_kept_out() -> None:
    """A subscriber that has a session keeps it; a new one is told to come again later."""
    async with gateway() as at:
        at.policy.usually("create", VIDEO)
        key = await at.application.manager.create_session(ue(1))
        at.application.draining.welcome.refuses_new = True
        assert await at.application.manager.create_session(ue(1)) == key
        with pytest.raises(Unavailable) as caught:
            await at.attach(ue(2))
        assert (caught.value.reason, caught.value.retry_after_ms > 0) == ("DRAINING", True)
        with pytest.raises(Unavailable):
            await at.attach(ue(1, msisdn="other"))
        assert (await at.session(key)).head.state is State.ACTIVE
        at.application.draining.welcome.refuses_new = False
        assert await at.attach(ue(2))


async def test_a_session_that_is_being_created_ends_too() -> None:
    """Its policy answer comes too late, and the policy side hears of the end."""
    async with gateway() as at:
        held = at.policy.hold("create")
        creating = asyncio.create_task(at.application.manager.create_session(ue()))
        await at.settle()
        assert await at.application.draining.drain(EVERYTHING, "", 0) == Drained(1, 0, 1)
        held.release(VIDEO)
        await at.settle()
        assert creating.done()
        assert creating.exception() is not None
