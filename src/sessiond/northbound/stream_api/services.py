"""The service of the stream surface, ready to be added to a server."""

from collections.abc import Callable
from typing import Final

import grpc.aio

from sessiond.app.streams import StreamManager
from sessiond.northbound.stream_api.service import SessionManagement, SwitchedOff
from sessiond.pb.ma.streaming.api.v1 import api_pb2_grpc

NAME: Final = "ma.streaming.api.v1.SessionManagementService"


def service(manager: StreamManager, *, enabled: bool) -> tuple[str, Callable[[grpc.aio.Server], None]]:
    """Return the full name of the service, and what adds it to a server."""
    answering = SessionManagement(manager) if enabled else SwitchedOff()
    return NAME, lambda server: api_pb2_grpc.add_SessionManagementServiceServicer_to_server(answering, server)
