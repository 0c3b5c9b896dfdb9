"""pipelined on the wire: setup by epoch, reports one at a time, and what a crash leaves."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from msgspec import Struct

from sessiond.pb.magma.lte.pipelined_pb2 import (
    ActivateFlowsRequest,
    FlowResponse,
    GetStatsRequest,
    RuleModResult,
    SetupDefaultRequest,
    SetupFlowsResult,
    SetupPolicyRequest,
    SetupQuotaRequest,
    SetupUEMacRequest,
    UEMacFlowRequest,
    UpdateSubscriberQuotaStateRequest,
)
from sessiond.pb.magma.lte.pipelined_pb2_grpc import PipelinedStub, add_PipelinedServicer_to_server
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecordTable
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.simulator.config import DataPlane as Settings
from sessiond.simulator.config import Rate
from sessiond.simulator.data_plane import DataPlane
from sessiond.simulator.switch import DROP_RULE, Switch, SwitchState, started
from tests.simulator.scenes import (
    ADDRESS,
    WILDCARD,
    Sessiond,
    a_sessiond,
    activation,
    charged,
    deactivation,
    served,
)

SUCCESS, OUTDATED = SetupFlowsResult.SUCCESS, SetupFlowsResult.OUTDATED_EPOCH
INTERVAL_MS = 20


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class Scene(Struct):
    """One process of pipelined between a switch and a sessiond; `kept` is what the switch's file would hold."""

    switch: Switch
    plane: DataPlane
    stub: PipelinedStub
    sessiond: Sessiond
    clock: Clock
    kept: list[SwitchState]

    async def set_up(self, *requests: ActivateFlowsRequest) -> int:
        """Set it up as sessiond does; return the result."""
        await self.stub.SetupDefaultControllers(SetupDefaultRequest(epoch=self.switch.epoch))
        done = await self.stub.SetupPolicyFlows(SetupPolicyRequest(epoch=self.switch.epoch, requests=requests))
        return done.result

    async def table(self) -> RuleRecordTable:
        """Return the next report."""
        return await asyncio.wait_for(self.sessiond.tables.get(), 10)

    def used(self, table: RuleRecordTable) -> dict[tuple[str, int], int]:
        """Return the octets of a report by rule and version."""
        return {
            (record.rule_id, record.rule_version): record.bytes_tx + record.bytes_rx
            for record in table.records
            if record.rule_id != DROP_RULE
        }


@asynccontextmanager
async def a_plane(
    state: SwitchState | None = None, attached: Collection[str] | None = None, *, switch_restarts: bool = False
) -> AsyncIterator[Scene]:
    """Run pipelined; every rule carries 1000 octets per second in each direction."""
    clock, kept = Clock(), []
    rate = Rate(up_bytes_per_s=1000, down_bytes_per_s=1000)
    switch = Switch(started(state, clock(), switch_restarts=switch_restarts), lambda _: rate, 1)

    async def ask() -> Collection[str] | None:
        return attached

    async with a_sessiond() as (sessiond, to_sessiond):
        plane = DataPlane(
            switch,
            to_sessiond,
            Settings(report_interval_ms=INTERVAL_MS, setup_interval_ms=INTERVAL_MS),
            keep=lambda kept_switch: kept.append(kept_switch.state()),
            now_s=clock,
            attached=ask,
        )
        async with served(lambda server: add_PipelinedServicer_to_server(plane, server)) as channel:
            yield Scene(switch, plane, PipelinedStub(channel), sessiond, clock, kept)


@asynccontextmanager
async def reporting(scene: Scene) -> AsyncIterator[None]:
    """Let it report by itself."""
    task = asyncio.create_task(scene.plane.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_says_that_it_has_started_until_it_is_set_up() -> None:
    """Empty tables with the epoch, again and again; then tables with records."""
    async with a_plane() as scene, reporting(scene):
        for _ in range(2):
            table = await scene.table()
            assert (table.epoch, list(table.records), table.update_rule_versions) == (scene.switch.epoch, [], False)
        assert await scene.set_up(activation((charged(), 1))) == SUCCESS
        while not (table := await scene.table()).records:
            pass
        assert set(scene.used(table)) == {("internet", 1)}


async def test_flows_are_refused_before_setup() -> None:
    """UNAVAILABLE, with the text of the real one, and nothing is installed."""
    async with a_plane() as scene:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await scene.stub.ActivateFlows(activation((charged(), 1)))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refused.value.details() == "Enforcement service not initialized!"
        assert scene.switch.records() == []


async def test_another_epoch_is_outdated() -> None:
    """A setup that was meant for an earlier start changes nothing."""
    async with a_plane() as scene:
        old = scene.switch.epoch - 1
        results = [
            await scene.stub.SetupDefaultControllers(SetupDefaultRequest(epoch=old)),
            await scene.stub.SetupPolicyFlows(SetupPolicyRequest(epoch=old, requests=[activation((charged(), 1))])),
            await scene.stub.SetupUEMacFlows(SetupUEMacRequest(epoch=old)),
            await scene.stub.SetupQuotaFlows(SetupQuotaRequest(epoch=old)),
        ]
        assert {result.result for result in results} == {OUTDATED}
        assert not scene.plane.set_up.is_set()
        assert scene.switch.records() == []


async def test_a_second_setup_changes_nothing() -> None:
    """Already initialised is a success; the flows of now stay as they are."""
    async with a_plane() as scene:
        await scene.set_up(activation((charged(), 1)))
        assert await scene.set_up() == SUCCESS
        assert {record.rule_id for record in scene.switch.records()} == {"internet", DROP_RULE}


async def test_flows_come_and_go() -> None:
    """Each rule gets a result; what was removed is in one more report and then in none."""
    async with a_plane() as scene:
        await scene.set_up()
        answer = await scene.stub.ActivateFlows(activation((charged(), 1), (charged("video", 2), 1)))
        assert [(result.rule_id, result.result, result.version) for result in answer.policy_results] == [
            ("internet", RuleModResult.SUCCESS, 1),
            ("video", RuleModResult.SUCCESS, 1),
        ]
        scene.clock.now_s += 1
        await scene.stub.DeactivateFlows(deactivation(("internet", 2)))
        scene.clock.now_s += 1
        assert await scene.plane.report()
        last = scene.used(await scene.table())
        assert last["internet", 1] > 0
        assert await scene.plane.report()
        assert set(scene.used(await scene.table())) == {("video", 1)}
        await scene.stub.DeactivateFlows(deactivation(origin=WILDCARD, drop=True))
        assert await scene.plane.report()
        assert await scene.plane.report()
        await scene.table()
        assert list((await scene.table()).records) == []


async def test_a_report_that_is_refused_comes_again() -> None:
    """Nothing is forgotten before sessiond has said OK; the next report has the same and what came since."""
    async with a_plane() as scene:
        await scene.set_up(activation((charged(), 1)))
        scene.clock.now_s += 1
        await scene.stub.DeactivateFlows(deactivation(("internet", 2)))
        scene.sessiond.refusals = [(grpc.StatusCode.INTERNAL, "no")] * 2
        assert [await scene.plane.report() for _ in range(4)] == [False, False, True, True]
        first, second, third, fourth = [scene.used(await scene.table()) for _ in range(4)]
        assert first == second == third != {}
        assert fourth == {}


async def test_no_two_reports_at_once() -> None:
    """However long sessiond takes, the next report waits for its answer."""
    async with a_plane() as scene:
        await scene.set_up(activation((charged(), 1)))
        scene.sessiond.answers.clear()
        async with reporting(scene):
            await scene.table()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(scene.sessiond.tables.get(), 5 * INTERVAL_MS / 1000)
            scene.sessiond.answers.set()
            await scene.table()


async def test_traffic_is_stored_before_it_is_counted() -> None:
    """What a report says is in the file when the report goes out."""
    async with a_plane() as scene:
        await scene.set_up(activation((charged(), 1)))
        scene.clock.now_s += 1
        scene.sessiond.refusals = [(grpc.StatusCode.INTERNAL, "killed here")]
        await scene.plane.report()
        (used,) = scene.used(await scene.table()).values()
        (passed,) = scene.kept[-1].ledger
        assert passed.tx + passed.rx == used
        assert scene.kept[-1].reporting


async def test_only_attached_devices_have_traffic() -> None:
    """The addresses that are in use decide."""
    for attached, sends in (({ADDRESS}, True), (set(), False)):
        async with a_plane(attached=attached) as scene:
            await scene.set_up(activation((charged(), 1)))
            await scene.plane.report()
            scene.clock.now_s += 1
            await scene.plane.report()
            await scene.table()
            assert (scene.used(await scene.table())["internet", 1] > 0) is sends


async def test_the_switch_survives_the_death_of_the_process() -> None:
    """The next process has another epoch, wants to be set up, and goes on counting where the switch is."""
    async with a_plane() as first:
        await first.set_up(activation((charged(), 1)))
        first.clock.now_s += 1
        await first.plane.report()
        before = first.used(await first.table())
        left = first.kept[-1]
    async with a_plane(left) as second:
        assert second.switch.epoch > first.switch.epoch
        with pytest.raises(grpc.aio.AioRpcError):
            await second.stub.ActivateFlows(activation((charged(), 1)))
        second.clock.now_s += 5
        await second.set_up(activation((charged(), 1)))
        await second.plane.report()
        table = await second.table()
        assert not table.update_rule_versions
        assert second.used(table)["internet", 1] > before["internet", 1]


async def test_a_switch_that_restarts_asks_for_new_versions() -> None:
    """With `switch_restarts` the counters begin at zero and every report says so."""
    async with a_plane() as first:
        await first.set_up(activation((charged(), 1)))
        first.clock.now_s += 1
        await first.plane.report()
        left = first.kept[-1]
    async with a_plane(left, switch_restarts=True) as second, reporting(second):
        assert (await second.table()).update_rule_versions
        await second.set_up(activation((charged(), 2)))
        while not (table := await second.table()).records:
            pass
        assert table.update_rule_versions
        assert second.used(table) == {("internet", 2): 0}


async def test_counters_can_be_asked_for() -> None:
    """As sessiond can with `enable_pull_stats`."""
    async with a_plane() as scene:
        await scene.set_up(activation((charged(), 1)))
        for answer in (await scene.stub.GetPolicyUsage(Void()), await scene.stub.GetStats(GetStatsRequest())):
            assert (answer.epoch, set(scene.used(answer))) == (scene.switch.epoch, {("internet", 1)})


async def test_carrier_wifi_calls_are_answered() -> None:
    """What they ask for is not simulated, and nobody is told that it failed."""
    async with a_plane() as scene:
        answers = [
            await scene.stub.UpdateSubscriberQuotaState(UpdateSubscriberQuotaStateRequest()),
            await scene.stub.AddUEMacFlow(UEMacFlowRequest()),
            await scene.stub.DeleteUEMacFlow(UEMacFlowRequest()),
            await scene.stub.UpdateIPFIXFlow(UEMacFlowRequest()),
        ]
        assert {answer.result for answer in answers} == {FlowResponse.SUCCESS}
        epoch = scene.switch.epoch
        assert (await scene.stub.SetupUEMacFlows(SetupUEMacRequest(epoch=epoch))).result == SUCCESS
        assert (await scene.stub.SetupQuotaFlows(SetupQuotaRequest(epoch=epoch))).result == SUCCESS
