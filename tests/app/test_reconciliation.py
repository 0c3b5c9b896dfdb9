"""After a restart the access side says which sessions stand; a question without an answer says nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessiond.app.reconciliation import ANSWERS, BETWEEN_ANSWERS_MS, LAST_PAUSE_MS
from sessiond.core.decide.attachment import Attachment
from sessiond.core.lifecycle import State
from sessiond.core.session import Context
from sessiond.testing.gateway import TEIDS, SimulatedGateway, row
from sessiond.testing.peers import refused, silent, unreachable
from tests.app.scenes import VIDEO, gateway, ue, wifi
from tests.app.stores import TroubledStore

ONE, TWO, THREE = ue(1), ue(2), ue(3)


@pytest.fixture
async def at() -> AsyncIterator[SimulatedGateway]:
    """Give a gateway with three sessions in force, of which the MME knows all."""
    async with gateway(TroubledStore()) as running:
        running.policy.usually("create", VIDEO)
        for context in (ONE, TWO, THREE):
            await running.attach(context)
            running.peers.attachments.attached.append(attachment(context))
        yield running


def attachment(context: Context) -> Attachment:
    """Return what the MME knows of a device."""
    return Attachment(subscriber=context.subscriber, apn=context.apn, ue_ipv4=context.ue_ipv4)


def leave(at: SimulatedGateway, *contexts: Context) -> None:
    """Let devices detach while nobody listens."""
    for context in contexts:
        at.peers.attachments.attached.remove(attachment(context))


async def restarted(at: SimulatedGateway) -> "asyncio.Task[None]":
    """Let the daemon die and come back, and begin to ask."""
    await at.restart()
    task = asyncio.create_task(at.application.reconciliation.run())
    await at.settle()
    return task


async def states(at: SimulatedGateway) -> dict[str, State]:
    """Return the state of each session, by subscriber."""
    return {session.scope: session.head.state for session in await at.sessions()}


async def test_who_left_meanwhile_is_ended_with_all_usage(at: SimulatedGateway) -> None:
    """Sessions that the MME does not know are reported as over, once, with what they used; the others go on."""
    await at.report(row(ONE, "video", 1, tx=300), row(TWO, "video", 1, tx=200))
    leave(at, ONE)
    task = await restarted(at)
    await at.advance(BETWEEN_ANSWERS_MS)
    await task
    await at.report(row(ONE, "video", 1, tx=500), row(TWO, "video", 1, tx=400))
    await at.report(row(TWO, "video", 1, tx=400))
    (ended,) = at.policy.terminated
    assert (ended.scope, ended.head.reason) == (ONE.subscriber, "NOT_ATTACHED")
    assert ended.credits["1"].used_tx == 500
    assert await states(at) == {TWO.subscriber: State.ACTIVE, THREE.subscriber: State.ACTIVE}
    assert at.access.calls("delete_bearer") == []
    assert at.telemetry.reconciliation == {"kept": 2, "ended": 1}
    assert at.application.reconciliation.unanswered() == {"mme": 0, "store": 0}


async def test_if_all_are_attached_one_answer_is_enough(at: SimulatedGateway) -> None:
    """Nothing changes."""
    await (await restarted(at))
    assert len(at.peers.attachments.calls("attachments")) == 1
    assert set((await states(at)).values()) == {State.ACTIVE}
    assert at.telemetry.reconciliation == {"kept": 3, "ended": 0}


async def test_one_answer_that_does_not_know_a_session_is_not_enough(at: SimulatedGateway) -> None:
    """An MME that starts too and knows nobody at first ends nobody."""
    everyone = list(at.peers.attachments.attached)
    leave(at, ONE, TWO, THREE)
    task = await restarted(at)
    at.peers.attachments.attached.extend(everyone)
    await at.advance(BETWEEN_ANSWERS_MS)
    await task
    assert len(at.peers.attachments.calls("attachments")) == ANSWERS
    assert set((await states(at)).values()) == {State.ACTIVE}


@pytest.mark.parametrize("failure", [refused(status="INTERNAL"), unreachable(), silent()], ids=lambda one: one.status)
async def test_no_answer_ends_nobody(at: SimulatedGateway, failure: Exception) -> None:
    """However long the MME does not answer, all sessions go on; when it does, the answer counts."""
    leave(at, ONE)
    at.peers.attachments.usually("attachments", failure)
    task = await restarted(at)
    await at.advance(10 * LAST_PAUSE_MS)
    assert set((await states(at)).values()) == {State.ACTIVE}
    assert at.application.reconciliation.unanswered()["mme"] == 1
    failures = sum(count for (peer, _), count in at.telemetry.failures.items() if peer == "mme")
    assert 10 <= failures <= 25
    await at.attach(ue(4))
    at.peers.attachments.forget()
    await at.advance(LAST_PAUSE_MS + BETWEEN_ANSWERS_MS)
    await task
    assert ONE.subscriber not in await states(at)
    assert (await states(at))[ue(4).subscriber] is State.ACTIVE


async def test_who_comes_after_the_question_is_not_ended_by_the_answer(at: SimulatedGateway) -> None:
    """A session that is created, attached again or moved while the question is on its way stands."""
    leave(at, ONE, TWO, THREE)
    bearer_id = TWO.lte.bearer_id if TWO.lte else 0
    held = [at.peers.attachments.hold("attachments") for _ in range(ANSWERS)]
    task = await restarted(at)
    held[0].release()
    await at.settle()
    await at.advance(BETWEEN_ANSWERS_MS)
    await at.application.manager.create_session(ONE)
    await at.application.manager.update_tunnel_ids(TWO.subscriber, bearer_id, TEIDS)
    await at.attach(ue(4))
    held[1].release()
    await at.settle()
    await task
    assert await states(at) == {
        ONE.subscriber: State.ACTIVE,
        TWO.subscriber: State.ACTIVE,
        THREE.subscriber: State.CLOSING,
        ue(4).subscriber: State.ACTIVE,
    }


async def test_who_ends_by_himself_keeps_his_reason(at: SimulatedGateway) -> None:
    """A session that is released while the question is on its way is not ended for another reason."""
    leave(at, ONE)
    held = at.peers.attachments.hold("attachments")
    task = await restarted(at)
    await at.detach(ONE)
    held.release()
    await at.advance(BETWEEN_ANSWERS_MS)
    await task
    (session,) = [one for one in await at.sessions() if one.scope == ONE.subscriber]
    assert session.head.reason == "ENDED"


async def test_a_store_that_is_away_ends_nobody(at: SimulatedGateway) -> None:
    """What cannot be read or written is read and written later."""
    store = at.store
    assert isinstance(store, TroubledStore)
    leave(at, ONE)
    task = await restarted(at)
    store.fail("get", 2)
    await at.advance(BETWEEN_ANSWERS_MS)
    assert set((await states(at)).values()) == {State.ACTIVE}
    await at.advance(LAST_PAUSE_MS)
    await task
    assert ONE.subscriber not in await states(at)


async def test_without_anybody_to_ask_all_sessions_stand(at: SimulatedGateway) -> None:
    """Nobody is configured: what is stored is taken as it is."""
    application = at.application
    application.reconciliation._access = None
    await application.reconciliation.run()
    assert at.peers.attachments.calls("attachments") == []


async def test_a_first_start_asks_nobody() -> None:
    """There is no session to ask about."""
    async with gateway() as at:
        await at.application.reconciliation.run()
        assert at.peers.attachments.calls("attachments") == []
        assert at.wifi.calls("add_sessions") == []


async def test_the_aaa_server_is_told_which_sessions_stand() -> None:
    """As soon as it is there, with those that stand then; the MME is not asked about them."""
    async with gateway() as at:
        at.policy.usually("create", VIDEO)
        keys = [await at.attach(wifi(number)) for number in (1, 2)]
        at.wifi.usually("add_sessions", unreachable())
        task = await restarted(at)
        await at.advance(5 * LAST_PAUSE_MS)
        await at.detach(wifi(2))
        at.wifi.forget()
        await at.advance(LAST_PAUSE_MS)
        await task
        (told,) = at.wifi.calls("add_sessions")[-1].arguments
        assert [session.key for session in told] == keys[:1]
        assert at.peers.attachments.calls("attachments") == []
        assert at.application.reconciliation.unanswered() == {"aaa": 0}
