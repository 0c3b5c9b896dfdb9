"""The services of the gateway surface, ready to be added to a server."""

from collections.abc import Callable, Iterator

import grpc.aio

from sessiond.app.gateway import GatewayManager
from sessiond.app.situation import Circumstances
from sessiond.app.usage import Usage
from sessiond.northbound.gateway.responder import AbortSessionResponder, SessionProxyResponder
from sessiond.northbound.gateway.service303 import Service303
from sessiond.northbound.gateway.session_manager import LocalSessionManager
from sessiond.northbound.operations import Operations
from sessiond.pb.magma.lte import (
    abort_session_pb2_grpc,
    session_manager_pb2_grpc,
    session_proxy_responder_pb2_grpc,
)
from sessiond.pb.magma.orc8r import service303_pb2_grpc

Service = tuple[str, Callable[[grpc.aio.Server], None]]
"""The full name of a service, and what adds it to a server."""


def services(
    manager: GatewayManager, usage: Usage, circumstances: Circumstances, operations: Operations, *, carrier_wifi: bool
) -> Iterator[Service]:
    """Yield the services of a gateway; with carrier wifi the AAA server answers abort-session requests itself."""
    local = LocalSessionManager(manager, usage)
    responder = SessionProxyResponder(manager)
    service303 = Service303(manager, circumstances, operations)
    yield (
        "magma.lte.LocalSessionManager",
        lambda server: session_manager_pb2_grpc.add_LocalSessionManagerServicer_to_server(local, server),
    )
    yield (
        "magma.lte.SessionProxyResponder",
        lambda server: session_proxy_responder_pb2_grpc.add_SessionProxyResponderServicer_to_server(responder, server),
    )
    yield (
        "magma.orc8r.Service303",
        lambda server: service303_pb2_grpc.add_Service303Servicer_to_server(service303, server),
    )
    if not carrier_wifi:
        abort = AbortSessionResponder(manager)
        yield (
            "magma.lte.AbortSessionResponder",
            lambda server: abort_session_pb2_grpc.add_AbortSessionResponderServicer_to_server(abort, server),
        )
