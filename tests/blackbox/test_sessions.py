"""Sessions that meet: two APNs of one subscriber, attaches that are repeated, changed, or come before an end."""

import asyncio
from pathlib import Path

import pytest

from tests.blackbox.harness import Gateway, gateway, refusal
from tests.blackbox.messages import GRANT, Device, allowed, amounts, quota
from tests.blackbox.peers import answering

pytestmark = pytest.mark.blackbox

INTERNET = Device(1)
IMS = Device(1, apn="ims", bearer_id=6)


async def shown(whole: Gateway) -> dict[str, list[str]]:
    """Return the states of the sessions of the subscriber, by APN."""
    apns = (await whole.states()).get(INTERNET.subscriber, {})
    return {apn: [session["lifecycle_state"] for session in sessions] for apn, sessions in apns.items()}


async def test_two_apns_of_one_subscriber(tmp_path: Path) -> None:
    """Each APN has a session of its own: tunnels, usage, reports and end of one are nothing to the other."""
    async with gateway(tmp_path) as whole:
        whole.policy.create.behaviour = answering(
            lambda request: allowed(
                request.session_id,
                quotas=[quota(request.session_id, GRANT if request.common_context.apn == "ims" else 10 * GRANT)],
            )
        )
        internet, ims = await whole.attach(INTERNET), await whole.attach(IMS)
        assert internet != ims
        tunnels = {request.ip_addr: request.uplink_tunnel for request in whole.pipelined.activate.requests}
        assert tunnels == {INTERNET.ue_ipv4: INTERNET.tunnels().agw_teid, IMS.ue_ipv4: IMS.tunnels().agw_teid}
        await whole.report(INTERNET.used(GRANT, 1), IMS.used(GRANT, 2))
        (report,) = await whole.policy.update.asked()
        assert [(update.session_id, update.usage.bytes_rx) for update in report.updates] == [(ims, 2)]
        assert amounts(await whole.detach(INTERNET, IMS.used(GRANT, 2))) == [(GRANT, 1)]
        assert await shown(whole) == {"ims": ["SESSION_ACTIVE"]}
        assert whole.directoryd.records.keys() == {INTERNET.subscriber}
        await whole.eventd.heard("session_updated", IMS.subscriber)
        assert amounts(await whole.detach(IMS)) == [(0, 0)]
        await whole.changes.until(lambda: not whole.directoryd.records, "no record")


async def test_attach_that_is_repeated(tmp_path: Path) -> None:
    """The same attach again, before or after the tunnels stand, is the same session, and nobody is asked again."""
    async with gateway(tmp_path) as whole:
        session_id = await whole.create(INTERNET)
        assert await whole.create(INTERNET) == session_id
        await whole.sessions.UpdateTunnelIds(INTERNET.tunnels())
        assert await whole.create(INTERNET) == session_id
        await whole.directoryd.write.asked(count=3, wanted=lambda record: record.fields["session_id"] == session_id)
        assert len(whole.policy.create.requests) == 1
        assert await shown(whole) == {"internet": ["SESSION_ACTIVE"]}


async def test_attaches_at_the_same_time(tmp_path: Path) -> None:
    """Ten equal attaches at once are one session: the others wait for the first and find it."""
    async with gateway(tmp_path) as whole:
        sessions = await asyncio.gather(*(whole.create(INTERNET) for _ in range(10)))
        assert len(set(sessions)) == 1
        assert len(whole.policy.create.requests) == 1


async def test_attach_that_changed_replaces_the_session(tmp_path: Path) -> None:
    """An attach of the same APN from elsewhere ends the old session with all its usage, and begins a new one (G1)."""
    async with gateway(tmp_path) as whole:
        old = await whole.attach(INTERNET)
        await whole.report(INTERNET.used(700, 70))
        new = await whole.create(INTERNET, imei="another device")
        assert new != old
        assert await shown(whole) == {"internet": ["SESSION_RELEASED", "SESSION_ACTIVE"]}
        (down,) = await whole.pipelined.deactivate.asked()
        assert (down.ip_addr, down.remove_default_drop_flows) == (INTERNET.ue_ipv4, True)
        assert amounts(await whole.report_until_ended(old)) == [(700, 70)]
        assert whole.spgw.delete_bearer.requests == []  # the MME knows: it asked for it
        await whole.sessions.UpdateTunnelIds(INTERNET.tunnels())
        assert await shown(whole) == {"internet": ["SESSION_ACTIVE"]}
        assert (await whole.detach(INTERNET)).session_id == new


async def test_quick_attach_after_the_end(tmp_path: Path) -> None:
    """While the old session of an address still waits for its usage, each record counts where it belongs (G13)."""
    async with gateway(tmp_path) as whole:
        old = await whole.attach(INTERNET)
        await whole.report(INTERNET.used(100, 10))
        await whole.sessions.EndSession(INTERNET.end())
        new = await whole.create(INTERNET)
        await whole.sessions.UpdateTunnelIds(INTERNET.tunnels())
        assert new != old
        assert await shown(whole) == {"internet": ["SESSION_RELEASED", "SESSION_ACTIVE"]}
        activated = await whole.pipelined.activate.asked(count=2)
        version = activated[-1].policies[0].version
        # The old flows are still counted for the old session, those of the new version for the new one.
        await whole.report(INTERNET.used(150, 15), INTERNET.used(9, 8, version=version))
        ended = await whole.report_until_ended(old, INTERNET.used(9, 8, version=version))
        assert amounts(ended) == [(150, 15)]
        end = await whole.detach(INTERNET)
        assert (end.session_id, amounts(end)) == (new, [(9, 8)])


async def test_end_hits_the_session_that_is_there(tmp_path: Path) -> None:
    """EndSession after a quick attach ends the new session, not the one that ends already (G13)."""
    async with gateway(tmp_path) as whole:
        await whole.attach(INTERNET)
        await whole.sessions.EndSession(INTERNET.end())
        new = await whole.create(INTERNET)
        await whole.sessions.EndSession(INTERNET.end())
        assert await shown(whole) == {"internet": ["SESSION_RELEASED", "SESSION_RELEASED"]}
        await whole.sessions.EndSession(INTERNET.end())
        await whole.report_until_ended(new)
        assert (await refusal(whole.sessions.EndSession(INTERNET.end()))).text == "Session not found"


async def test_end_waits_for_pipelined_only_so_long(tmp_path: Path) -> None:
    """Without another table of pipelined a session is over after session_force_termination_timeout_ms."""
    async with gateway(tmp_path, session_force_termination_timeout_ms=300) as whole:
        await whole.attach(INTERNET)
        await whole.report(INTERNET.used(5, 6))
        await whole.sessions.EndSession(INTERNET.end())
        (end,) = await whole.policy.terminate.asked()
        assert amounts(end) == [(5, 6)]
