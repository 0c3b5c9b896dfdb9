"""The services of our own API, ready to be added to a server."""

from collections.abc import Callable, Iterator

import grpc.aio

from sessiond.app.assembly import Application
from sessiond.app.situation import Circumstances
from sessiond.northbound.native.admin import AdminService
from sessiond.northbound.native.lists import Lists
from sessiond.northbound.native.service import SessionService
from sessiond.northbound.native.watch import Watching
from sessiond.northbound.operations import Operations
from sessiond.pb.sessiond.v1 import admin_service_pb2_grpc, session_service_pb2_grpc

Service = tuple[str, Callable[[grpc.aio.Server], None]]
"""The full name of a service, and what adds it to a server."""


def services(application: Application, circumstances: Circumstances, operations: Operations) -> Iterator[Service]:
    """Yield the services of our own API."""
    admin = AdminService(application.manager, application.delivery, application.draining, circumstances, operations)
    yield (
        "sessiond.v1.AdminService",
        lambda server: admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, server),
    )
    watching = Watching(application.feed, circumstances.clock.now_ms)
    lists = Lists(application.listing)
    sessions = SessionService(application.sessions, lists, watching, application.executions, circumstances.clock)
    yield (
        "sessiond.v1.SessionService",
        lambda server: session_service_pb2_grpc.add_SessionServiceServicer_to_server(sessions, server),
    )
