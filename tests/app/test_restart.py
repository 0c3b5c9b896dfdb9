"""A daemon that dies and comes back over the same store goes on where it was (known problems, section 3)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessiond.core.lifecycle import State
from sessiond.core.rules import Lifetime
from sessiond.core.session import PolicyAnswer
from sessiond.testing.gateway import SimulatedGateway, row
from sessiond.testing.peers import Held
from tests.app.scenes import VIDEO, gateway, plan, ue
from tests.core.builders import dynamic, free, grant, static


@pytest.fixture
async def at() -> AsyncIterator[SimulatedGateway]:
    """Give a gateway whose policy side allows one rule on one credit."""
    async with gateway() as running:
        running.policy.usually("create", VIDEO)
        yield running


def scheduled(at: SimulatedGateway) -> PolicyAnswer:
    """Return a plan with a static and a dynamic rule that are in force from the 10th to the 20th second."""
    now_ms = at.clock.now_ms()
    lifetime = Lifetime(now_ms + 10_000, now_ms + 20_000)
    return PolicyAnswer(
        installs=(*static("free", lifetime=lifetime), *dynamic(free("extra"), lifetime=lifetime)),
    )


async def flows(at: SimulatedGateway, key: str) -> dict[str, bool]:
    """Return which Gx rules a session has, and whether each is in force already."""
    rules = (await at.session(key)).rules
    return {rule_id: not rule.gx.scheduled for rule_id, rule in rules.items() if rule.gx is not None}


@pytest.mark.parametrize("died_at_ms", [None, 5000, 15_000])
async def test_s1_s2_rules_come_and_go_at_their_times(at: SimulatedGateway, died_at_ms: int | None) -> None:
    """Static and dynamic rules begin and end when they should, whether or not the daemon died in between."""
    at.policy.script("create", scheduled(at))
    key = await at.attach(ue())
    seen = []
    for moment_ms in (5000, 10_000, 15_000, 20_000):
        await at.advance(5000)
        if moment_ms == died_at_ms:
            await at.restart()
        seen.append(await flows(at, key))
    waiting, going = {"free": False, "extra": False}, {"free": True, "extra": True}
    assert seen == [waiting, going, going, {}]
    told = [(type(effect).__name__, sorted(rule.id for rule in effect.rules)) for _, effect in at.data_plane.flows]
    assert told == [("ActivateFlows", []), ("ActivateFlows", ["extra", "free"]), ("DeactivateFlows", ["extra", "free"])]


async def test_s1_rules_whose_time_came_while_nobody_ran_are_put_right(at: SimulatedGateway) -> None:
    """A daemon that was away over both moments installs nothing that is over by then."""
    at.policy.script("create", scheduled(at))
    key = await at.attach(ue())
    await at.close()
    at.clock.advance(30_000)
    await at.restart()
    assert await flows(at, key) == {}


async def test_g5_validity_is_kept_over_a_restart(at: SimulatedGateway) -> None:
    """A credit whose validity time ends is reported at that moment, though the daemon has been restarted."""
    at.policy.script("create", plan("video", credits_=[grant("1", validity_ms=30_000)]))
    await at.attach(ue())
    await at.restart()
    await at.advance(29_999)
    assert at.policy.updates == []
    await at.advance(1)
    (reports,) = at.policy.updates
    report = reports[0].session.credits["1"].in_flight
    assert report is not None
    assert report.reason == "VALIDITY_TIMER_EXPIRED"


async def test_s6_a_session_whose_creation_was_cut_off_is_given_up(at: SimulatedGateway) -> None:
    """A question that was under way when the daemon died leaves a session that is ended at the policy side."""
    at.policy.script("create", Held())
    creating = asyncio.create_task(at.application.manager.create_session(ue()))
    await at.policy.called("create")
    await at.restart()
    assert [session.head.state for session in await at.sessions()] == [State.CREATING]
    await at.advance(12_000)
    assert len(at.policy.terminated) == 1
    assert await at.sessions() == []
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating


async def test_nothing_is_told_twice_without_need(at: SimulatedGateway) -> None:
    """What was taken before the daemon died is not told again, and usage goes on from where it was."""
    key = await at.attach(ue())
    await at.report(row(ue(), "video", 1, tx=100))
    calls = len(at.peers.journal.calls)
    await at.restart()
    assert [call.method for call in at.peers.journal.calls[calls:]] == ["set_up"]
    await at.report(row(ue(), "video", 1, tx=150))
    assert (await at.session(key)).credits["1"].used_tx == 150
