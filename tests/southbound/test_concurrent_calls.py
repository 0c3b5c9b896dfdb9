"""Many calls at once over one connection: each caller hears its own answer."""

import asyncio

from sessiond.app.ports.peers import UsageReport
from sessiond.pb.magma.lte import session_proxy_pb2
from sessiond.southbound.policy.peer import PolicyController
from tests.southbound import recorded
from tests.southbound.fakes import FakePeer
from tests.southbound.test_peers import policy, reporting, talking, update


async def test_one_call_has_its_answer() -> None:
    """A report that is sent is answered to the one who sent it.

    reference: SessionReporterTest.test_single_call.
    """
    response = session_proxy_pb2.UpdateSessionResponse()
    response.responses.add(session_id="a-1", charging_key=1, success=True, result_code=2001)
    async with talking(policy, FakePeer(UpdateSession=response)) as peer:
        answers = await update(peer, [UsageReport(reporting(), frozenset({1}))])
    assert [reply.answer.key for reply in answers["a-1"].credits] == ["1"]


async def test_each_of_several_calls_has_its_own_answer() -> None:
    """Answers come in the opposite order of the calls, and find their callers all the same.

    reference: SessionReporterTest.test_multi_call.
    """
    waiting: list[asyncio.Event] = []

    async def last_first(request: bytes, _: object) -> bytes:
        """Wait until there are three calls, then for the one that came after this one."""
        mine = asyncio.Event()
        waiting.append(mine)
        if len(waiting) == 3:
            mine.set()
        await mine.wait()
        if (before := waiting.index(mine) - 1) >= 0:
            waiting[before].set()
        method = fake.calls[waiting.index(mine)][0]
        if method == "CreateSession":
            asked = session_proxy_pb2.CreateSessionRequest.FromString(request)
            created = session_proxy_pb2.CreateSessionResponse()
            created.static_rules.add(rule_id=f"rule of {asked.session_id}")
            return created.SerializeToString()
        return session_proxy_pb2.UpdateSessionResponse().SerializeToString()

    fake = FakePeer(last_first)
    async with talking(policy, fake) as peer:
        first, second, update = await asyncio.gather(_create(peer, "a-1"), _create(peer, "a-2"), _update(peer))
    assert (first, second) == (["rule of a-1"], ["rule of a-2"])
    assert update == {"a-3": frozenset({1})}


async def _create(peer: PolicyController, key: str) -> list[str]:
    return [install.id for install in (await peer.create(recorded.session(key))).installs]


async def _update(peer: PolicyController) -> dict[str, frozenset[int]]:
    answers = await update(peer, [UsageReport(reporting("a-3"), frozenset({1}))])
    return {key: answer.numbers for key, answer in answers.items()}
