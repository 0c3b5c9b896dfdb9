"""A daemon that is killed, wherever it is, goes on as if nothing were: one kill at each step (scripts/kill: many)."""

import pytest

from tests.crash.campaign import episode
from tests.crash.daemon import HASTY
from tests.crash.steps import AFTER_STEPS, BEFORE_STEPS, LOAD_STEPS, LOST_STEPS, MOMENTS, REPLY_SENT, STORE_STEPS
from tests.crash.world import Failed

pytestmark = [pytest.mark.blackbox, pytest.mark.slow]

WORK = {
    "in its own work": (*STORE_STEPS, *LOAD_STEPS, REPLY_SENT, *MOMENTS),
    "before a peer is told": BEFORE_STEPS,
    "after a peer has answered": AFTER_STEPS,
    "while a peer answers": LOST_STEPS,
}


@pytest.mark.parametrize("steps", WORK.values(), ids=WORK)
async def test_a_kill_at_every_step(steps: tuple[str, ...]) -> None:
    """Nothing acknowledged is lost, nothing is done by halves, nothing is counted twice, and all is told in the end."""
    tally = await episode(seed=1, kills=len(steps), steps=steps, patient=False)
    assert tally.kills.total() == len(steps)
    assert tally.octets > 0


async def test_kills_while_the_store_fails() -> None:
    """The same holds if the store is cut off, answers late, or its replies get lost, again and again."""
    tally = await episode(seed=1, kills=8, steps=(*STORE_STEPS, *MOMENTS), patient=False, faults=True)
    assert tally.octets > 0


@pytest.mark.parametrize(
    ("sabotage", "noticed"),
    [
        (HASTY, "."),
        ("policy.terminate", "the policy side thinks it is there"),
        ("data_plane.deactivate", "is up, and no session wants it"),
    ],
)
async def test_a_daemon_that_does_it_wrong_is_found_out(sabotage: str, noticed: str) -> None:
    """What these tests look at would not be as it is if the daemon acknowledged too early, or forgot a call."""
    with pytest.raises(Failed, match=noticed):
        await episode(seed=1, kills=20, steps=MOMENTS[:1], patient=False, sabotage=sabotage, rest_s=2.0)
