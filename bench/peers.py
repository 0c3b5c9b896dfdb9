#!/usr/bin/env python3
"""Everybody a gateway talks to, in one process that only answers: policy side, pipelined, MME, directoryd, eventd.

    bench/peers.py [--grant OCTETS]

`/bench.Peers/Count` returns how many terminations the policy side has taken, as text.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import grpc
import uvloop
from grpc import aio

from sessiond.pb.magma.lte import pipelined_pb2, spgw_pb2
from sessiond.pb.magma.lte.credit_pb2 import ChargingCredit, CreditUnit, GrantedUnits
from sessiond.pb.magma.lte.rule_install_pb2 import StaticRuleInstall
from sessiond.pb.magma.lte.session_proxy_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    CreditUpdateResponse,
    SessionTerminateRequest,
    SessionTerminateResponse,
    UpdateSessionRequest,
    UpdateSessionResponse,
)
from sessiond.pb.magma.orc8r.common_pb2 import Void

RATING_GROUPS = (1, 2)
GRANT = 10**12
Handler = tuple[type[Any], Callable[[Any], Any]]


class Policy:
    """PCRF and OCS: two rules, and a grant for each of two rating groups, as often as it is asked for."""

    def __init__(self, grant: int) -> None:
        self.terminated = 0
        self._credit = ChargingCredit(
            granted_units=GrantedUnits(total=CreditUnit(is_valid=True, volume=grant)), type=ChargingCredit.BYTES
        )

    def create(self, request: CreateSessionRequest) -> CreateSessionResponse:
        """Allow a session."""
        return CreateSessionResponse(
            session_id=request.session_id,
            online=True,
            static_rules=[StaticRuleInstall(rule_id=f"rule{group}") for group in RATING_GROUPS],
            credits=[self._granted(request.session_id, group) for group in RATING_GROUPS],
        )

    def update(self, request: UpdateSessionRequest) -> UpdateSessionResponse:
        """Grant anew whatever is reported."""
        answers = [self._granted(report.session_id, report.usage.charging_key) for report in request.updates]
        return UpdateSessionResponse(responses=answers)

    def terminate(self, request: SessionTerminateRequest) -> SessionTerminateResponse:
        """Close a session."""
        self.terminated += 1
        return SessionTerminateResponse(sid=request.common_context.sid.id, session_id=request.session_id)

    def _granted(self, session_id: str, group: int) -> CreditUpdateResponse:
        return CreditUpdateResponse(
            success=True,
            sid=session_id.partition("-")[0],
            session_id=session_id,
            charging_key=group,
            credit=self._credit,
            result_code=2001,
        )


def handlers(policy: Policy) -> dict[str, Handler]:
    """Return what is answered, by the last part of a method's name."""
    setup = pipelined_pb2.SetupFlowsResult()
    return {
        "CreateSession": (CreateSessionRequest, policy.create),
        "UpdateSession": (UpdateSessionRequest, policy.update),
        "TerminateSession": (SessionTerminateRequest, policy.terminate),
        "SetupDefaultControllers": (Void, lambda _: setup),
        "SetupPolicyFlows": (Void, lambda _: setup),
        "ActivateFlows": (Void, lambda _: pipelined_pb2.ActivateFlowsResult()),
        "DeactivateFlows": (Void, lambda _: pipelined_pb2.DeactivateFlowsResult()),
        "UpdateIPFIXFlow": (Void, lambda _: pipelined_pb2.FlowResponse()),
        "CreateBearer": (Void, lambda _: spgw_pb2.CreateBearerResult()),
        "DeleteBearer": (Void, lambda _: spgw_pb2.DeleteBearerResult()),
        "UpdateRecord": (Void, lambda _: Void()),
        "DeleteRecord": (Void, lambda _: Void()),
        "LogEvent": (Void, lambda _: Void()),
    }


class Everybody(grpc.GenericRpcHandler):
    """Answers the methods of all services."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._handlers = handlers(policy)

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method; None if nobody has it."""
        name = handler_call_details.method.rpartition("/")[2]
        if name == "Count":
            return grpc.unary_unary_rpc_method_handler(self._count)
        if name not in self._handlers:
            return None
        message, answer = self._handlers[name]

        async def behave(request: Any, _: Any) -> Any:
            return answer(request)

        return grpc.unary_unary_rpc_method_handler(
            behave,
            request_deserializer=message.FromString if message is not Void else None,
            response_serializer=lambda response: response.SerializeToString(),
        )

    async def _count(self, _: bytes, __: Any) -> bytes:
        return b"%d" % self._policy.terminated


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grant", type=int, default=GRANT, help="octets of each grant")
    policy = Policy(parser.parse_args().grant)
    server = aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([Everybody(policy)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"event": "ready", "listen": f"127.0.0.1:{port}"}), file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
