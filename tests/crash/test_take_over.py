"""A daemon that was only stopped, and wakes when another one owns the sessions, does nothing to them any more."""

import pytest

from tests.crash.daemon import UNFENCED
from tests.crash.take_over import take_overs
from tests.crash.world import Failed

pytestmark = [pytest.mark.blackbox, pytest.mark.slow]

ROUNDS = 3


async def test_a_daemon_that_wakes_up_too_late() -> None:
    """It writes nothing, acknowledges nothing, says that it was taken over, serves no more, and ends with status 3."""
    tally = await take_overs(seed=1, rounds=ROUNDS)
    assert tally.kills["take-over"] == ROUNDS


async def test_a_daemon_that_goes_on_writing_is_found_out() -> None:
    """If the store did not keep the older one from writing, its writes, or those who meet them, would say so."""
    with pytest.raises(Failed, match=r"stale write|acknowledged|was refused"):
        await take_overs(seed=1, rounds=2, sabotage=UNFENCED, rest_s=2.0)
