"""A daemon that comes back without its sessions: what the last run left at the peers is cleaned up."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from sessiond.pb.magma.lte.session_proxy_pb2 import SessionTerminateRequest
from sessiond.pb.magma.orc8r.directory_pb2 import AllDirectoryRecords
from tests.blackbox.harness import Gateway, gateway
from tests.blackbox.messages import Device
from tests.blackbox.peers import hanging

pytestmark = pytest.mark.blackbox

DEVICES = [Device(1), Device(2), Device(3)]


async def started_again(whole: Gateway, number: signal.Signals = signal.SIGKILL) -> None:
    """End the daemon and start it again."""
    status = await whole.daemon.stop(number)
    assert status == (0 if number is signal.SIGTERM else -number)
    await whole.start()


async def attached(whole: Gateway) -> dict[str, Device]:
    """Let some devices attach, and wait until the directory knows them; return them by session."""
    sessions = {await whole.attach(device): device for device in DEVICES}
    await whole.changes.until(lambda: len(whole.directoryd.records) == len(DEVICES), "a record for each")
    return sessions


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_sessions_of_the_last_run_are_ended(tmp_path: Path, number: signal.Signals) -> None:
    """The policy side hears the end of each session that the directory still knows, and its record goes."""
    async with gateway(tmp_path) as whole:
        sessions = await attached(whole)
        await started_again(whole, number)
        ends = await whole.policy.terminate.asked(count=len(sessions))
        named = {end.session_id: end.common_context.sid.id for end in ends}
        assert named == {session_id: device.subscriber for session_id, device in sessions.items()}
        for end in ends:  # nothing else is known of it (reference: lifecycle.md 5)
            end.ClearField("session_id")
            end.ClearField("common_context")
            assert end == SessionTerminateRequest()
        await whole.changes.until(lambda: not whole.directoryd.records, "no record")
        assert await whole.states() == {}


async def test_flows_of_the_last_run_are_taken_down(tmp_path: Path) -> None:
    """Pipelined, which ran on, is set up with no flows, and those that it still counts are removed."""
    device = DEVICES[0]
    async with gateway(tmp_path) as whole:
        await whole.attach(device)
        await started_again(whole)
        whole.pipelined.set_up_policies.requests.clear()
        await whole.set_up()
        (setup,) = whole.pipelined.set_up_policies.requests
        assert list(setup.requests) == []
        await whole.report(device.used(100, 100))
        (down,) = await whole.pipelined.deactivate.asked()
        assert (down.sid.id, down.ip_addr) == (device.subscriber, device.ue_ipv4)


async def test_session_of_this_run_is_not_taken_for_one_of_the_last(tmp_path: Path) -> None:
    """A device that comes back before the clean-up keeps its new session and record; its old session is ended."""
    device, came_back = DEVICES[0], asyncio.Event()
    async with gateway(tmp_path) as whole:
        old = next(session_id for session_id, each in (await attached(whole)).items() if each is device)
        normal = whole.directoryd.read_all.behaviour

        async def outdated(request: Any, context: Any) -> AllDirectoryRecords:
            records: AllDirectoryRecords = await normal(request, context)
            await came_back.wait()
            return records

        whole.directoryd.read_all.behaviour = outdated
        await started_again(whole)
        await whole.set_up()
        new = await whole.attach(device)
        await whole.changes.until(
            lambda: whole.directoryd.records[device.subscriber]["session_id"] == new, "the new record"
        )
        came_back.set()
        ends = await whole.policy.terminate.asked(count=len(DEVICES))
        assert old in {end.session_id for end in ends}
        assert new not in {end.session_id for end in ends}
        await whole.changes.until(lambda: len(whole.directoryd.records) == 1, "one record")
        assert whole.directoryd.records[device.subscriber]["session_id"] == new
        assert (await whole.states()).keys() == {device.subscriber}


async def test_clean_up_waits_for_the_policy_controller(tmp_path: Path) -> None:
    """While the policy side is away no record is deleted; five seconds later it is tried again."""
    async with gateway(tmp_path) as whole:
        sessions = await attached(whole)
        await whole.policy.kill()
        await started_again(whole)
        await whole.daemon.logged("stale_session_not_ended", count=len(sessions))
        assert len(whole.directoryd.records) == len(sessions)
        await whole.policy.start()
        await whole.policy.terminate.asked(count=len(sessions))
        await whole.changes.until(lambda: not whole.directoryd.records, "no record")


async def test_nobody_waits_for_the_clean_up(tmp_path: Path) -> None:
    """A directory that hangs does not keep the daemon from being ready and creating sessions."""
    async with gateway(tmp_path) as whole:
        await attached(whole)
        whole.directoryd.read_all.behaviour = hanging
        await started_again(whole)
        await whole.set_up()
        await whole.attach(Device(9))
