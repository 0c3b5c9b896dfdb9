"""Carrier wifi through the application: what AAA and pipelined are told, in which order, and how often."""

from typing import Any

import pytest

from sessiond.app.ports.store import Delete, Stored
from sessiond.core.decide.rule_sets import RuleSet, RuleSets
from sessiond.core.effects import DeactivateFlows, ExportFlows, QuotaState
from sessiond.core.lifecycle import State
from sessiond.core.rules import Teids
from sessiond.core.session import Context
from sessiond.core.settings import Settings
from sessiond.core.update import Change, UpdateCriteria
from sessiond.store.memory import MemoryStore
from sessiond.testing.gateway import TEIDS, SimulatedGateway, row
from sessiond.testing.peers import refused, silent, unreachable
from tests.app.scenes import gateway, plan, ue, wifi
from tests.app.stores import TroubledStore
from tests.core.builders import monitor_grant, terminate_grant

WALLET = Settings(wallet_exhaustion_terminates=True, ipfix=True)
NO_TUNNEL = Teids()


def told(at: SimulatedGateway, *peers: str) -> list[str]:
    """Return the names of what some peers were told, in order."""
    return [call.method for call in at.peers.journal.calls if call.peer in peers]


def quota_states(at: SimulatedGateway) -> list[QuotaState]:
    """Return what pipelined was told about quota."""
    return [call.arguments[1].state for call in at.data_plane.calls("update_quota_state")]


class TestLife:
    """A session from its beginning to its end."""

    async def test_pipelined_hears_everything_in_order(self) -> None:
        """Flows go up first and down first; the address is forgotten and the wallet closed after that."""
        async with gateway(settings=WALLET) as at:
            at.policy.script("create", plan("voice", monitors=[monitor_grant("m")]))
            await at.attach(wifi(), NO_TUNNEL)
            await at.detach(wifi())
            assert told(at, "pipelined") == [
                "set_up",
                *("activate", "export_flows", "update_quota_state"),
                *("deactivate", "delete_mac_flow", "update_quota_state"),
            ]
            assert quota_states(at) == [QuotaState.VALID_QUOTA, QuotaState.TERMINATE]
            assert told(at, "aaa", "spgw") == []
            await at.report()
            assert [session.context for session in at.policy.terminated] == [wifi()]

    async def test_an_end_that_is_ours_disconnects_the_device(self) -> None:
        """A used-up final unit is told to the AAA server, once.

        reference: LocalEnforcerTest.test_cwf_final_unit_handling.
        """
        async with gateway() as at:
            at.policy.script("create", plan("video", credits_=[terminate_grant("1")]))
            await at.attach(wifi())
            await at.report(row(wifi(), "video", version=1, tx=1000))
            (call,) = at.wifi.calls("terminate")
            assert call.arguments[0].context.wlan == wifi().wlan
            assert told(at, "aaa", "spgw") == ["terminate"]

    async def test_an_empty_wallet_ends_in_time(self) -> None:
        """Nothing to spend is said at once, and ends the session after the configured time.

        reference: LocalEnforcerTest.test_cwf_quota_exhaustion_on_init_no_quota.
        """
        async with gateway(settings=WALLET) as at:
            key = await at.attach(wifi())
            assert quota_states(at) == [QuotaState.NO_QUOTA]
            await at.advance(WALLET.wallet_exhaustion_on_init_ms - 1)
            assert (await at.session(key)).head.state is State.ACTIVE
            await at.advance(1)
            assert quota_states(at) == [QuotaState.NO_QUOTA, QuotaState.TERMINATE]
            assert len(at.wifi.calls("terminate")) == 1

    async def test_an_empty_wallet_ends_after_a_restart_too(self) -> None:
        """Its time runs on while the daemon is down, and what was said is not said again.

        reference: LocalEnforcerTest.test_termination_scheduling_on_sync_sessions.
        """
        async with gateway(settings=WALLET) as at:
            key = await at.attach(wifi())
            await at.restart()
            assert quota_states(at) == [QuotaState.NO_QUOTA]
            await at.advance(WALLET.wallet_exhaustion_on_init_ms)
            assert quota_states(at) == [QuotaState.NO_QUOTA, QuotaState.TERMINATE]
            assert (await at.session(key)).head.reason == "WALLET_EXHAUSTED"

    async def test_a_rule_that_cannot_be_installed_leaves_nothing_to_spend(self) -> None:
        """When the last monitored rule is given up, pipelined hears of it at once, and the end is timed."""
        async with gateway(settings=WALLET) as at:
            at.policy.script("create", plan("voice", monitors=[monitor_grant("m")]))
            at.data_plane.usually("activate", ("voice",))
            await at.attach(wifi())
            await at.advance(10_000)
            assert quota_states(at) == [QuotaState.VALID_QUOTA, QuotaState.NO_QUOTA]
            await at.advance(2 * WALLET.wallet_exhaustion_on_init_ms)
            assert [session.head.reason for session in at.policy.terminated] == ["WALLET_EXHAUSTED"]


class TestRecycling:
    """A device that asks for its session again."""

    async def test_it_is_kept_without_a_question(self) -> None:
        """The policy side and the directory hear nothing; the flow records go on from the first beginning.

        reference: SessionManagerHandlerTest.test_create_session_cfg.
        """
        async with gateway(settings=Settings(ipfix=True)) as at:
            began_at_ms = at.clock.now_ms()
            key = await at.attach(wifi())
            await at.advance(5000)
            assert await at.application.manager.create_session(wifi(apn="apn2")) == key
            await at.settle()
            assert (len(at.policy.calls("create")), len(at.directory.calls("write"))) == (1, 1)
            session, effect = at.data_plane.calls("export_flows")[-1].arguments
            assert (session.context.apn, effect) == ("apn2", ExportFlows(began_at_ms=began_at_ms))

    async def test_one_that_ends_meanwhile_is_not_kept(self) -> None:
        """Between the look and the write somebody else may end the session; the device then gets a new one."""
        store = TroubledStore()
        async with gateway(store) as at:
            old = await at.attach(wifi())
            store.rival(old, UpdateCriteria({("head", ""): Change(set={"state": State.CLOSING})}))
            new = await at.application.manager.create_session(wifi())
            assert new != old
            assert (await at.session(new)).head.state is State.ACTIVE

    @pytest.mark.parametrize("context", [wifi(apn="new"), ue(), ue(msisdn="1")])
    async def test_one_that_is_gone_meanwhile_is_not_missed(self, context: Context) -> None:
        """A session that somebody else removes in between is no reason to refuse a new one."""
        store = _Vanishing()
        async with gateway(store) as at:
            old = await at.attach(wifi() if context.wlan else ue())
            store.vanish = True
            assert await at.application.manager.create_session(context) != old


class _Vanishing(MemoryStore):
    """Another daemon removes what was found, right after it was."""

    vanish = False

    async def find(self, scope: str) -> list[Stored]:
        found = await super().find(scope)
        if self.vanish and found:
            self.vanish = False
            await self.write([Delete(stored.session.key, stored.revision) for stored in found])
        return found


class TestTroubledPeers:
    """What a peer does not take."""

    @pytest.mark.parametrize("method", ["export_flows", "update_quota_state"])
    async def test_a_refusal_is_final_and_harms_nobody(self, method: str) -> None:
        """A pipelined without that service says so; the session goes on, and the next call is made."""
        async with gateway(settings=WALLET) as at:
            at.data_plane.usually(method, refused("Service not enabled!", "UNAVAILABLE"))
            at.policy.script("create", plan("voice"))
            key = await at.attach(wifi())
            session = await at.session(key)
            assert (session.head.state, session.effects) == (State.ACTIVE, {})
            assert len(at.data_plane.calls(method)) == 1

    @pytest.mark.parametrize("method", ["export_flows", "update_quota_state"])
    async def test_a_call_that_is_never_answered_is_given_up(self, method: str) -> None:
        """A service that hangs must not hold the end of a session back for ever: the flows behind it go down."""
        async with gateway(settings=WALLET) as at:
            at.data_plane.usually(method, silent())
            at.policy.script("create", plan("voice"))
            key = await at.attach(wifi())
            await at.detach(wifi())
            assert at.data_plane.calls("deactivate") == []
            await at.advance(120_000)
            assert at.data_plane.flows[1:] == [(key, DeactivateFlows(teids=TEIDS, everything=True))]
            assert at.telemetry.overdue

    @pytest.mark.parametrize("method", ["delete_mac_flow", "update_quota_state", "export_flows"])
    async def test_a_pipelined_that_is_away_is_waited_for(self, method: str) -> None:
        """Nothing is lost while it is not there, however long that is."""
        async with gateway(settings=WALLET) as at:
            at.data_plane.usually(method, unreachable())
            await at.attach(wifi())
            await at.detach(wifi())
            await at.advance(600_000)
            at.data_plane.forget()
            await at.advance(30_000)
            assert told(at, "pipelined")[-1] == "update_quota_state"
            assert at.data_plane.calls("delete_mac_flow")

    async def test_an_aaa_server_that_refuses_is_asked_once(self) -> None:
        """It does not know the session: then there is nothing to disconnect."""
        async with gateway(settings=WALLET) as at:
            at.wifi.usually("terminate", refused())
            await at.attach(wifi())
            await at.advance(60_000)
            assert len(at.wifi.calls("terminate")) == 1

    @pytest.mark.parametrize("failure", [silent(), unreachable()])
    async def test_an_aaa_server_that_is_away_is_asked_a_few_times(self, failure: Any) -> None:
        """The end of the session waits for nobody, and somebody hears that a device may still be connected."""
        async with gateway(settings=WALLET) as at:
            at.wifi.usually("terminate", failure)
            key = await at.attach(wifi())
            await at.advance(300_000)
            assert len(at.wifi.calls("terminate")) == 8
            assert at.telemetry.overdue == {"TerminateAccess": 1}
            assert await at.find(key) is None
            assert [session.key for session in at.policy.terminated] == [key]


async def test_quota_states_and_mac_addresses_are_set_up_again() -> None:
    """When pipelined restarts it is given the sessions as they are, with what was last said of their wallets."""
    async with gateway(settings=WALLET) as at:
        at.policy.script("create", plan("voice"))
        await at.attach(wifi(1))
        await at.attach(wifi(2))
        await at.report(epoch=2)
        (sessions,) = at.data_plane.calls("set_up_quota_states")[-1].arguments
        assert {session.gateway.quota_state for session in sessions} == {QuotaState.VALID_QUOTA, QuotaState.NO_QUOTA}


async def test_a_wallet_that_changes_during_a_setup_is_set_up_as_it_is() -> None:
    """What pipelined hears after a long setup is not older than what it was told beside it."""
    async with gateway(settings=WALLET) as at:
        at.policy.script("create", plan("voice"))
        await at.attach(wifi())
        held = at.data_plane.hold("set_up")
        await at.report(epoch=2)
        await at.application.manager.set_session_rules(wifi().subscriber, RuleSets(RuleSet()))
        await at.settle()
        held.release()
        await at.settle()
        (session,) = at.data_plane.calls("set_up_quota_states")[-1].arguments[0]
        assert session.gateway.quota_state is quota_states(at)[-1] is QuotaState.NO_QUOTA


async def test_a_setup_without_the_store_is_tried_again() -> None:
    """If it cannot be read what is left in the wallets, pipelined is set up once more, and told then."""
    store = TroubledStore()
    async with gateway(store, settings=WALLET) as at:
        at.policy.script("create", plan("voice"))
        await at.attach(wifi())
        held = at.data_plane.hold("set_up")
        await at.report(epoch=2)
        store.fail("load")
        held.release()
        await at.settle()
        assert len(at.data_plane.calls("set_up_quota_states")) == 0
        await at.advance(5000)
        assert len(at.data_plane.calls("set_up_quota_states")) == 1
