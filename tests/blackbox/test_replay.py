"""The recorded traffic of a production gateway, if it lies beside this checkout."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT, create_subprocess_exec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.blackbox, pytest.mark.slow, pytest.mark.timeout(300)]

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
AT_ONCE = 5
"""A scenario mostly waits for timers, so that many can run at once."""


async def replayed(scenario: str, slots: asyncio.Semaphore) -> str:
    """Replay a scenario; return what is wrong, or nothing."""
    command = [sys.executable, "replay.py", scenario, "--command", f"{sys.executable} -m sessiond --config {{config}}"]
    async with slots:
        process = await create_subprocess_exec(*command, cwd=GOLDEN, stdout=PIPE, stderr=STDOUT, start_new_session=True)
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.terminate()  # it stops its daemon then
                await process.wait()
    return "" if process.returncode == 0 else f"exit status {process.returncode}\n{output.decode()}"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no recorded traffic in ../shared/golden beside this checkout")
async def test_recorded_traffic_is_answered_as_it_should_be() -> None:
    """Every recorded scenario passes: each answer, and each message to a peer in its place."""
    scenarios = sorted(path.stem for path in GOLDEN.glob("[0-9]*.json"))
    assert scenarios
    slots = asyncio.Semaphore(AT_ONCE)
    outcomes = await asyncio.gather(*(replayed(scenario, slots) for scenario in scenarios))
    assert {name: wrong for name, wrong in zip(scenarios, outcomes, strict=True) if wrong} == {}
