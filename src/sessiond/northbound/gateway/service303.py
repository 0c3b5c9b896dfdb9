"""`magma.orc8r.Service303`: what every service of a gateway tells the one who runs it."""

from typing import Any

import grpc

from sessiond.app.gateway import GatewayManager
from sessiond.app.situation import Circumstances
from sessiond.core.errors import InvalidArgument
from sessiond.northbound.gateway.exposition import metrics_container
from sessiond.northbound.gateway.messages import operational_state
from sessiond.northbound.operations import Operations
from sessiond.pb.magma.orc8r import common_pb2, metrics_pb2, service303_pb2, service303_pb2_grpc

NAME = "sessiond"
VERSION = "1.0"
"""What the reference gateway calls its version; orchestrators compare it."""


class Service303(service303_pb2_grpc.Service303Servicer):
    """Answers the gateway's operator."""

    def __init__(self, manager: GatewayManager, circumstances: Circumstances, operations: Operations) -> None:
        self._manager = manager
        self._circumstances = circumstances
        self._operations = operations

    async def GetServiceInfo(self, request: common_pb2.Void, context: Any) -> service303_pb2.ServiceInfo:
        """Say who we are."""
        return service303_pb2.ServiceInfo(
            name=NAME,
            version=VERSION,
            state=service303_pb2.ServiceInfo.ALIVE,
            health=service303_pb2.ServiceInfo.APP_UNKNOWN,
            start_time_secs=self._operations.started_at_s,
        )

    async def StopService(self, request: common_pb2.Void, context: Any) -> common_pb2.Void:
        """Shut down."""
        self._operations.stop()
        return common_pb2.Void()

    async def GetMetrics(self, request: common_pb2.Void, context: Any) -> metrics_pb2.MetricsContainer:
        """Return all metrics."""
        return metrics_container(self._operations.registry)

    async def SetLogLevel(self, request: service303_pb2.LogLevelMessage, context: Any) -> common_pb2.Void:
        """Log from another level on."""
        if request.level not in common_pb2.LogLevel.values():
            names = ", ".join(common_pb2.LogLevel.keys())
            raise InvalidArgument("LOG_LEVEL_UNKNOWN", f"{request.level} is none of {names}", field="level")
        self._operations.set_log_level(common_pb2.LogLevel.Name(request.level))
        return common_pb2.Void()

    async def SetLogVerbosity(self, request: service303_pb2.LogVerbosity, context: Any) -> common_pb2.Void:
        """There are levels, no verbosities."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "use SetLogLevel: sessiond has levels, no verbosities")
        return common_pb2.Void()

    async def ReloadServiceConfig(self, request: common_pb2.Void, context: Any) -> service303_pb2.ReloadConfigResponse:
        """Read configuration and rules again."""
        try:
            await self._operations.reload()
        except InvalidArgument:
            return service303_pb2.ReloadConfigResponse(result=service303_pb2.ReloadConfigResponse.RELOAD_FAILURE)
        return service303_pb2.ReloadConfigResponse(result=service303_pb2.ReloadConfigResponse.RELOAD_SUCCESS)

    async def GetOperationalStates(
        self, request: common_pb2.Void, context: Any
    ) -> service303_pb2.GetOperationalStatesResponse:
        """Return all sessions as the orchestrator shows them."""
        sessions = await self._manager.sessions()
        value = await operational_state(sessions, self._circumstances.catalogue, self._circumstances.clock.now_ms())
        state = service303_pb2.State(
            type="gateway_subscriber_state", deviceID=self._operations.device_id, value=value, version=1
        )
        return service303_pb2.GetOperationalStatesResponse(states=[state])
