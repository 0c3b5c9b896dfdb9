"""Notifications: everybody hears of everything in order, nobody is waited for, and who is stuck is cut off."""

import asyncio
from collections.abc import Iterator

import pytest

from sessiond.app.commit import Outcome
from sessiond.app.notifications import Notifications, Subscription
from sessiond.core.errors import ResourceExhausted
from sessiond.core.lifecycle import State
from sessiond.core.session import Head, Session
from sessiond.testing.loop import settle

LIMIT = 3


def outcome(number: int) -> Outcome:
    """Return something that has happened."""
    return Outcome(None, Session(key=str(number), type="t", scope="s", head=Head(state=State.ACTIVE, created_at_ms=0)))


def by_parity(what: Outcome) -> Iterator[tuple[str, int]]:
    """Tell of even and odd numbers apart."""
    number = int(what.after.key)
    yield "odd" if number % 2 else "even", number


@pytest.fixture
def hub() -> Notifications[str, int]:
    """Return a hub whose subscribers may fall behind by `LIMIT`."""
    return Notifications(by_parity, LIMIT)


def listen(hub: Notifications[str, int], topic: str) -> tuple[list[int], "asyncio.Task[None]"]:
    """Return what a subscriber has heard so far, and the subscriber."""
    heard: list[int] = []

    async def run() -> None:
        with hub.subscribe(topic) as subscription:
            async for number in subscription:
                heard.append(number)  # noqa: PERF401, one at a time is the point

    return heard, asyncio.create_task(run())


async def gone(task: "asyncio.Task[None]") -> None:
    """Let a subscriber go."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_topic_is_heard_in_order(hub: Notifications[str, int]) -> None:
    """Subscribers hear of their topic, all of it, in the order in which it happened."""
    (even, first), (also_even, second), (odd, third) = (listen(hub, topic) for topic in ("even", "even", "odd"))
    await settle()
    for number in range(6):
        hub.observe(outcome(number))
    await settle()
    assert (even, also_even, odd) == ([0, 2, 4], [0, 2, 4], [1, 3, 5])
    assert hub.counts() == {"even": 2, "odd": 1}
    for task in (first, second, third):
        await gone(task)
    assert hub.counts() == {}


async def test_there_is_no_history(hub: Notifications[str, int]) -> None:
    """Who comes later hears of nothing that was before."""
    hub.observe(outcome(0))
    heard, task = listen(hub, "even")
    await settle()
    hub.observe(outcome(2))
    await settle()
    assert heard == [2]
    await gone(task)


async def test_who_waits_has_taken_it_when_it_is_handed_over(hub: Notifications[str, int]) -> None:
    """Once it is handed over, every subscriber that waited has taken what happened."""
    listening = [listen(hub, "even") for _ in range(20)]
    await settle()
    hub.observe(outcome(4))
    assert [heard for heard, _ in listening] == [[]] * 20
    await hub.handed_over()
    assert [heard for heard, _ in listening] == [[4]] * 20
    for _, task in listening:
        await gone(task)


async def test_nothing_is_waited_for_without_subscribers(hub: Notifications[str, int]) -> None:
    """With nobody to tell, handing over does not even let others run."""
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await hub.handed_over()
    assert turns == []


async def test_who_does_not_take_is_cut_off(hub: Notifications[str, int]) -> None:
    """A full queue ends the subscription: what was in it is dropped, the reason is said, and others hear on."""
    heard, task = listen(hub, "even")
    await settle()
    with hub.subscribe("even") as stuck:
        for number in range(0, 2 * LIMIT + 2, 2):
            hub.observe(outcome(number))
            await settle()
        assert hub.counts() == {"even": 1}
        with pytest.raises(ResourceExhausted) as caught:
            await anext(stuck)
    assert caught.value.reason == "SUBSCRIBER_TOO_SLOW"
    assert heard == [0, 2, 4, 6]
    await gone(task)


async def test_who_is_stuck_elsewhere_is_called(hub: Notifications[str, int]) -> None:
    """A subscriber that is stuck in telling somebody else can be reached, once."""
    calls: list[int] = []
    with hub.subscribe("even") as stuck:
        stuck.when_cut_off(lambda: calls.append(1))
        for number in range(0, 4 * LIMIT, 2):
            hub.observe(outcome(number))
    assert calls == [1]


async def test_who_waits_is_never_behind(hub: Notifications[str, int]) -> None:
    """A burst as long as the queue, with no turn of the loop in between, arrives whole."""
    heard, task = listen(hub, "even")
    await settle()
    for number in range(0, 2 * LIMIT, 2):
        hub.observe(outcome(number))
    await settle()
    assert heard == [0, 2, 4]
    await gone(task)


async def test_a_burst_beyond_the_queue_reaches_who_waits_as_a_cut(hub: Notifications[str, int]) -> None:
    """A subscriber that waits is told by its very wait that it has been cut off."""
    calls: list[int] = []
    subscription: Subscription[str, int] = hub.subscribe("even")
    with subscription:
        subscription.when_cut_off(lambda: calls.append(1))
        waiting = asyncio.ensure_future(anext(subscription))
        await settle()
        for number in range(0, 2 * LIMIT + 2, 2):
            hub.observe(outcome(number))
        with pytest.raises(ResourceExhausted):
            await waiting
    assert calls == []


async def test_who_leaves_is_gone_at_once(hub: Notifications[str, int]) -> None:
    """A subscriber that is cancelled while it waits leaves nothing behind, and others are told as before."""
    _, leaving = listen(hub, "even")
    heard, staying = listen(hub, "even")
    await settle()
    leaving.cancel()
    await settle()
    assert hub.counts() == {"even": 1}
    hub.observe(outcome(2))
    await settle()
    assert heard == [2]
    await gone(staying)
