"""What is heard of a peer that is configured away."""

import pytest
import structlog

from sessiond.app.ports.peers import SetupResult, UnknownFlows, UsageReport
from sessiond.core.effects import ActivateFlows, CreateBearer, DeactivateFlows, DeleteBearer, LogEvent, VersionedRule
from sessiond.core.errors import PeerFailed
from sessiond.core.rules import Teids
from sessiond.southbound.absent import NoAccess, NoDataPlane, NoDirectory, NoEvents, NoPolicyController
from tests.southbound import recorded

SESSION = recorded.session("a-1")


async def test_without_a_policy_controller_no_session_is_allowed() -> None:
    """The refusal says which key is missing, and that nothing was carried out."""
    with pytest.raises(PeerFailed, match=r"peers\.session_proxy") as caught:
        await NoPolicyController().create(SESSION)
    assert (caught.value.status, caught.value.answered, caught.value.reached) == ("UNAVAILABLE", True, False)


async def test_without_a_policy_controller_usage_stays_unreported() -> None:
    """Nobody has taken the usage, so that it is not lost if there is a policy controller one day."""
    (request,) = NoPolicyController().requests([UsageReport(SESSION, frozenset({1}))], 1)
    with pytest.raises(PeerFailed) as caught:
        await request.send()
    assert caught.value.answered


async def test_without_a_policy_controller_ends_concern_nobody() -> None:
    """A session that was left over can end."""
    peer = NoPolicyController()
    await peer.terminate(SESSION)
    await peer.terminate_stale("IMSI1", "IMSI1-1")


async def test_without_a_data_plane_everything_is_installed() -> None:
    """The daemon runs without pipelined: it is set up, no rule fails, and nothing is left to be done."""
    peer = NoDataPlane()
    effect = ActivateFlows(teids=Teids(), rules=(VersionedRule("any", 1),))
    assert await peer.set_up(1, [SESSION], {}) is SetupResult.SUCCESS
    assert await peer.activate(SESSION, effect, {}) == ()
    await peer.deactivate(SESSION, DeactivateFlows(teids=Teids(), everything=True))
    await peer.deactivate_unknown(UnknownFlows("IMSI1"))


async def test_bystanders_are_not_missed() -> None:
    """Without the MME, directoryd and eventd, what they would be told is dropped."""
    access, directory, events = NoAccess(), NoDirectory(), NoEvents()
    await access.create_bearer(SESSION, CreateBearer(rules=("any",)), {})
    await access.delete_bearer(SESSION, DeleteBearer(bearer_ids=(5,)))
    await directory.write(SESSION)
    await directory.delete("IMSI1")
    assert await directory.sessions() == []
    await events.log(LogEvent("session_created", {}))


async def test_absence_is_logged_once() -> None:
    """The log says that a peer is missed the first time, and is not filled with it."""
    peer = NoEvents()
    with structlog.testing.capture_logs() as logs:
        await peer.log(LogEvent("session_created", {}))
        await peer.log(LogEvent("session_created", {}))
    assert logs == [{"event": "peer_absent", "log_level": "debug", "peer": "eventd"}]


async def test_stand_ins_are_closed_like_peers() -> None:
    """Who closes all peers need not know which of them are real."""
    for stand_in in (NoPolicyController(), NoDataPlane(), NoAccess(), NoDirectory(), NoEvents()):
        await stand_in.close()
