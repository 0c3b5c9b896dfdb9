"""Pipelined is set up once for every epoch it announces, with all flows, and is ready only then."""

from collections.abc import AsyncIterator

import pytest

from sessiond.app.ports.peers import SetupResult
from sessiond.app.resync import Readiness
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.effects import VersionedRule
from sessiond.core.errors import Unavailable
from sessiond.testing.gateway import SimulatedGateway, row
from sessiond.testing.peers import refused, silent, unreachable
from tests.app.pipelined import Pipelined
from tests.app.scenes import RULES, VIDEO, gateway, plan, ue
from tests.app.stores import TroubledStore
from tests.core.builders import static

FAILURES = [SetupResult.FAILURE, silent(), refused(), ZeroDivisionError()]


@pytest.fixture
async def at() -> AsyncIterator[SimulatedGateway]:
    """Give a gateway whose pipelined was set up in epoch 1 and has the flows of one session, in version 1."""
    async with gateway(TroubledStore()) as running:
        running.policy.usually("create", VIDEO)
        await running.attach(ue())
        yield running


def epochs(at: SimulatedGateway) -> list[int]:
    """Return the epoch of every setup."""
    return [call.arguments[0] for call in at.data_plane.calls("set_up")]


def versions(at: SimulatedGateway) -> list[int]:
    """Return the version of the one rule in every setup."""
    setups = [call.arguments[1] for call in at.data_plane.calls("set_up")]
    return [session.rules["video"].version for sessions in setups for session in sessions]


async def version(at: SimulatedGateway) -> int:
    """Return the version of the one rule."""
    (session,) = await at.sessions()
    return session.rules["video"].version


def is_ready(at: SimulatedGateway) -> bool:
    """Whether sessions can be created."""
    return at.application.resync.ready


async def test_nothing_is_ready_before_the_first_setup() -> None:
    """A new daemon is not ready until pipelined has announced itself and was set up."""
    async with gateway(ready=False) as at:
        assert not is_ready(at)
        held = at.data_plane.hold("set_up")
        await at.report(epoch=7)
        assert not is_ready(at)
        held.release()
        await at.settle()
        assert is_ready(at)
        assert epochs(at) == [7]


async def test_without_a_data_plane_everything_is_ready() -> None:
    """A daemon whose pipelined is configured away waits for none."""
    async with gateway(ready=False) as at:
        at.application.resync.without_data_plane()
        assert is_ready(at)


async def test_all_sessions_are_set_up(at: SimulatedGateway) -> None:
    """A setup hands over every session and the static rules of the moment."""
    await at.attach(ue(2))
    await at.report(epoch=2)
    epoch, sessions, catalogue = at.data_plane.calls("set_up")[-1].arguments
    assert epoch == 2
    assert list(sessions) == await at.sessions()
    assert catalogue == RULES


async def test_an_epoch_is_set_up_once(at: SimulatedGateway) -> None:
    """Further reports of an epoch that is set up, or is being set up, start nothing."""
    held = at.data_plane.hold("set_up")
    for _ in range(3):
        await at.report(epoch=2)
    held.release()
    for _ in range(3):
        await at.report(epoch=2)
    assert epochs(at) == [1, 2]


async def test_a_report_without_an_epoch_says_nothing(at: SimulatedGateway) -> None:
    """Epoch 0 is no epoch: pipelined stays as it is."""
    await at.report(epoch=0)
    assert epochs(at) == [1]
    assert is_ready(at)


async def test_a_new_epoch_ends_readiness_until_it_is_set_up(at: SimulatedGateway) -> None:
    """From the report of a new epoch until the end of its setup no session is created."""
    held = at.data_plane.hold("set_up")
    await at.report(epoch=2)
    with pytest.raises(Unavailable):
        await at.application.manager.create_session(ue(2))
    held.release()
    await at.settle()
    await at.application.manager.create_session(ue(2))


async def test_r8_an_epoch_that_comes_during_a_setup_is_set_up_next(at: SimulatedGateway) -> None:
    """The end of a setup says nothing about an epoch announced meanwhile, which is set up at once after it."""
    first, second = at.data_plane.hold("set_up"), at.data_plane.hold("set_up")
    await at.report(epoch=2)
    await at.report(epoch=3)
    assert epochs(at) == [1, 2]
    first.release()
    await at.settle()
    assert epochs(at) == [1, 2, 3]
    assert not is_ready(at)
    second.release()
    await at.settle()
    assert is_ready(at)
    assert at.application.resync.is_set_up(3)


async def test_r8_of_several_epochs_the_newest_is_set_up(at: SimulatedGateway) -> None:
    """Epochs that came and went during a setup are passed over."""
    held = at.data_plane.hold("set_up")
    for epoch in (2, 3, 4, 5):
        await at.report(epoch=epoch)
    held.release(SetupResult.OUTDATED_EPOCH)
    await at.settle()
    assert epochs(at) == [1, 2, 5]
    assert at.application.resync.is_set_up(5)


async def test_an_outdated_epoch_is_dropped_until_the_next_report(at: SimulatedGateway) -> None:
    """If pipelined says that it is another one by now, its next report says which; until then nothing is tried."""
    at.data_plane.script("set_up", SetupResult.OUTDATED_EPOCH)
    await at.report(epoch=2)
    await at.advance(60_000)
    assert epochs(at) == [1, 2]
    assert not is_ready(at)
    await at.report(epoch=3)
    assert epochs(at) == [1, 2, 3]
    assert is_ready(at)


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_a_failed_setup_is_tried_again_after_five_seconds(at: SimulatedGateway, failure: object) -> None:
    """However a setup fails, it is tried again, not sooner and not less often."""
    at.data_plane.script("set_up", failure, failure)
    await at.report(epoch=2)
    await at.advance(4999)
    assert epochs(at) == [1, 2]
    await at.advance(5001)
    assert epochs(at) == [1, 2, 2, 2]
    assert is_ready(at)


async def test_a_pipelined_that_was_not_reached_is_tried_again_at_once(at: SimulatedGateway) -> None:
    """Who has just announced itself is there: only the connection is to be made again, which takes no five seconds."""
    at.data_plane.script("set_up", unreachable(), unreachable())
    await at.report(epoch=2)
    await at.advance(500)
    assert epochs(at) == [1, 2, 2, 2]
    assert is_ready(at)


async def test_the_end_waits_while_pipelined_is_away(at: SimulatedGateway) -> None:
    """Flows were taken down, then pipelined died with the final usage: it is waited for, longer than usual."""
    (session,) = await at.sessions()
    await at.application.manager.end_session(ue().subscriber, ue().apn)
    await at.settle()
    at.data_plane.connected = False
    await at.advance(20_000)
    assert not at.policy.calls("terminate")
    at.data_plane.connected = True
    at.data_plane.script("set_up", unreachable())
    await at.report(row(ue(), "video", 1, tx=70), epoch=2)
    await at.advance(300)
    await at.report(epoch=2)  # it may have been on its way since before the setup
    await at.report(epoch=2)
    (ended,) = at.policy.calls("terminate")
    assert ended.arguments[0].key == session.key
    assert ended.arguments[0].rules["video"].moved_tx == 70


async def test_a_setup_waits_for_the_store(at: SimulatedGateway) -> None:
    """A store that is away is not a store without sessions: the setup is tried again, with all of them."""
    assert isinstance(at.store, TroubledStore)
    at.store.fail("load")
    await at.report(epoch=2)
    assert epochs(at) == [1]
    await at.advance(5000)
    assert epochs(at) == [1, 2]
    assert len(at.data_plane.calls("set_up")[-1].arguments[1]) == 1


async def test_versions_stay_if_the_switch_still_counts(at: SimulatedGateway) -> None:
    """If only pipelined restarted, flows keep their versions, and usage goes on where it was."""
    await at.report(row(ue(), "video", 1, tx=100))
    await at.report(epoch=2)
    await at.report(row(ue(), "video", 1, tx=150), epoch=2)
    (session,) = await at.sessions()
    assert versions(at) == [1]
    assert session.credits["1"].used_tx == 150


async def test_s4_versions_count_up_before_the_setup_if_the_switch_counts_anew(at: SimulatedGateway) -> None:
    """Pipelined is set up with the versions that the sessions have by then, and all they count from zero counts."""
    await at.report(row(ue(), "video", 1, tx=100))
    held = at.data_plane.hold("set_up")
    await at.report(epoch=2, counters_restart=True)
    assert await version(at) == 2
    held.release()
    await at.report(row(ue(), "video", 2, tx=30), epoch=2, counters_restart=True)
    (session,) = await at.sessions()
    assert versions(at) == [2]
    assert session.credits["1"].used_tx == 130
    assert at.telemetry.ignored == {}


async def test_s4_versions_of_all_rules_count_up(at: SimulatedGateway) -> None:
    """Every rule in force of every session gets its next version."""
    at.policy.usually("create", plan("video", "web", "free"))
    keys = [await at.attach(ue(number)) for number in (2, 3)]
    await at.report(epoch=2, counters_restart=True)
    rules = [(await at.session(key)).rules for key in keys]
    assert [{rule_id: rule.version for rule_id, rule in known.items()} for known in rules] == [
        {"video": 2, "web": 2, "free": 2}
    ] * 2


async def test_versions_count_up_once_for_an_epoch(at: SimulatedGateway) -> None:
    """Neither a failed setup, nor an outdated one, nor reports that say it again count versions up a second time."""
    at.data_plane.script("set_up", SetupResult.FAILURE, unreachable(), SetupResult.OUTDATED_EPOCH)
    await at.report(epoch=2, counters_restart=True)
    await at.advance(60_000)
    await at.report(epoch=2, counters_restart=True)
    await at.report(epoch=2, counters_restart=True)
    assert versions(at) == [2, 2, 2, 2]
    await at.report(epoch=3, counters_restart=True)
    assert versions(at)[-1] == 3


async def test_versions_still_count_up_if_pipelined_restarts_before_they_did(at: SimulatedGateway) -> None:
    """That the switch counts anew is not forgotten when pipelined alone restarts before the store could be written."""
    assert isinstance(at.store, TroubledStore)
    at.store.fail("load", 3)
    with pytest.raises(Unavailable):
        await at.report(epoch=2, counters_restart=True)
    with pytest.raises(Unavailable):
        await at.report(epoch=3)
    await at.advance(5000)
    assert versions(at) == [2]
    await at.report(epoch=4)
    assert versions(at) == [2, 2]


async def test_versions_have_counted_up_when_the_report_is_answered(at: SimulatedGateway) -> None:
    """Though a setup hangs, a daemon that dies right after the report has not forgotten that the switch counts anew."""
    at.data_plane.hold("set_up")
    await at.report(epoch=2)
    await at.report(epoch=3, counters_restart=True)
    assert await version(at) == 2
    await at.restart()
    await at.report(epoch=4)
    assert versions(at)[-1] == 2


async def test_a_switch_that_restarts_during_a_setup_counts_up_again(at: SimulatedGateway) -> None:
    """Each restart of the switch has its own versions, though the setup of the one before was still under way."""
    held = at.data_plane.hold("set_up")
    await at.report(epoch=2, counters_restart=True)
    await at.report(epoch=3, counters_restart=True)
    held.release()
    await at.settle()
    assert versions(at) == [2, 3]


async def test_r10_a_setup_that_was_overtaken_makes_nothing_ready(at: SimulatedGateway) -> None:
    """Tables of the older epoch are no tables of a pipelined that is set up."""
    await at.report(epoch=2)
    assert not at.application.resync.is_set_up(1)
    assert at.application.resync.is_set_up(2)


@pytest.mark.parametrize("switch_too", [False, True])
async def test_what_waited_before_a_setup_loses_no_usage(switch_too: bool) -> None:
    """Flows that went down and up while pipelined was away are up since the setup, and nothing interrupts them.

    Told as decided they would go down once more and come up under the version that was counted already.
    """
    async with gateway(ready=False) as at:
        pipelined = Pipelined(at.data_plane)
        at.policy.usually("create", VIDEO)
        await at.report(*pipelined.table(), epoch=pipelined.epoch)
        key = await at.attach(ue())

        async def carry(octets: int) -> None:
            pipelined.traffic(octets)
            rows = pipelined.table()
            await at.report(*rows, epoch=pipelined.epoch, counters_restart=pipelined.counters_restarted)
            pipelined.taken(rows)

        await carry(100)
        pipelined.stop()
        change = PolicyChange(remove=("video",), installs=static("video"))
        await at.application.manager.policy_reauth(ue().subscriber, key, change)
        await at.settle()
        pipelined.start(switch_too=switch_too)
        await carry(0)
        await carry(30)
        held = at.data_plane.hold("activate")
        await at.advance(60_000)
        await carry(7)
        held.release()
        await at.settle()
        await carry(5)
        session = await at.session(key)
        assert session.credits["1"].used_tx == pipelined.moved[key, "video"] == 142
        assert (session.effects, at.telemetry.ignored) == ({}, {})


async def test_a_set_up_pipelined_hears_what_waited(at: SimulatedGateway) -> None:
    """If it was only the daemon that restarted, nothing is installed by the setup: what waits is told after it."""
    (session,) = await at.sessions()
    at.data_plane.usually("deactivate", unreachable())
    change = PolicyChange(remove=("video",), installs=static("video", "web"))
    await at.application.manager.policy_reauth(ue().subscriber, session.key, change)
    await at.settle()
    await at.restart()
    assert at.data_plane.calls("set_up")[-1].arguments[0] == 1
    at.data_plane.forget()
    await at.advance(60_000)
    _, effect = at.data_plane.flows[-1]
    assert set(effect.rules) == {VersionedRule("web", 1), VersionedRule("video", 3)}


async def test_closing_ends_the_attempts(at: SimulatedGateway) -> None:
    """A daemon that stops sets nothing up any more."""
    at.data_plane.usually("set_up", SetupResult.FAILURE)
    await at.report(epoch=2)
    await at.close()
    await at.advance(60_000)
    assert epochs(at) == [1, 2]


async def test_an_operator_sees_how_far_a_setup_is() -> None:
    """Not ready before the first table, setting up while pipelined is asked, and not ready again after a failure."""
    async with gateway(ready=False) as at:
        seen = [at.application.resync.readiness]
        held = at.data_plane.hold("set_up")
        await at.report(epoch=1)
        seen.append(at.application.resync.readiness)
        held.release(SetupResult.FAILURE)
        await at.settle()
        seen.append(at.application.resync.readiness)
        await at.advance(60_000)
        seen.append(at.application.resync.readiness)
    assert seen == [Readiness.NOT_READY, Readiness.SETTING_UP, Readiness.NOT_READY, Readiness.READY]
