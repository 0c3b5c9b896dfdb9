"""Scripted peers: every peer port, answered as a test says, with every call kept in order.

What a peer answers is a script: a list of answers for each method, used one after the other; after that, or without
one, the usual answer, which is success. An answer is

* an exception, which is raised: `refused()`, `unreachable()` and `silent()` make those that peers know;
* a function, which is called with the arguments of the call and returns the answer;
* a `Lost` answer: the peer does what it is asked, and nobody hears of it;
* a `Held` answer: nothing happens until the test releases it;
* `USUAL`, or anything else, which is the answer itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final

from msgspec import Struct

from sessiond.app.ports.peers import Peers, SetupResult, UnknownFlows, UpdateRequest, UsageReport
from sessiond.core.charging import NO_UNITS, ChargingCredit, CreditAnswer
from sessiond.core.decide.answer import CreditReply, MonitorReply, UpdateAnswer
from sessiond.core.decide.attachment import Attachment, Attachments
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    ExportFlows,
    LogEvent,
    UpdateQuotaState,
)
from sessiond.core.errors import PeerFailed
from sessiond.core.monitors import Monitor, MonitorAnswer
from sessiond.core.quantity import GrantedUnits
from sessiond.core.rules import Catalogue
from sessiond.core.session import PolicyAnswer, Session
from sessiond.testing.ledger import Ledger

PATIENCE_S: Final = 5.0
"""How long `called` waits; only a test that fails ever waits so long."""


class _Usual(Enum):
    USUAL = "USUAL"


USUAL: Final = _Usual.USUAL
"""The answer of a peer that was told nothing."""


class Call(Struct, frozen=True):
    """One call: the peer by the name it has in logs, the method of its port, and the arguments in their order."""

    peer: str
    method: str
    arguments: tuple[Any, ...]


class Lost(Struct, frozen=True):
    """The peer does what it is asked, but its answer never arrives."""

    answer: Any = USUAL


class Held:
    """An answer that is given when the test says so."""

    def __init__(self) -> None:
        self._released = asyncio.Event()
        self._answer: Any = USUAL

    def release(self, answer: Any = USUAL) -> None:
        """Let the call go on with this answer."""
        self._answer = answer
        self._released.set()

    async def released(self) -> Any:
        """Return the answer once it may be given."""
        await self._released.wait()
        return self._answer


def refused(text: str = "refused", status: str = "FAILED_PRECONDITION") -> PeerFailed:
    """Return the failure of a peer that says no: certainly not carried out."""
    return PeerFailed(status, text, answered=True)


def unreachable() -> PeerFailed:
    """Return the failure of a peer that is not there: it certainly did not even get the request."""
    return PeerFailed("UNAVAILABLE", "failed to connect", answered=True, reached=False)


def silent() -> PeerFailed:
    """Return the failure of a peer that says nothing: nobody knows what became of the request."""
    return PeerFailed("DEADLINE_EXCEEDED", "Deadline Exceeded", answered=False)


class Journal:
    """The calls of several peers in the order in which they came."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._grown = asyncio.Event()

    def add(self, call: Call) -> None:
        """Note a call."""
        self.calls.append(call)
        self._grown.set()

    def of(self, peer: str, method: str) -> list[Call]:
        """Return the calls of one method."""
        return [call for call in self.calls if (call.peer, call.method) == (peer, method)]

    async def reaches(self, peer: str, method: str, times: int) -> Call:
        """Return the call of that number, as soon as it has come."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(self.of(peer, method)) < times:
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            came = ", ".join(f"{call.peer}.{call.method}" for call in self.calls) or "nothing"
            raise AssertionError(f"{peer}.{method} was not called {times} times; what came: {came}") from None
        return self.of(peer, method)[times - 1]


class ScriptedPeer:
    """What all scripted peers have: a script, and the memory of what they were asked."""

    name = ""

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal or Journal()
        self._script: dict[str, deque[Any]] = {}
        self._usual: dict[str, Any] = {}

    def script(self, method: str, *answers: Any) -> None:
        """Give these answers to the next calls of a method, one each; after them the usual one."""
        self._script.setdefault(self._known(method), deque()).extend(answers)

    def hold(self, method: str) -> Held:
        """Let the next call of a method wait until it is released."""
        held = Held()
        self.script(method, held)
        return held

    def usually(self, method: str, answer: Any) -> None:
        """Give this answer to a method whenever its script is used up."""
        self._usual[self._known(method)] = answer

    def calls(self, method: str) -> list[Call]:
        """Return the calls of a method so far."""
        return self._journal.of(self.name, self._known(method))

    def forget(self) -> None:
        """Drop the scripts: from now on everything is answered as usual, which is success."""
        self._script.clear()
        self._usual.clear()

    async def called(self, method: str, times: int = 1) -> Call:
        """Return the call of that number (1 is the first ever), as soon as it has come."""
        return await self._journal.reaches(self.name, self._known(method), times)

    def _known(self, method: str) -> str:
        if not hasattr(self, method):
            raise AttributeError(f"{self.name} is never asked to {method!r}")
        return method

    async def _answer(self, method: str, usual: Callable[..., Any], *arguments: Any) -> Any:
        """Note a call and answer it by the script."""
        call = Call(self.name, method, arguments)
        self._journal.add(call)
        script = self._script.get(method)
        return await self._given(script.popleft() if script else USUAL, call, usual)

    async def _given(self, answer: Any, call: Call, usual: Callable[..., Any]) -> Any:
        match answer:
            case Held():
                return await self._given(await answer.released(), call, usual)
            case Lost():
                await self._given(answer.answer, call, usual)
                raise silent()
            case BaseException():
                raise answer
            case _Usual():
                return await self._given(self._usual.get(call.method, usual), call, usual)
            case _ if callable(answer):
                value = answer(*call.arguments)
            case _:
                value = answer
        self._did(call, value)
        return value

    def _did(self, call: Call, answer: Any) -> None:
        """Do what it means for the peer to have answered."""


class ScriptedPolicy(ScriptedPeer):
    """Implements `app.ports.peers.PolicyPeer`; usually it allows every session, takes all usage and grants it again."""

    name = "session_proxy"

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__(journal)
        self.ledger = Ledger()

    @property
    def updates(self) -> list[tuple[UsageReport, ...]]:
        """The usage reports of each update."""
        return [call.arguments[0] for call in self.calls("update")]

    @property
    def terminated(self) -> list[Session]:
        """The sessions whose end was told, once for each time."""
        return [call.arguments[0] for call in self.calls("terminate")]

    async def create(self, session: Session) -> PolicyAnswer:
        """Allow a session."""
        answer: PolicyAnswer = await self._answer("create", lambda _: PolicyAnswer(), session)
        return answer

    def requests(self, reports: Sequence[UsageReport], max_bytes: int) -> list[UpdateRequest]:  # noqa: ARG002  the port's
        """Return one request for all: what there is of a script is small."""
        return [UpdateRequest(reports, partial(self.update, reports))]

    async def update(self, reports: Sequence[UsageReport]) -> Mapping[str, UpdateAnswer]:
        """Take usage."""
        answers: Mapping[str, UpdateAnswer] = await self._answer("update", granting_again, tuple(reports))
        return answers

    async def terminate(self, session: Session) -> None:
        """Take the end of a session."""
        await self._answer("terminate", _nothing, session)

    async def terminate_stale(self, subscriber: str, session_id: str) -> None:
        """Take the end of a session of which only the id is known."""
        await self._answer("terminate_stale", _nothing, subscriber, session_id)

    def _did(self, call: Call, answer: Any) -> None:
        if call.method == "update":
            self.ledger.take(call.arguments[0], answer)
        elif call.method == "terminate":
            self.ledger.end(call.arguments[0])


class ScriptedDataPlane(ScriptedPeer):
    """Implements `app.ports.peers.DataPlanePeer`; usually it does what it is told and counts nothing."""

    name = "pipelined"
    connected = True

    @property
    def flows(self) -> list[tuple[str, ActivateFlows | DeactivateFlows]]:
        """What was told about flows, in order, with the session it was about."""
        calls = [call for call in self._journal.calls if call.method in {"activate", "deactivate"}]
        return [(call.arguments[0].key, call.arguments[1]) for call in calls if call.peer == self.name]

    async def set_up(self, epoch: int, sessions: Sequence[Session], catalogue: Catalogue) -> SetupResult:
        """Install everything."""
        everything = (epoch, tuple(sessions), catalogue)
        result: SetupResult = await self._answer("set_up", lambda *_: SetupResult.SUCCESS, *everything)
        return result

    async def set_up_quota_states(self, sessions: Sequence[Session]) -> None:
        """Hear what every subscriber has left."""
        await self._answer("set_up_quota_states", _nothing, tuple(sessions))

    async def activate(self, session: Session, effect: ActivateFlows, catalogue: Catalogue) -> tuple[str, ...]:
        """Install flows; no rule fails."""
        failed: tuple[str, ...] = await self._answer("activate", lambda *_: (), session, effect, catalogue)
        return failed

    async def deactivate(self, session: Session, effect: DeactivateFlows) -> None:
        """Remove flows."""
        await self._answer("deactivate", _nothing, session, effect)

    async def export_flows(self, session: Session, effect: ExportFlows) -> None:
        """Export flows."""
        await self._answer("export_flows", _nothing, session, effect)

    async def delete_mac_flow(self, session: Session) -> None:
        """Forget a MAC address."""
        await self._answer("delete_mac_flow", _nothing, session)

    async def update_quota_state(self, session: Session, effect: UpdateQuotaState) -> None:
        """Hear whether a subscriber has anything left."""
        await self._answer("update_quota_state", _nothing, session, effect)

    async def deactivate_unknown(self, flows: UnknownFlows) -> None:
        """Remove flows of nobody."""
        await self._answer("deactivate_unknown", _nothing, flows)


class ScriptedAccess(ScriptedPeer):
    """Implements `app.ports.peers.AccessPeer`; usually it takes everything, and no bearer ever comes of it."""

    name = "spgw"

    @property
    def bearers(self) -> list[tuple[str, CreateBearer | DeleteBearer]]:
        """What was asked about bearers, in order, with the session it was about."""
        calls = [call for call in self._journal.calls if call.peer == self.name]
        return [(call.arguments[0].key, call.arguments[1]) for call in calls]

    async def create_bearer(self, session: Session, effect: CreateBearer, catalogue: Catalogue) -> None:
        """Hear that bearers are wanted."""
        await self._answer("create_bearer", _nothing, session, effect, catalogue)

    async def delete_bearer(self, session: Session, effect: DeleteBearer) -> None:
        """Hear that bearers are to go."""
        await self._answer("delete_bearer", _nothing, session, effect)


class ScriptedAttachments(ScriptedPeer):
    """Implements `app.ports.peers.AttachmentPeer`; usually it knows those it is given in `attached`."""

    name = "mme"

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__(journal)
        self.attached: list[Attachment] = []

    async def attachments(self) -> Attachments:
        """Tell what is attached."""
        attachments: Attachments = await self._answer("attachments", lambda: Attachments(self.attached))
        return attachments


class ScriptedWifi(ScriptedPeer):
    """Implements `app.ports.peers.WifiPeer`; usually it takes everything."""

    name = "aaa"

    async def terminate(self, session: Session) -> None:
        """Hear that a session is over."""
        await self._answer("terminate", _nothing, session)

    async def add_sessions(self, sessions: Sequence[Session]) -> None:
        """Hear which sessions still stand."""
        await self._answer("add_sessions", _nothing, tuple(sessions))


class ScriptedDirectory(ScriptedPeer):
    """Implements `app.ports.peers.DirectoryPeer`; usually it keeps its records as directoryd does."""

    name = "directoryd"

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__(journal)
        self.records: dict[str, str] = {}
        """The session of each subscriber."""

    async def write(self, session: Session) -> None:
        """Write a record."""
        await self._answer("write", _nothing, session)

    async def delete(self, subscriber: str) -> None:
        """Delete a record."""
        await self._answer("delete", _nothing, subscriber)

    async def sessions(self) -> list[tuple[str, str]]:
        """Return the records."""
        records: list[tuple[str, str]] = await self._answer("sessions", lambda: list(self.records.items()))
        return records

    def _did(self, call: Call, answer: Any) -> None:  # noqa: ARG002  a record is what was asked for
        if call.method == "write":
            self.records[call.arguments[0].scope] = call.arguments[0].key
        elif call.method == "delete":
            self.records.pop(call.arguments[0], None)


class ScriptedEvents(ScriptedPeer):
    """Implements `app.ports.peers.EventPeer`; usually it takes every event."""

    name = "eventd"

    @property
    def logged(self) -> list[LogEvent]:
        """The events that came, once for each attempt."""
        return [call.arguments[0] for call in self.calls("log")]

    async def log(self, event: LogEvent) -> None:
        """Take an event."""
        await self._answer("log", _nothing, event)


class ScriptedPeers:
    """One of each, with one journal for all."""

    def __init__(self) -> None:
        self.without: frozenset[str] = frozenset()
        """Those whom the application takes for configured away."""
        self.journal = Journal()
        self.policy = ScriptedPolicy(self.journal)
        self.data_plane = ScriptedDataPlane(self.journal)
        self.access = ScriptedAccess(self.journal)
        self.wifi = ScriptedWifi(self.journal)
        self.directory = ScriptedDirectory(self.journal)
        self.events = ScriptedEvents(self.journal)
        self.attachments = ScriptedAttachments(self.journal)

    @property
    def everyone(self) -> tuple[ScriptedPeer, ...]:
        """All of them."""
        return (*self._told, self.attachments)

    def connected(self) -> Peers:
        """Return them as an application wants them."""
        return Peers(*self._told, self.attachments, self.without)

    @property
    def _told(
        self,
    ) -> tuple[ScriptedPolicy, ScriptedDataPlane, ScriptedAccess, ScriptedWifi, ScriptedDirectory, ScriptedEvents]:
        """All that are told anything."""
        return (self.policy, self.data_plane, self.access, self.wifi, self.directory, self.events)


def granting_again(reports: Sequence[UsageReport]) -> dict[str, UpdateAnswer]:
    """Return an answer that takes all usage and grants to each quota what it was granted last."""
    return {report.session.key: _granting_again(report) for report in reports}


def _granting_again(report: UsageReport) -> UpdateAnswer:
    def reported(quota: ChargingCredit | Monitor) -> bool:
        return quota.in_flight is not None and quota.in_flight.number in report.numbers

    return UpdateAnswer(
        numbers=report.numbers,
        credits=tuple(
            CreditReply(answer=CreditAnswer(key=key, limit=charge.limit, granted=_same(charge.granted)))
            for key, charge in report.session.credits.items()
            if reported(charge)
        ),
        monitors=tuple(
            MonitorReply(answer=MonitorAnswer(key=key, level=monitor.level, granted=monitor.granted))
            for key, monitor in report.session.monitors.items()
            if reported(monitor)
        ),
    )


def _same(granted: GrantedUnits) -> GrantedUnits:
    """Return a grant again; an empty one as a grant of nothing, which takes the usage all the same."""
    return GrantedUnits(total=0) if granted == NO_UNITS else granted


def _nothing(*_: Any) -> None:
    """Answer nothing."""
