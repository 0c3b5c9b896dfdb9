"""Answers that are lost: the policy side took a request and died before we heard of it."""

from pathlib import Path

import pytest

from sessiond.pb.magma.lte.session_proxy_pb2 import UpdateSessionRequest
from tests.blackbox.harness import Gateway, gateway
from tests.blackbox.messages import GRANT, Device, amounts
from tests.blackbox.peers import answering, hanging, refill

pytestmark = pytest.mark.blackbox

DEVICES = [Device(1), Device(2)]


async def lost(whole: Gateway) -> UpdateSessionRequest:
    """Let a report of two sessions reach the policy controller, which dies before it answers; return the report."""
    for device in DEVICES:
        await whole.attach(device)
    whole.policy.update.behaviour = hanging
    await whole.report(*(device.used(GRANT, device.number) for device in DEVICES))
    (request,) = await whole.policy.update.asked()
    assert len(request.updates) == len(DEVICES)
    await whole.policy.kill()
    await whole.daemon.logged("usage_report_failed")
    whole.policy.update.behaviour = answering(refill)
    return request


async def use_on_and_end(whole: Gateway) -> None:
    """Use some more, end, and hold that this is all that is still reported."""
    for device in DEVICES:
        await whole.eventd.heard("session_updated", device.subscriber)
    more = {device: device.used(GRANT + 50, device.number + 5) for device in DEVICES}
    await whole.report(*more.values())
    for device in DEVICES:
        del more[device]
        assert amounts(await whole.detach(device, *more.values())) == [(50, 5)]


async def test_report_whose_answer_is_lost_is_repeated(tmp_path: Path) -> None:
    """The same request comes again, number and amounts included, although more was used meanwhile."""
    async with gateway(tmp_path) as whole:
        request = await lost(whole)
        await whole.policy.start()
        await whole.report(*(device.used(GRANT + 50, device.number + 5) for device in DEVICES))
        _, repeated = await whole.policy.update.asked(count=2)
        assert sorted(repeated.updates, key=str) == sorted(request.updates, key=str)
        await use_on_and_end(whole)
        assert len(whole.policy.update.requests) == 2


async def test_report_stays_the_same_while_the_policy_controller_is_away(tmp_path: Path) -> None:
    """Attempts that certainly did not get through do not make it certain that the first one did not either."""
    async with gateway(tmp_path) as whole:
        request = await lost(whole)
        await whole.daemon.logged("usage_report_failed", count=2)
        await whole.report(*(device.used(GRANT + 50, device.number + 5) for device in DEVICES))
        await whole.policy.start()
        _, repeated = await whole.policy.update.asked(count=2)
        assert sorted(repeated.updates, key=str) == sorted(request.updates, key=str)
        await use_on_and_end(whole)


async def test_end_waits_for_a_report_in_doubt(tmp_path: Path) -> None:
    """A session that ends meanwhile is reported as over only when its report is taken, so that nothing counts twice."""
    async with gateway(tmp_path) as whole:
        request = await lost(whole)
        for device in DEVICES:
            await whole.sessions.EndSession(device.end())
        await whole.report(*(device.used(GRANT + 50, device.number + 5) for device in DEVICES))
        await whole.policy.start()
        _, repeated = await whole.policy.update.asked(count=2)
        assert sorted(repeated.updates, key=str) == sorted(request.updates, key=str)
        for update in request.updates:
            assert amounts(await whole.report_until_ended(update.session_id)) == [(50, 5)]
        assert len(whole.policy.update.answered) == 1


async def test_end_whose_answer_is_lost_is_repeated(tmp_path: Path) -> None:
    """The same last report comes again until it is answered, and then no more."""
    device = DEVICES[0]
    async with gateway(tmp_path) as whole:
        await whole.attach(device)
        await whole.report(device.used(70, 7))
        normal, whole.policy.terminate.behaviour = whole.policy.terminate.behaviour, hanging
        await whole.detach(device)
        await whole.policy.kill()
        await whole.daemon.logged("peer_failed", peer="session_proxy")
        whole.policy.terminate.behaviour = normal
        await whole.policy.start()
        first, second = await whole.policy.terminate.asked(count=2)
        assert first == second
        assert amounts(first) == [(70, 7)]
        await whole.changes.until(lambda: whole.policy.terminate.answered, "an answer")
        assert await whole.daemon.stop() == 0
        assert len(whole.policy.terminate.requests) == 2
