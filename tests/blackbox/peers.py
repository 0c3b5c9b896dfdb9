"""The peers of a daemon under test: real servers that remember what they are asked, and answer as a test wants it."""
# ruff: noqa: N802, the names of methods are those of gRPC

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Generic, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio

from sessiond.pb.magma.lte import pipelined_pb2, pipelined_pb2_grpc, session_proxy_pb2_grpc, spgw_pb2, spgw_pb2_grpc
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecordTable
from sessiond.pb.magma.lte.session_proxy_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    SessionTerminateRequest,
    SessionTerminateResponse,
    UpdateSessionRequest,
    UpdateSessionResponse,
)
from sessiond.pb.magma.orc8r import directory_pb2, directory_pb2_grpc, event_pb2, event_pb2_grpc
from sessiond.pb.magma.orc8r.common_pb2 import Void
from tests.blackbox.messages import allowed, quota

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Found = TypeVar("Found")
Behaviour = Callable[[Request, Any], Awaitable[Response]]

PATIENCE_S: Final = 15.0
"""How long anything that must come is waited for."""


class Changes:
    """Lets a test wait for something that it can see; whoever changes anything that can be seen says so."""

    def __init__(self) -> None:
        self._something = asyncio.Event()

    def tell(self) -> None:
        """Let everybody who waits look again."""
        self._something.set()

    async def until(self, look: Callable[[], Found], what: str, timeout_s: float = PATIENCE_S) -> Found:
        """Return what `look` finds as soon as it is anything; `what` names it if it never is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (found := look()):
                    self._something.clear()
                    await self._something.wait()
                return found
        raise AssertionError(f"not within {timeout_s:g} s: {what}")


class Method(Generic[Request, Response]):
    """One method of a peer: what it was asked, what it has answered, and how it answers."""

    def __init__(self, name: str, changes: Changes, answer: Callable[[Request], Response]) -> None:
        self.requests: list[Request] = []
        self.answered: list[Request] = []
        self.behaviour: Behaviour[Request, Response] = answering(answer)
        self._name = name
        self._changes = changes

    async def __call__(self, request: Request, context: Any) -> Response:
        """Answer a call."""
        self.requests.append(request)
        self._changes.tell()
        answer = await self.behaviour(request, context)
        self.answered.append(request)
        self._changes.tell()
        return answer

    async def asked(
        self, count: int = 1, wanted: Callable[[Request], bool] = lambda _: True, timeout_s: float = PATIENCE_S
    ) -> list[Request]:
        """Return the requests of this kind as soon as there are so many, in the order in which they came."""

        def found() -> list[Request]:
            requests = [request for request in self.requests if wanted(request)]
            return requests if len(requests) >= count else []

        return await self._changes.until(found, f"{count} calls of {self._name}", timeout_s)


def answering(answer: Callable[[Request], Response]) -> Behaviour[Request, Response]:
    """Return the behaviour of a method that answers at once."""

    async def behave(request: Request, _: Any) -> Response:
        return answer(request)

    return behave


def refusing(code: grpc.StatusCode, text: str) -> Behaviour[Any, Any]:
    """Return the behaviour of a method that refuses."""

    async def behave(_: Any, context: Any) -> NoReturn:
        await context.abort(code, text)
        raise AssertionError("abort raises")

    return behave


async def hanging(_: Any, __: Any) -> NoReturn:
    """Behave as a method that never answers."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")


class Peer:
    """A server on a port that stays its own while it is down: calls are refused then, and nobody else is given it."""

    def __init__(self, add: Callable[[Any, aio.Server], None]) -> None:
        self._add = add
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self._server: aio.Server | None = None

    @property
    def address(self) -> str:
        """Where the peer is, or will be."""
        return f"127.0.0.1:{self._holder.getsockname()[1]}"

    async def start(self) -> None:
        """Answer calls."""
        self._server = aio.server(options=[("grpc.max_receive_message_length", -1)])
        self._add(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def kill(self) -> None:
        """Go away at once: connections break, calls under way are never answered."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def close(self) -> None:
        """Go away for good."""
        await self.kill()
        self._holder.close()


class PolicyController(Peer, session_proxy_pb2_grpc.CentralSessionControllerServicer):
    """PCRF and OCS: allows every session the rule `web` and grants quota whenever it is asked for it."""

    def __init__(self, changes: Changes) -> None:
        super().__init__(session_proxy_pb2_grpc.add_CentralSessionControllerServicer_to_server)
        self.create = Method[CreateSessionRequest, CreateSessionResponse](
            "CreateSession", changes, lambda request: allowed(request.session_id)
        )
        self.update = Method[UpdateSessionRequest, UpdateSessionResponse]("UpdateSession", changes, refill)
        self.terminate = Method[SessionTerminateRequest, SessionTerminateResponse](
            "TerminateSession",
            changes,
            lambda request: SessionTerminateResponse(sid=request.common_context.sid.id, session_id=request.session_id),
        )

    async def CreateSession(self, request: CreateSessionRequest, context: Any) -> CreateSessionResponse:
        """Answer CCR-I."""
        return await self.create(request, context)

    async def UpdateSession(self, request: UpdateSessionRequest, context: Any) -> UpdateSessionResponse:
        """Answer CCR-U."""
        return await self.update(request, context)

    async def TerminateSession(self, request: SessionTerminateRequest, context: Any) -> SessionTerminateResponse:
        """Answer CCR-T."""
        return await self.terminate(request, context)


class Pipelined(Peer, pipelined_pb2_grpc.PipelinedServicer):
    """The data plane: installs and removes whatever it is told to."""

    def __init__(self, changes: Changes) -> None:
        super().__init__(pipelined_pb2_grpc.add_PipelinedServicer_to_server)
        self.set_up_default = Method[pipelined_pb2.SetupDefaultRequest, pipelined_pb2.SetupFlowsResult](
            "SetupDefaultControllers", changes, lambda _: pipelined_pb2.SetupFlowsResult()
        )
        self.set_up_policies = Method[pipelined_pb2.SetupPolicyRequest, pipelined_pb2.SetupFlowsResult](
            "SetupPolicyFlows", changes, lambda _: pipelined_pb2.SetupFlowsResult()
        )
        self.activate = Method[pipelined_pb2.ActivateFlowsRequest, pipelined_pb2.ActivateFlowsResult](
            "ActivateFlows", changes, lambda _: pipelined_pb2.ActivateFlowsResult()
        )
        self.deactivate = Method[pipelined_pb2.DeactivateFlowsRequest, pipelined_pb2.DeactivateFlowsResult](
            "DeactivateFlows", changes, lambda _: pipelined_pb2.DeactivateFlowsResult()
        )

    async def SetupDefaultControllers(
        self, request: pipelined_pb2.SetupDefaultRequest, context: Any
    ) -> pipelined_pb2.SetupFlowsResult:
        """Answer the first of the calls that set pipelined up."""
        return await self.set_up_default(request, context)

    async def SetupPolicyFlows(
        self, request: pipelined_pb2.SetupPolicyRequest, context: Any
    ) -> pipelined_pb2.SetupFlowsResult:
        """Answer the second of the calls that set pipelined up."""
        return await self.set_up_policies(request, context)

    async def ActivateFlows(
        self, request: pipelined_pb2.ActivateFlowsRequest, context: Any
    ) -> pipelined_pb2.ActivateFlowsResult:
        """Install flows."""
        return await self.activate(request, context)

    async def DeactivateFlows(
        self, request: pipelined_pb2.DeactivateFlowsRequest, context: Any
    ) -> pipelined_pb2.DeactivateFlowsResult:
        """Remove flows."""
        return await self.deactivate(request, context)

    async def SetupUEMacFlows(self, request: Any, context: Any) -> pipelined_pb2.SetupFlowsResult:
        """Carrier wifi."""
        return await _not_for_lte(context)

    async def SetupQuotaFlows(self, request: Any, context: Any) -> pipelined_pb2.SetupFlowsResult:
        """Carrier wifi."""
        return await _not_for_lte(context)

    async def GetPolicyUsage(self, request: Any, context: Any) -> RuleRecordTable:
        """Usage by polling."""
        return await _not_for_lte(context)

    async def GetStats(self, request: Any, context: Any) -> RuleRecordTable:
        """Usage by polling."""
        return await _not_for_lte(context)

    async def UpdateSubscriberQuotaState(self, request: Any, context: Any) -> pipelined_pb2.FlowResponse:
        """Carrier wifi."""
        return await _not_for_lte(context)

    async def AddUEMacFlow(self, request: Any, context: Any) -> pipelined_pb2.FlowResponse:
        """Carrier wifi."""
        return await _not_for_lte(context)

    async def DeleteUEMacFlow(self, request: Any, context: Any) -> pipelined_pb2.FlowResponse:
        """Carrier wifi."""
        return await _not_for_lte(context)

    async def UpdateIPFIXFlow(self, request: Any, context: Any) -> pipelined_pb2.FlowResponse:
        """Flow export."""
        return await _not_for_lte(context)


class Spgw(Peer, spgw_pb2_grpc.SpgwServiceServicer):
    """The MME's bearers."""

    def __init__(self, changes: Changes) -> None:
        super().__init__(spgw_pb2_grpc.add_SpgwServiceServicer_to_server)
        self.create_bearer = Method[spgw_pb2.CreateBearerRequest, spgw_pb2.CreateBearerResult](
            "CreateBearer", changes, lambda _: spgw_pb2.CreateBearerResult()
        )
        self.delete_bearer = Method[spgw_pb2.DeleteBearerRequest, spgw_pb2.DeleteBearerResult](
            "DeleteBearer", changes, lambda _: spgw_pb2.DeleteBearerResult()
        )

    async def CreateBearer(self, request: spgw_pb2.CreateBearerRequest, context: Any) -> spgw_pb2.CreateBearerResult:
        """Begin to make a bearer."""
        return await self.create_bearer(request, context)

    async def DeleteBearer(self, request: spgw_pb2.DeleteBearerRequest, context: Any) -> spgw_pb2.DeleteBearerResult:
        """Begin to take a bearer down."""
        return await self.delete_bearer(request, context)


class Directoryd(Peer, directory_pb2_grpc.GatewayDirectoryServiceServicer):
    """The records of subscribers; it keeps them while it is down."""

    def __init__(self, changes: Changes) -> None:
        super().__init__(directory_pb2_grpc.add_GatewayDirectoryServiceServicer_to_server)
        self.records: dict[str, dict[str, str]] = {}
        self.write = Method[directory_pb2.UpdateRecordRequest, Void]("UpdateRecord", changes, self._write)
        self.delete = Method[directory_pb2.DeleteRecordRequest, Void]("DeleteRecord", changes, self._delete)
        self.read_all = Method[Void, directory_pb2.AllDirectoryRecords](
            "GetAllDirectoryRecords", changes, self._read_all
        )

    async def UpdateRecord(self, request: directory_pb2.UpdateRecordRequest, context: Any) -> Void:
        """Write a record."""
        return await self.write(request, context)

    async def DeleteRecord(self, request: directory_pb2.DeleteRecordRequest, context: Any) -> Void:
        """Delete a record."""
        return await self.delete(request, context)

    async def GetAllDirectoryRecords(self, request: Void, context: Any) -> directory_pb2.AllDirectoryRecords:
        """Return every record."""
        return await self.read_all(request, context)

    async def GetDirectoryField(self, request: Any, context: Any) -> directory_pb2.DirectoryField:
        """Return a field of a record."""
        return await _not_for_lte(context)

    def _write(self, request: directory_pb2.UpdateRecordRequest) -> Void:
        self.records[request.id] = dict(request.fields)
        return Void()

    def _delete(self, request: directory_pb2.DeleteRecordRequest) -> Void:
        self.records.pop(request.id, None)
        return Void()

    def _read_all(self, _: Void) -> directory_pb2.AllDirectoryRecords:
        records = [directory_pb2.DirectoryRecord(id=name, fields=fields) for name, fields in self.records.items()]
        return directory_pb2.AllDirectoryRecords(records=records)


class Eventd(Peer, event_pb2_grpc.EventServiceServicer):
    """The collector of events."""

    def __init__(self, changes: Changes) -> None:
        super().__init__(event_pb2_grpc.add_EventServiceServicer_to_server)
        self.log = Method[event_pb2.Event, Void]("LogEvent", changes, lambda _: Void())

    async def LogEvent(self, request: event_pb2.Event, context: Any) -> Void:
        """Take an event."""
        return await self.log(request, context)

    async def heard(self, event_type: str, subscriber: str) -> event_pb2.Event:
        """Return the first event of this type about a subscriber, as soon as it has come."""
        events = await self.log.asked(wanted=lambda event: (event.event_type, event.tag) == (event_type, subscriber))
        return events[0]


def refill(request: UpdateSessionRequest) -> UpdateSessionResponse:
    """Return a new grant for everything that was reported."""
    return UpdateSessionResponse(
        responses=[quota(update.session_id, rating_group=update.usage.charging_key) for update in request.updates]
    )


async def _not_for_lte(context: Any) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "nothing that an LTE gateway calls")
    raise AssertionError("abort raises")
