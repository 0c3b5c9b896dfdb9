"""The whole gateway at random: whatever fails in between, every octet that was carried is charged, and charged once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec import structs
from structlog.testing import capture_logs

from sessiond.app.delivery import LAST_RETRY_MS
from sessiond.app.ports.peers import UsageReport
from sessiond.core.charging import CreditAnswer, FinalAction, RedirectServer
from sessiond.core.decide.answer import CreditReply, UpdateAnswer
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.decide.release import VERSIONS_KEPT_MS
from sessiond.core.errors import SessionError
from sessiond.core.lifecycle import State
from sessiond.core.quantity import GrantedUnits, Volume
from sessiond.core.session import Context, PolicyAnswer, Session
from sessiond.testing.peers import USUAL, Held, Lost, ScriptedPeer, granting_again, refused, silent, unreachable
from tests.app.pipelined import Pipelined
from tests.app.scenes import gateway, plan, ue
from tests.app.stores import TroubledStore
from tests.core.builders import grant, monitor_grant, static

Answering: TypeAlias = Callable[[tuple[UsageReport, ...]], dict[str, UpdateAnswer]]
"""What a policy side makes of usage reports."""

TABLE_EVERY_MS: Final = 2000
TARGETS: Final = {"1": ("video", "mixed"), "2": ("web",)}
"""The rules whose traffic counts on each credit, written down a second time."""
MONITORED: Final = ("voice", "mixed")
RULES: Final = ("video", "web", "voice", "mixed")
LAST_ROUNDS: Final = 300

UES: Final = st.builds(ue, st.integers(1, 2), st.sampled_from(["internet", "internet", "ims"]))
TROUBLE: Final[dict[str, Callable[[], object]]] = {
    "lost": Lost,
    "silent": silent,
    "refused": refused,
    "unreachable": unreachable,
}
KINDS: Final = st.sampled_from(["held", *TROUBLE])
MOST_OCTETS: Final = 3000
OCTETS: Final = st.sampled_from([1, 150, 400, 900, MOST_OCTETS])


class World:
    """A gateway with its data plane and policy side, and what is under way in it."""

    def __init__(self, turns: int) -> None:
        self.store = TroubledStore(turns)
        self.at = gateway(self.store, ready=False)
        self.pipelined = Pipelined(self.at.data_plane)
        self.held: list[Held] = []
        self.under_way: set[asyncio.Task[None]] = set()
        self.allowed: set[str] = set()
        self.aborted: set[str] = set()
        self._said: dict[tuple[str, int, str], CreditReply] = {}
        self._listen()

    async def start(self) -> None:
        """Start, and be set up."""
        await self.at.start()
        await self.table()

    def begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Let something happen beside everything else; a refusal is an answer like any other."""

        async def tried() -> None:
            try:
                await work
            except SessionError:
                return

        task = asyncio.create_task(tried())
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def table(self) -> None:
        """Report what the switch has counted, if there is anybody to do so."""
        if not self.pipelined.runs:
            return
        rows, epoch = self.pipelined.table(), self.pipelined.epoch
        restarted = self.pipelined.counters_restarted
        try:
            await self.at.application.usage.report(rows, epoch, counters_restart=restarted)
        except SessionError:
            self.pipelined.doubted(rows)
        else:
            self.pipelined.taken(rows)
        await self.at.settle()

    async def time(self, by_ms: int) -> None:
        """Let time pass; pipelined reports every two seconds of it."""
        while by_ms > 0:
            step_ms = min(by_ms, TABLE_EVERY_MS)
            await self.at.advance(step_ms)
            await self.table()
            by_ms -= step_ms

    async def attach(self, context: Context) -> None:
        """Create a session and put it in force."""
        await self.at.attach(context)

    async def abort(self, number: int) -> None:
        """End some session at the word of the policy side; it counts as such though nobody knows whether it did."""
        sessions = await self.at.application.manager.sessions()
        if sessions:
            session = sessions[number % len(sessions)]
            self.aborted.add(session.key)
            await self.at.application.manager.abort_session(session.scope, session.key)

    async def change_policy(self, context: Context, remove: str, install: str) -> None:
        """Take a rule from a subscriber and give another one."""
        change = PolicyChange(remove=(remove,), installs=static(install))
        await self.at.application.manager.policy_reauth(context.subscriber, "", change)

    async def reauthorise(self, number: int) -> None:
        """Re-authorise all credits of some session."""
        sessions = await self.at.application.manager.sessions()
        if sessions:
            session = sessions[number % len(sessions)]
            await self.at.application.manager.charging_reauth(session.scope, session.key, None)

    async def restart(self) -> None:
        """Let the daemon die with everything that is under way in it, and come back once the store is there."""
        self.store.recover()
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)
        self.store.die()
        await self.at.restart()

    def trouble(self, peer: ScriptedPeer, method: str, kind: str) -> None:
        """Let the next call of a peer go wrong."""
        if kind == "held":
            self.held.append(peer.hold(method))
        else:
            peer.script(method, TROUBLE[kind]())

    async def calm(self) -> None:
        """End all trouble and all sessions, and let everything come to its end."""
        for peer in self.at.peers.everyone:
            peer.forget()
        self.pipelined.listen()
        self._listen()
        self.store.recover()
        for held in self.held:
            held.release()
        if not self.pipelined.runs:
            self.pipelined.start(switch_too=False)
            await self.table()
        await self.time(LAST_RETRY_MS)
        wrong = {session.key: self.pipelined.differs(session) for session in await self._in_force()}
        assert {key: flows for key, flows in wrong.items() if flows} == {}
        for _ in range(LAST_ROUNDS):
            for session in await self.at.application.manager.sessions():
                if session.context is not None:
                    self.begin(self.at.detach(session.context))
            if not await self.at.application.manager.sessions() and not self.under_way:
                break
            await self.time(TABLE_EVERY_MS)
        await self.time(LAST_RETRY_MS)
        await self.at.advance(VERSIONS_KEPT_MS)
        assert await self.at.sessions() == []
        assert not self.under_way

    def answer(self, says: Answering) -> Answering:
        """Return an answer that says of a request that is repeated what was said of it before."""

        def consistent(reports: tuple[UsageReport, ...]) -> dict[str, UpdateAnswer]:
            answers = says(reports)
            for report in reports:
                answers[report.session.key] = self._consistent(report, answers[report.session.key])
            return answers

        return consistent

    def check(self) -> None:
        """Hold the books of the policy side against what the switch has moved."""
        ledger = self.at.policy.ledger
        assert ledger.contradictions == []
        for key in {owner for owner, _ in self.pipelined.moved} - self.aborted:
            for credit, rules in TARGETS.items():
                assert ledger.credit(key, credit) == self._moved(key, rules), (key, credit)
            assert ledger.monitor(key, "m") == self._moved(key, MONITORED), (key, "monitor")
        assert {key for key in self.allowed - self.aborted if not ledger.ended[key]} == set()

    async def _in_force(self) -> list[Session]:
        """Return the sessions whose tunnels are known."""
        sessions = await self.at.application.manager.sessions()
        active = [session for session in sessions if session.head.state is State.ACTIVE]
        return [session for session in active if session.gateway is not None and session.gateway.answer is None]

    def _listen(self) -> None:
        self.at.policy.usually("create", self._allow)
        self.at.policy.usually("update", self.answer(granting_again))

    def _consistent(self, report: UsageReport, says: UpdateAnswer) -> UpdateAnswer:
        replies = []
        for key, charge in report.session.credits.items():
            if charge.in_flight is None or charge.in_flight.number not in report.numbers:
                continue
            request = (report.session.key, charge.in_flight.number, key)
            said = self._said.get(request) or next((reply for reply in says.credits if reply.answer.key == key), None)
            if said is not None:
                replies.append(self._said.setdefault(request, said))
        return structs.replace(says, credits=tuple(replies))

    def _moved(self, key: str, rules: tuple[str, ...]) -> Volume:
        return Volume(sum(self.pipelined.moved[key, rule] for rule in rules))

    def _allow(self, session: Session) -> PolicyAnswer:
        self.allowed.add(session.key)
        return plan(*RULES, credits_=[grant("1"), grant("2", 5000)], monitors=[monitor_grant("m", 2000)])


class Conservation(RuleBasedStateMachine):
    """What may happen happens in any order; in the end the books are balanced."""

    @initialize(turns=st.sampled_from([0, 0, 3]))
    def begin(self, turns: int) -> None:
        """Start a gateway on a loop of its own."""
        self.runner = asyncio.Runner()
        self.logs = capture_logs()
        self.logs.__enter__()
        self.world = self.runner.run(_made(turns))

    @rule(context=UES, changed=st.sampled_from([{}, {}, {"msisdn": "1"}]))
    def attach(self, context: Context, changed: dict[str, Any]) -> None:
        """Attach a UE, again, or with something new about it."""
        self._begin(self.world.attach(_changed(context, changed)))

    @rule(context=UES)
    def detach(self, context: Context) -> None:
        """Detach a UE."""
        self._begin(self.world.at.detach(context))

    @rule(octets=OCTETS)
    def traffic(self, octets: int) -> None:
        """Let flows carry something."""
        self.world.pipelined.traffic(octets)

    @rule(octets=OCTETS)
    def traffic_and_table(self, octets: int) -> None:
        """Let flows carry something, and report it."""
        self.world.pipelined.traffic(octets)
        self._run(self.world.table)

    @rule(seconds=st.integers(1, 6))
    def time(self, seconds: int) -> None:
        """Let time pass."""
        self._run(lambda: self.world.time(seconds * 1000))

    @rule(context=UES, again=UES, octets=OCTETS)
    def busy_moment(self, context: Context, again: Context, octets: int) -> None:
        """Let several things happen at once."""
        world = self.world
        world.pipelined.traffic(octets)

        async def together() -> None:
            for work in (world.table(), world.at.detach(context), world.attach(again), world.reauthorise(0)):
                world.begin(work)
            await world.at.settle()

        self._run(together)

    @rule(method=st.sampled_from(["create", "update", "update", "terminate"]), kind=KINDS)
    def policy_trouble(self, method: str, kind: str) -> None:
        """Let the policy side not answer as it should, the next time."""
        self.world.trouble(self.world.at.policy, method, kind)

    @rule(kind=st.sampled_from(["held", "lost", "silent"]), first=OCTETS, more=OCTETS)
    def answer_takes_its_time(self, kind: str, first: int, more: int) -> None:
        """Let more be used, and reported by pipelined, while a usage report has no answer yet."""
        self.world.trouble(self.world.at.policy, "update", kind)
        self.traffic_and_table(first)
        self.traffic_and_table(more)

    @rule(method=st.sampled_from(["activate", "deactivate", "set_up"]), kind=KINDS)
    def data_plane_trouble(self, method: str, kind: str) -> None:
        """Let pipelined not answer as it should; a refusal to take flows down would be for good, and is not made."""
        refusing = kind == "refused" and method == "deactivate"
        self.world.trouble(self.world.at.data_plane, method, "unreachable" if refusing else kind)

    @rule(operation=st.sampled_from(["get", "find", "load", "write", "answer"]), times=st.integers(1, 3))
    def store_trouble(self, operation: str, times: int) -> None:
        """Let the store be away for a few calls, or not say what became of a write."""
        self.world.store.fail(operation, times)

    @rule(
        answer=st.sampled_from(["half", "final", "redirect", "4012", "4012", "5030", "nothing", "empty"]),
        context=UES,
        at_once=st.booleans(),
    )
    def policy_answers(self, answer: str, context: Context, at_once: bool) -> None:
        """Let the policy side say something else than more of the same, to the next report or to one that is due."""
        self.world.at.policy.script("update", self.world.answer(ANSWERS[answer]))
        if at_once:
            self.attach(context, {})
            self.traffic_and_table(MOST_OCTETS)

    @rule(answer=st.sampled_from(["usual", *TROUBLE]))
    def release(self, answer: str) -> None:
        """Answer something that took its time."""
        if self.world.held:
            self.world.held.pop(0).release(TROUBLE.get(answer, lambda: USUAL)())
        self._run(self.world.at.settle)

    @rule(number=st.integers(0, 3))
    def reauthorise(self, number: int) -> None:
        """Let the OCS want to hear of a session."""
        self._begin(self.world.reauthorise(number))

    @rule(number=st.integers(0, 3))
    def abort(self, number: int) -> None:
        """Let the policy side end a session."""
        self._begin(self.world.abort(number))

    @rule(context=UES, remove=st.sampled_from(RULES), install=st.sampled_from(RULES))
    def change_policy(self, context: Context, remove: str, install: str) -> None:
        """Let the PCRF change the rules of a subscriber."""
        self._begin(self.world.change_policy(context, remove, install))

    @rule()
    def pipelined_dies(self) -> None:
        """Let pipelined go away."""
        self.world.pipelined.stop()

    @rule(switch_too=st.booleans())
    def pipelined_restarts(self, switch_too: bool) -> None:
        """Let pipelined come back, alone or with its switch, and say so."""
        self.world.pipelined.start(switch_too=switch_too)
        self._run(self.world.table)

    @rule()
    def daemon_restarts(self) -> None:
        """Die, and come back over the same store."""
        self._run(self.world.restart)

    def teardown(self) -> None:
        """End everything, and balance the books."""
        if not hasattr(self, "world"):
            return
        try:
            self._run(self.world.calm)
            self.world.check()
        finally:
            self._run(self.world.at.close)
            self.runner.close()
            self.logs.__exit__(None, None, None)

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        async def begun() -> None:
            self.world.begin(work)
            await self.world.at.settle()

        self._run(begun)

    def _run(self, work: Callable[[], Awaitable[object]]) -> None:
        async def done() -> None:
            await work()

        self.runner.run(done())


async def _made(turns: int) -> World:
    world = World(turns)
    await world.start()
    return world


def _changed(context: Context, fields: dict[str, Any]) -> Context:
    return ue(int(context.subscriber[-1]), context.apn, **fields)


def _answering(*said: CreditAnswer) -> Answering:
    """Return an answer that says this of the credits it is asked about, and more of the same to monitors."""

    def answer(reports: tuple[UsageReport, ...]) -> dict[str, UpdateAnswer]:
        usual = granting_again(reports)
        return {
            key: UpdateAnswer(
                numbers=of.numbers,
                credits=tuple(CreditReply(answer=item) for item in said if _asked(of, item.key)),
                monitors=of.monitors,
            )
            for key, of in usual.items()
        }

    return answer


def _asked(usual: UpdateAnswer, key: str) -> bool:
    return any(reply.answer.key == key for reply in usual.credits)


def _failure(code: int) -> tuple[CreditAnswer, ...]:
    return tuple(CreditAnswer(key=key, success=False, result_code=code) for key in TARGETS)


def _final(action: FinalAction) -> tuple[CreditAnswer, ...]:
    server = RedirectServer("URL", "http://portal.test")
    last = partial(CreditAnswer, granted=GrantedUnits(100), is_final=True, final_action=action, redirect=server)
    return tuple(last(key=key) for key in TARGETS)


ANSWERS: Final = {
    "half": _answering(grant("1")),
    "final": _answering(*_final(FinalAction.TERMINATE)),
    "redirect": _answering(*_final(FinalAction.REDIRECT)),
    "4012": _answering(*_failure(4012)),
    "5030": _answering(*_failure(5030)),
    "nothing": _answering(),
    "empty": _answering(grant("1", 0), grant("2", 0)),
}

TestConservation = pytest.mark.slow(Conservation.TestCase)
TestConservation.settings = settings(stateful_step_count=60)
