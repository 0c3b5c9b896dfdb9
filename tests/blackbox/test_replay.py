"""The recorded traffic of a production gateway, if it lies beside this checkout."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT, create_subprocess_exec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.blackbox, pytest.mark.slow, pytest.mark.timeout(300)]

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
ATTEMPTS = 3
PORT_TAKEN = "cannot listen on"
"""The tool looks for free ports for the daemon and lets go of them; another test may be given one before it starts."""
AT_ONCE = 5
"""A scenario mostly waits for timers, so that many can run at once."""


async def replayed(scenario: str, slots: asyncio.Semaphore) -> str:
    """Replay a scenario; return what is wrong, or nothing."""
    output = ""
    for _ in range(ATTEMPTS):
        async with slots:
            status, output = await replay(scenario)
        if status == 0:
            return ""
        if PORT_TAKEN not in output:
            break
    return output


async def replay(scenario: str) -> tuple[int | None, str]:
    """Run the tool on one scenario; return its exit status and what it says."""
    daemon = f"{sys.executable} -m sessiond --config {{config}}"
    command = [sys.executable, "replay.py", scenario, "--command", daemon]
    process = await create_subprocess_exec(*command, cwd=GOLDEN, stdout=PIPE, stderr=STDOUT, start_new_session=True)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # it stops its daemon then
            await process.wait()
    return process.returncode, output.decode()


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no recorded traffic in ../shared/golden beside this checkout")
async def test_recorded_traffic_is_answered_as_it_should_be() -> None:
    """Every recorded scenario passes: each answer, and each message to a peer in its place."""
    scenarios = sorted(path.stem for path in GOLDEN.glob("[0-9]*.json"))
    assert scenarios
    slots = asyncio.Semaphore(AT_ONCE)
    outcomes = await asyncio.gather(*(replayed(scenario, slots) for scenario in scenarios))
    assert {name: wrong for name, wrong in zip(scenarios, outcomes, strict=True) if wrong} == {}
