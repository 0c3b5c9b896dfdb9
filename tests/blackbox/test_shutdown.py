"""SIGTERM: what was accepted is finished or refused, nobody is left without an answer, and it does not take long."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from sessiond.pb.magma.lte.session_proxy_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    SessionTerminateRequest,
    SessionTerminateResponse,
    UpdateSessionRequest,
    UpdateSessionResponse,
)
from sessiond.pb.magma.orc8r.common_pb2 import Void
from tests.blackbox.harness import Gateway, Refusal, gateway, refusal, refusal_of
from tests.blackbox.messages import GRANT, Device, allowed, amounts
from tests.blackbox.peers import hanging, refill

pytestmark = pytest.mark.blackbox

Code = grpc.StatusCode
IN_FLIGHT = 500
AT_MOST_S = 10.0
SHUTTING_DOWN = Refusal(Code.UNAVAILABLE, "sessiond is shutting down", "SHUTTING_DOWN", (), 2000)


async def outcome(call: Awaitable[object]) -> object:
    """Return what a call returns, or how it fails."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)


async def test_creates_in_flight_are_finished_or_refused(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Of 500 creates, those are OK that the policy side answers in time; all others are told to try again elsewhere."""
    gate = asyncio.Event()

    async def slow_or_silent(request: CreateSessionRequest, _: Any) -> CreateSessionResponse:
        await gate.wait()
        if int(request.common_context.sid.id.removeprefix("IMSI00101")) % 2:
            await asyncio.Event().wait()
        return allowed(request.session_id)

    async with gateway(tmp_path) as whole:
        whole.policy.create.behaviour = slow_or_silent
        calls = [asyncio.ensure_future(outcome(whole.create(Device(n)))) for n in range(IN_FLIGHT)]
        await whole.policy.create.asked(count=IN_FLIGHT)
        assert len(await whole.states()) == IN_FLIGHT
        began = asyncio.get_running_loop().time()
        whole.daemon.send(signal.SIGTERM)
        await whole.daemon.logged("stopping")
        gate.set()
        outcomes = await asyncio.gather(*calls)
        answered_s = asyncio.get_running_loop().time() - began
        assert await whole.daemon.ended(AT_MOST_S) == 0
        ended_s = asyncio.get_running_loop().time() - began

        created = {each for each in outcomes if isinstance(each, str)}
        assert created == {request.session_id for request in whole.policy.create.answered}
        assert len(created) == IN_FLIGHT // 2
        assert Counter(each for each in outcomes if not isinstance(each, str)) == {SHUTTING_DOWN: IN_FLIGHT // 2}
        assert answered_s <= ended_s < AT_MOST_S
        record_property("last_answer_s", round(answered_s, 2))
        record_property("exit_s", round(ended_s, 2))
        print(f"SIGTERM with {IN_FLIGHT} creates in flight: last answer {answered_s:.2f} s, exit {ended_s:.2f} s")


async def test_no_call_is_lost_in_a_stream_of_calls(tmp_path: Path) -> None:
    """While callers go on calling, each call is OK or UNAVAILABLE: none is cut off, none hangs."""

    async def keep_calling(whole: Gateway, caller: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        for turn in range(10_000):
            device = Device(caller * 500 + turn)
            calls = (whole.create(device), whole.report(device.used(turn, turn)), whole.service.GetServiceInfo(Void()))
            for each in await asyncio.gather(*(outcome(call) for call in calls)):
                seen[f"{each.code.name} {each.reason}: {each.text}" if isinstance(each, Refusal) else "OK"] += 1
            if seen["OK"] < 3 * (turn + 1):
                break
        return seen

    async with gateway(tmp_path) as whole:
        callers = [asyncio.ensure_future(keep_calling(whole, caller)) for caller in range(16)]
        await whole.policy.create.asked(count=100)
        whole.daemon.send(signal.SIGTERM)
        seen = sum(await asyncio.gather(*callers), Counter[str]())
        assert await whole.daemon.ended() == 0
        assert {each.partition(" ")[0] for each in seen} == {"OK", "UNAVAILABLE"}, seen
        assert len(whole.policy.create.answered) <= seen["OK"]


async def test_new_calls_are_refused_while_it_drains(tmp_path: Path) -> None:
    """Calls that come after SIGTERM are told to try again later, and health says NOT_SERVING, until all is done."""
    gate = asyncio.Event()

    async def slow(request: CreateSessionRequest, _: Any) -> CreateSessionResponse:
        await gate.wait()
        return allowed(request.session_id)

    async with gateway(tmp_path) as whole:
        whole.policy.create.behaviour = slow
        call = asyncio.ensure_future(whole.create(Device(1)))
        await whole.policy.create.asked()
        watch = whole.health.Watch(HealthCheckRequest(service=""))
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        whole.daemon.send(signal.SIGTERM)
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        assert await refusal(whole.create(Device(2))) == SHUTTING_DOWN
        assert await refusal(whole.sessions.EndSession(Device(1).end())) == SHUTTING_DOWN
        health = await whole.health.Check(HealthCheckRequest(service=""))
        assert health.status == HealthCheckResponse.NOT_SERVING
        gate.set()
        assert (await call).startswith(Device(1).subscriber)
        watch.cancel()
        assert await whole.daemon.ended() == 0


async def test_what_is_decided_reaches_the_peers(tmp_path: Path) -> None:
    """A report and an end that are on their way when SIGTERM comes arrive, and their answers are waited for."""
    gate, used, ended = asyncio.Event(), Device(1), Device(2)

    async def slow_update(request: UpdateSessionRequest, _: Any) -> UpdateSessionResponse:
        await gate.wait()
        return refill(request)

    async def slow_end(request: SessionTerminateRequest, _: Any) -> SessionTerminateResponse:
        await gate.wait()
        return SessionTerminateResponse(session_id=request.session_id)

    async with gateway(tmp_path) as whole:
        await whole.attach(used)
        await whole.attach(ended)
        whole.policy.update.behaviour, whole.policy.terminate.behaviour = slow_update, slow_end
        await whole.report(used.used(GRANT, 0), ended.used(3, 4))
        await whole.policy.update.asked()
        end = await whole.detach(ended, used.used(GRANT, 0))
        assert amounts(end) == [(3, 4)]
        whole.daemon.send(signal.SIGTERM)
        await whole.daemon.logged("stopping")
        gate.set()
        assert await whole.daemon.ended() == 0
        await whole.eventd.heard("session_updated", used.subscriber)
        assert whole.policy.terminate.answered == whole.policy.terminate.requests == [end]
        assert whole.daemon.find("stopped_with_deliveries_left") == []


async def test_hanging_peers_do_not_hold_it_back(tmp_path: Path) -> None:
    """If peers take calls and never answer, the daemon says what it leaves behind, and exits with 0 in time."""
    async with gateway(tmp_path) as whole:
        for device in (Device(1), Device(2)):
            await whole.attach(device)
        whole.policy.update.behaviour = whole.policy.terminate.behaviour = hanging
        whole.eventd.log.behaviour = whole.pipelined.deactivate.behaviour = hanging
        await whole.report(Device(1).used(GRANT, 0))
        await whole.sessions.EndSession(Device(2).end())
        await whole.policy.update.asked()
        assert await asyncio.wait_for(whole.daemon.stop(), AT_MOST_S) == 0
        await whole.daemon.logged("stopped_with_deliveries_left")


async def test_sigterm_before_it_is_ready(tmp_path: Path) -> None:
    """A daemon that is told to stop while it starts stops without a word of complaint."""
    async with gateway(tmp_path, set_up=False) as whole:
        await whole.daemon.stop()
        await whole.daemon.begin()
        whole.daemon.send(signal.SIGTERM)
        assert await whole.daemon.ended() in {0, -signal.SIGTERM}
        assert whole.daemon.noise == []
